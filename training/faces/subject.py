"""Who is drawn: a shape, a skin, hair, eyes, glasses. And where: pose, lens, light, camera, background."""

from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from training.render.geometry import ATTRIBUTES, features, load_basis
from training.render.sensor import Sensor, draw_sensor

Floats = NDArray[np.float32]
Triple = tuple[float, float, float]

# Monk Skin Tone scale (Google, 2022; CC BY 4.0), tones 1 to 10 in sRGB.
MONK = np.array(
    [[246, 237, 228], [243, 231, 219], [247, 234, 208], [234, 218, 186], [215, 189, 150]]
    + [[160, 126, 86], [130, 92, 67], [96, 65, 52], [58, 49, 42], [41, 36, 32]]
)
HAIR = {  # linear RGB
    "black": (0.012, 0.010, 0.009),
    "dark brown": (0.035, 0.020, 0.012),
    "brown": (0.085, 0.045, 0.022),
    "blond": (0.36, 0.23, 0.10),
    "red": (0.22, 0.065, 0.018),
    "grey": (0.25, 0.24, 0.23),
    "white": (0.55, 0.54, 0.52),
}
IRIS = ((0.05, 0.022, 0.010), (0.11, 0.055, 0.02), (0.10, 0.09, 0.035), (0.07, 0.12, 0.06), (0.06, 0.13, 0.25), (0.12, 0.16, 0.20))


@dataclass(frozen=True, kw_only=True)
class Person:
    """One identity. Everything that stays when the state, the light and the camera change."""

    coefficients: Floats  # (P,)
    sex: str  # female | male
    age: float  # years
    monk: int  # 1 very light to 10 very dark
    skin: Triple  # linear RGB
    redness: float
    lips: Triple  # factors on the skin's colour
    freckles: float  # density in [0, 1]
    blotches: float  # strength of mottling
    gloss: float
    seed: int  # of the painted detail
    hair_colour: Triple
    hair_style: str  # bald | cropped | short | long
    hair_thickness: float  # metres
    hairline: float  # metres the hairline is moved up
    fringe: float  # metres of hair over the forehead
    brow_thickness: float
    brow_density: float
    brow_colour: Triple
    beard: str  # none | stubble | moustache | full
    makeup: float  # lash line and lids, in [0, 1]
    iris: Triple
    iris_radius: float  # radians of the eyeball
    glasses: str  # none | round | square
    frame_colour: Triple

    @property
    def groups(self) -> dict[str, str]:
        """Attributes that results are broken down by."""
        decade = min(int(self.age // 20) * 20, 60)
        age = f"{decade}-{decade + 19}" if decade < 60 else "60+"
        return {
            "skin_tone": str(self.monk),
            "sex": self.sex,
            "age": age,
            "glasses": "no" if self.glasses == "none" else "yes",
            "beard": self.beard,
        }


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One sitting: pose, lens, light, camera. Twins share it."""

    yaw: float  # radians, positive turns to the subject's left
    pitch: float  # radians, positive looks up
    roll: float
    distance: float  # metres from the lens
    gaze: tuple[float, float]  # radians left and up, against the head
    key: Triple  # direction to the light, camera frame (x right in the picture, y away from the lens, z up)
    key_colour: Triple
    sky: Triple  # ambient light from above
    ground: Triple  # and from below
    fill: Triple  # from the camera
    cloth: Triple
    sensor: Sensor
    background_seed: int
    placement: Triple = field(default=(0.0, 0.0, 0.5))  # LOOSE framing: offset x, y in sides, and the head's share of the side


def draw_person(rng: Generator) -> Person:
    """A person at random: shape by age, sex, build and descent; skin by descent; the rest as people wear it."""
    basis = load_basis()
    race = rng.dirichlet([0.45, 0.45, 0.45])
    male = bool(rng.random() < 0.5)
    years = float(rng.uniform(16, 80))
    sex = float(np.clip(rng.normal(0.88 if male else 0.12, 0.12), 0, 1))
    drawn = {"gender": sex, "age": _age_parameter(years), "weight": rng.beta(3, 3), "muscle": rng.random()}
    drawn |= dict(zip(("african", "asian", "caucasian"), race, strict=True))
    expected = features(np.array([[drawn[name] for name in ATTRIBUTES]])) @ basis.attribute_effect
    coefficients = (expected[0] + 0.9 * basis.residual @ rng.standard_normal(len(basis.residual))).astype(np.float32)
    tone = float(np.clip(race @ [8.0, 4.2, 2.6] + rng.normal(0, 1.1), 1, 10))
    colour = _hair_colour(rng, tone, years)
    return Person(
        coefficients=coefficients,
        sex="male" if male else "female",
        age=years,
        monk=round(tone),
        skin=_skin(rng, tone),
        redness=float(rng.uniform(0.2, 1.0)),
        lips=_triple(np.clip(rng.uniform([1.02, 0.55, 0.55], [1.35, 0.8, 0.85]) * np.exp(rng.normal(0, 0.07, 3)), 0.2, 1.6)),
        freckles=float(rng.random() ** 2) if tone < 5 and rng.random() < 0.3 else 0.0,
        blotches=float(rng.uniform(0.03, 0.14)),
        gloss=float(rng.uniform(0.02, 0.22)),
        seed=int(rng.integers(2**31)),
        hair_colour=colour,
        hair_style=_hair_style(rng, male, years),
        hair_thickness=float(rng.uniform(0.006, 0.028)),
        hairline=float(np.clip(rng.normal(0.0, 0.006) + (0.015 * rng.random() if male and years > 40 else 0), -0.01, 0.025)),
        fringe=float(rng.uniform(0.01, 0.04)) if rng.random() < (0.15 if male else 0.3) else 0.0,
        brow_thickness=float(np.exp(rng.normal(0.1 if male else -0.12, 0.25))),
        brow_density=float(rng.uniform(0.45, 1.0)),
        brow_colour=_triple(np.array(colour) * rng.uniform(0.5, 0.9)) if rng.random() < 0.9 else HAIR["dark brown"],
        beard=str(rng.choice(["none", "stubble", "moustache", "full"], p=[0.5, 0.22, 0.1, 0.18])) if male else "none",
        makeup=0.0 if male else float(rng.beta(0.8, 1.5)),
        iris=IRIS[int(rng.integers(0, 2 if tone > 5 else len(IRIS)))],
        iris_radius=float(rng.uniform(0.40, 0.46)),
        glasses=str(rng.choice(["none", "round", "square"], p=[0.84, 0.08, 0.08])),
        frame_colour=_triple(rng.uniform(0.01, 0.3) * np.exp(rng.normal(0, 0.3, 3))),
    )


def draw_scene(rng: Generator) -> Scene:
    """A sitting at random: mostly frontal, lit from anywhere in front."""
    azimuth, height = rng.normal(0, 0.75), rng.uniform(-0.1, 1.1)
    warm = rng.normal(0, 0.12)
    strength = rng.uniform(0.5, 1.6)
    ambient = rng.uniform(0.2, 0.75)
    return Scene(
        yaw=float(np.clip(rng.normal(0, 0.22), -0.7, 0.7)),
        pitch=float(np.clip(rng.normal(0, 0.12), -0.4, 0.4)),
        roll=float(np.clip(rng.normal(0, 0.09), -0.3, 0.3)),
        distance=float(np.exp(rng.uniform(np.log(0.45), np.log(2.5)))),
        gaze=(float(rng.normal(0, 0.16)), float(rng.normal(0, 0.1))),
        key=_triple(np.array([np.sin(azimuth) * np.cos(height), -np.cos(azimuth) * np.cos(height), np.sin(height)])),
        key_colour=_triple(strength * np.array([1 + warm, 1, 1 - warm])),
        sky=_triple(ambient * np.exp(rng.normal(0, 0.1, 3))),
        ground=_triple(ambient * rng.uniform(0.3, 0.8) * np.exp(rng.normal(0, 0.1, 3))),
        fill=_triple(rng.uniform(0.0, 0.3) * np.exp(rng.normal(0, 0.1, 3))),
        cloth=_triple((rng.uniform(0.01, 0.6) * np.exp(rng.normal(0, 0.4, 3))).clip(0, 0.9)),
        sensor=draw_sensor(rng),
        background_seed=int(rng.integers(2**31)),
        placement=(float(rng.normal(0, 0.1)), float(rng.normal(0, 0.1)), float(np.exp(rng.uniform(np.log(0.25), np.log(0.95))))),
    )


def to_linear(srgb: NDArray[np.floating]) -> NDArray[np.floating]:
    """sRGB in [0, 255] to linear light in [0, 1]."""
    return np.asarray((np.asarray(srgb) / 255.0) ** 2.2)


def _triple(values: NDArray[np.floating]) -> Triple:
    return (float(values[0]), float(values[1]), float(values[2]))


def _skin(rng: Generator, tone: float) -> Triple:
    ramp = to_linear(MONK)
    colour = np.array([np.interp(tone, np.arange(1, 11), ramp[:, c]) for c in range(3)])
    # The scale's swatches are paler than lit skin: a little blood, and never whiter than .72.
    return _triple(colour * [0.80, 0.62, 0.62] * np.exp(rng.normal(0, 0.05, 3)) + [0.015, 0.006, 0.004])


def _age_parameter(years: float) -> float:
    """The head model's age: 1/3 is a child of about ten, 2/3 a young adult of 25, 1 is 90."""
    return float(np.interp(years, [10, 25, 90], [0.36, 0.667, 1.0]))


def _hair_colour(rng: Generator, tone: float, years: float) -> Triple:
    if rng.random() < np.interp(years, [35, 75], [0.0, 0.85]):
        name = "white" if rng.random() < 0.35 else "grey"
    elif rng.random() < np.interp(tone, [2, 5], [0.95, 0.0]):
        name = str(rng.choice(["black", "dark brown", "brown", "blond", "red"], p=[0.12, 0.28, 0.27, 0.25, 0.08]))
    else:
        name = str(rng.choice(["black", "dark brown", "brown"], p=[0.7, 0.25, 0.05]))
    return _triple(np.array(HAIR[name]) * np.exp(rng.normal(0, 0.2)) * np.exp(rng.normal(0, 0.06, 3)))


def _hair_style(rng: Generator, male: bool, years: float) -> str:
    styles = ["bald", "cropped", "short", "long"]
    if not male:
        return str(rng.choice(styles, p=[0.01, 0.09, 0.3, 0.6]))
    bald = 0.28 if years > 50 else 0.08
    return str(rng.choice(styles, p=[bald, 0.37, 0.55 - bald, 0.08]))
