"""Who is in the picture: shape, movement, age, sex, skin, eyes, brows, hair, beard and glasses, at
random.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from affect.catalogue import LABEL_SETS
from training.renderer.geometry import features, load_basis
from training.renderer.landmarks import lip_gap_m

Colour = tuple[float, float, float]  # linear RGB in [0, 1]

# sRGB of hair and irises; the weights are shares among people.
HAIR_COLOURS = {
    "black": (24, 20, 18),
    "dark brown": (48, 34, 26),
    "brown": (84, 58, 40),
    "light brown": (128, 94, 64),
    "blond": (186, 150, 104),
    "red": (138, 66, 34),
    "grey": (140, 136, 132),
    "white": (208, 204, 198),
}
IRIS_COLOURS = {
    "dark": (48, 28, 18),
    "brown": (88, 54, 30),
    "hazel": (112, 88, 48),
    "green": (92, 108, 72),
    "blue": (88, 118, 150),
    "grey": (120, 130, 138),
}
HAIR_KINDS = ("bald", "buzz", "short", "medium", "curly", "afro", "long", "tied")
HAIR_THICKNESS_M = {
    "bald": (0, 0),
    "buzz": (0.001, 0.003),
    "short": (0.005, 0.016),
    "medium": (0.014, 0.028),
    "curly": (0.018, 0.04),
    "afro": (0.03, 0.07),
    "long": (0.008, 0.022),
    "tied": (0.003, 0.008),
}  # at least, at most


@dataclass(frozen=True)
class Hair:
    """Hair on the head. Lengths in metres."""

    kind: str
    colour: Colour
    thickness: float
    length: float  # of what hangs down below the ears' top; 0 for none
    hairline_mm: float  # height of the middle of the hairline above the eyes
    recession_mm: float  # how much further back the temples are
    fringe_mm: float | None  # height of the lower edge of a fringe above the eyes
    waves: float


@dataclass(frozen=True)
class Beard:
    """Hair on the face: how dense and long each part is, in [0, 1]; stubble is a shadow."""

    stubble: float
    moustache: float
    chin: float
    cheeks: float
    colour: Colour

    @property
    def kind(self) -> str:
        """none, stubble, moustache or full: what a person would call it."""
        if self.chin or self.cheeks:
            return "full"
        return "moustache" if self.moustache else "stubble" if self.stubble else "none"


@dataclass(frozen=True)
class Brows:
    """Eyebrows; thickness in mm."""

    thickness_mm: float
    arch_mm: float
    density: float
    colour: Colour
    gap_mm: float


@dataclass(frozen=True)
class Glasses:
    """Frames; sizes in metres."""

    width: float
    height: float
    rim: float
    squareness: float  # exponent of the rim's superellipse
    colour: Colour
    tint: float


@dataclass(frozen=True)
class Cover:
    """What hides the hair. Lengths in mm."""

    kind: str  # "hat" | "headscarf"
    colour: Colour
    edge_mm: float  # height of its edge above the eyes
    thickness_mm: float


@dataclass(frozen=True)
class Motion:
    """How a face moves, folds and rests: what makes the same AU look different in two people."""

    amplitudes: Mapping[str, float]  # by FACS code: how far an AU moves the skin, about 1
    creases: Mapping[str, float]  # by FACS code: depth of the furrows at full intensity, 0 for none
    lasting: Mapping[str, float]  # by FACS code: depth of furrows that stay at rest
    rest: Mapping[str, float]  # facial actions at rest, about 0: brows, lids, lips, corners, chin
    # how far the upper teeth hang below their place, so how much a mouth shows
    tooth_drop_mm: float


@dataclass(frozen=True)
class Person:
    """One identity. `seed` draws what has no name: pores, freckles, moles, strands."""

    coefficients: NDArray[np.float32]
    age: int
    sex: str  # "female" | "male"
    ancestry: tuple[float, float, float]  # shares of African, Asian and European shape
    monk: int  # Monk skin tone, 1 (lightest) to 10
    melanin: float  # the same, continuous, in [0.5, 10.5]
    redness: float
    gloss: float
    freckles: float
    lipstick: Colour | None
    eye_shadow: float
    lashes: float
    iris: Colour
    brows: Brows
    hair: Hair
    beard: Beard
    glasses: Glasses | None
    cover: Cover | None
    tooth_shade: float
    motion: Motion
    seed: int

    @property
    def groups(self) -> dict[str, str]:
        """Attributes that results are broken down by."""
        decade = min(self.age // 20 * 20, 60)
        age = f"{decade}-{decade + 19}" if decade < 60 else "60+"
        glasses = "no" if self.glasses is None else "yes"
        return {
            "skin_tone": str(self.monk),
            "sex": self.sex,
            "age": age,
            "glasses": glasses,
            "beard": self.beard.kind,
            "hair": self.cover.kind if self.cover else self.hair.kind,
        }


def linear(colour: tuple[float, ...]) -> Colour:
    """sRGB in [0, 255] -> linear RGB in [0, 1]."""
    r, g, b = (float((value / 255) ** 2.2) for value in colour)
    return r, g, b


def draw_person(rng: Generator) -> Person:
    """Anyone between 14 and 90."""
    sex = "female" if rng.random() < 0.5 else "male"
    age = int(np.clip(rng.gamma(4.5, 8.5), 14, 90))
    ancestry = rng.dirichlet([0.45, 0.45, 0.45])
    melanin = float(np.clip(ancestry @ [8.4, 4.4, 2.8] + rng.normal(0, 1.2), 0.6, 10.4))
    hair_colour = _hair_colour(rng, melanin, age)
    coefficients = _shape(rng, sex, age, ancestry)
    return Person(
        coefficients=coefficients,
        age=age,
        sex=sex,
        ancestry=(float(ancestry[0]), float(ancestry[1]), float(ancestry[2])),
        monk=int(np.clip(round(melanin), 1, 10)),
        melanin=melanin,
        redness=float(rng.uniform(0.1, 1.1)),
        gloss=float(rng.uniform(0.3, 1.5)),
        freckles=float(rng.uniform(0.3, 1.0)) if rng.random() < 0.12 and melanin < 5 else 0.0,
        lipstick=_lipstick(rng) if sex == "female" and rng.random() < 0.35 else None,
        eye_shadow=float(rng.uniform(0.2, 0.8)) if sex == "female" and rng.random() < 0.35 else 0.0,
        lashes=float(rng.uniform(0.6, 1.0) if sex == "female" else rng.uniform(0.3, 0.75)),
        iris=_iris(rng, melanin),
        brows=_brows(rng, sex, hair_colour),
        hair=_hair(rng, sex, age, hair_colour, float(ancestry[0])),
        beard=_beard(rng, sex, age, hair_colour),
        glasses=_glasses(rng) if rng.random() < 0.16 + 0.12 * (age > 50) else None,
        cover=_cover(rng, sex) if rng.random() < 0.07 else None,
        tooth_shade=float(rng.uniform(0.55, 0.9) - 0.002 * age),
        motion=_motion(rng, age, coefficients),
        seed=int(rng.integers(0, 2**31)),
    )


def _shape(
    rng: Generator, sex: str, age: int, ancestry: NDArray[np.floating]
) -> NDArray[np.float32]:
    basis = load_basis()
    maturity = np.interp(age, [14, 25, 90], [0.5, 0.67, 1.0])
    # 0 is the male end
    gender = np.clip((0.9 if sex == "female" else 0.1) + rng.normal(0, 0.12), 0, 1)
    build = np.clip(rng.normal([0.5, 0.5], [0.22, 0.15]), 0, 1)
    row = np.array([[gender, maturity, *build, *ancestry]])
    expected = (features(row) @ basis.attribute_effect)[0]
    return np.asarray(
        expected + 0.95 * basis.residual @ rng.standard_normal(len(expected)), np.float32
    )


AMPLITUDE_SD = 0.2  # of the logarithm of an AU's reach
SMOOTH_SHARE, LASTING_SHARE = 0.30, 0.15  # of people: no furrows by AUs; furrows that never go
# Resting shape by facial action: mean and sd. Left and right share it, and differ by a quarter of
# the sd.
REST: Mapping[str, tuple[float, float]] = {
    "browDown": (0.0, 0.30),
    "browFurrow": (0.0, 0.16),
    "browInnerUp": (0.0, 0.22),
    "browOuterUp": (0.0, 0.28),
    "cheekBulge": (0.0, 0.25),
    "eyeWide": (0.18, 0.22),
    "eyeSquint": (0.0, 0.18),
    "mouthSmile": (0.02, 0.07),
    "mouthFrown": (0.0, 0.12),
    "mouthStretch": (0.0, 0.10),
    "mouthShrugLower": (0.05, 0.2),
    "mouthRollLower": (0.0, 0.16),
    "mouthRollUpper": (0.0, 0.16),
    "mouthPucker": (0.0, 0.12),
    "chinRaise": (0.0, 0.22),
    "chinShort": (0.0, 0.6),
    "lipsFull": (0.0, 0.6),
    "lowerLidLow": (0.0, 0.35),
}


SEALED_M = 0.0015  # the widest gap between the lips' inner edges that shows no teeth
# Below this, lips would part at rest.
LEAST = {
    "mouthShrugLower": -0.04,
    "mouthRollLower": -0.05,
    "mouthRollUpper": -0.03,
    "mouthSmile": -0.05,
}


def _motion(rng: Generator, age: int, coefficients: NDArray[np.float32]) -> Motion:
    codes = LABEL_SETS["rendered"]
    depth = 0.0 if rng.random() < SMOOTH_SHARE else rng.uniform(0.2, 1.2)
    depth *= np.interp(age, [15, 35, 65], [0.6, 1.0, 1.15])
    lasting = {}
    if rng.random() < LASTING_SHARE:
        for code in rng.choice(codes, int(rng.integers(1, 4)), replace=False):
            lasting[str(code)] = float(rng.uniform(0.3, 0.9))
    rest: dict[str, float] = {}
    basis = load_basis()
    for name, (mean, sd) in REST.items():
        value = max(float(rng.normal(mean, sd)), LEAST.get(name, -9.0))
        lean = float(rng.normal(0, sd / 4))
        rest |= (
            {name: value}
            if f"{name}Left" not in basis.action_names
            else {f"{name}Left": value + lean, f"{name}Right": value - lean}
        )
    open_m = lip_gap_m(basis.moved(basis.neutral(coefficients), rest)) - SEALED_M
    if open_m > 0:
        closes = basis.moved(basis.mean, {"mouthClose": 1.0})
        rest["mouthClose"] = open_m / (lip_gap_m(basis.mean) - lip_gap_m(closes))
    amplitudes = {code: float(np.exp(rng.normal(0, AMPLITUDE_SD))) for code in codes}
    return Motion(
        amplitudes=amplitudes | {"AU43": max(amplitudes["AU43"], 0.95)},  # anyone shuts the eyes
        creases={code: float(depth * rng.uniform(0.5, 1.3)) for code in codes},
        lasting=lasting,
        rest=rest,
        tooth_drop_mm=float(rng.normal(0, 1.2)),
    )


def _vary(rng: Generator, colour: Colour, sd: float = 0.15) -> Colour:
    r, g, b = (
        float(np.clip(value * np.exp(shared), 0.002, 0.9))
        for value, shared in zip(
            colour, rng.normal(0, sd, 3) * 0.3 + rng.normal(0, sd), strict=True
        )
    )
    return r, g, b


def _hair_colour(rng: Generator, melanin: float, age: int) -> Colour:
    if rng.random() < np.interp(age, [35, 50, 65, 80], [0.0, 0.25, 0.7, 0.95]):
        return _vary(
            rng, linear(HAIR_COLOURS["white" if rng.random() < (age - 40) / 60 else "grey"])
        )
    shares = (
        (0.08, 0.2, 0.28, 0.2, 0.18, 0.06) if melanin < 4 else (0.5, 0.32, 0.12, 0.03, 0.02, 0.01)
    )
    name = rng.choice(["black", "dark brown", "brown", "light brown", "blond", "red"], p=shares)
    return _vary(rng, linear(HAIR_COLOURS[str(name)]))


def _iris(rng: Generator, melanin: float) -> Colour:
    shares = (
        (0.1, 0.25, 0.15, 0.15, 0.25, 0.1) if melanin < 4 else (0.62, 0.3, 0.05, 0.01, 0.01, 0.01)
    )
    return _vary(rng, linear(IRIS_COLOURS[str(rng.choice(list(IRIS_COLOURS), p=shares))]))


def _lipstick(rng: Generator) -> Colour:
    return _vary(
        rng,
        linear(
            [(168, 36, 48), (190, 84, 92), (132, 30, 60), (200, 110, 100)][int(rng.integers(0, 4))]
        ),
    )


def _brows(rng: Generator, sex: str, colour: Colour) -> Brows:
    thickness = rng.uniform(3.0, 5.5) if sex == "female" else rng.uniform(4.2, 8.0)
    darker = float(rng.uniform(0.45, 1.1))
    shade = (colour[0] * darker, colour[1] * darker, colour[2] * darker)
    return Brows(
        float(thickness),
        float(rng.uniform(0.5, 4.5)),
        float(rng.uniform(0.3, 0.95)),
        shade,
        float(rng.uniform(9, 14)),
    )


def _hair_shares(sex: str, age: int, african: float) -> tuple[float, ...]:
    """How common each of HAIR_KINDS is."""
    if sex == "female":
        return 0.01, 0.03, 0.12, 0.2, 0.1, 0.04 + 0.15 * (african > 0.5), 0.36, 0.14
    bald, afro = 0.08 + 0.1 * (age > 45), 0.04 + 0.08 * (african > 0.5)
    return bald, 0.14, 0.42, 0.12, 0.1, afro, 0.06, 0.02


def _hair_length(rng: Generator, kind: str, sex: str) -> float:
    """Metres that hang down."""
    if kind == "long":
        return float(rng.uniform(0.07, 0.26))
    return float(rng.uniform(0.03, 0.09)) if kind == "medium" and sex == "female" else 0.0


def _hair(rng: Generator, sex: str, age: int, colour: Colour, african: float) -> Hair:
    shares = _hair_shares(sex, age, african)
    kind = str(rng.choice(HAIR_KINDS, p=np.array(shares) / sum(shares)))
    low, high = HAIR_THICKNESS_M[kind]
    length = _hair_length(rng, kind, sex)
    receding = rng.uniform(0, 30) * (age > 35) * (age - 30) / 40 if sex == "male" else 0.0
    fringe = (
        float(rng.uniform(24, 45))
        if kind in ("short", "medium", "long", "curly") and rng.random() < 0.3
        else None
    )
    waves = rng.uniform(0.6, 1.0) if kind in ("curly", "afro") else rng.uniform(0, 0.6)
    dyed = (
        float(rng.uniform(0.02, 0.4)),
        float(rng.uniform(0.02, 0.3)),
        float(rng.uniform(0.02, 0.4)),
    )
    return Hair(
        kind=kind,
        colour=dyed if rng.random() < 0.025 else colour,
        thickness=float(rng.uniform(low, high)),
        length=length,
        hairline_mm=float(rng.normal(66, 5) + 0.7 * receding),
        recession_mm=float(receding + rng.uniform(0, 8)),
        fringe_mm=fringe,
        waves=float(waves),
    )


def _beard(rng: Generator, sex: str, age: int, colour: Colour) -> Beard:
    kind = rng.random()
    if sex == "female" or age < 18 or kind < 0.35:
        return Beard(0.0, 0.0, 0.0, 0.0, colour)
    stubble = float(rng.uniform(0.15, 0.8))
    if kind < 0.62:
        return Beard(stubble, 0.0, 0.0, 0.0, colour)
    parts = {
        0: (1.0, 1.0, 1.0),
        1: (1.0, 1.0, 0.0),
        2: (1.0, 0.0, 0.0),
        3: (0.0, 1.0, 0.0),
        4: (0.7, 0.8, 0.6),
    }[int(rng.integers(0, 5))]
    m, c, s = (float(share * rng.uniform(0.6, 1.0)) for share in parts)
    return Beard(stubble, m, c, s, colour)


def _cover(rng: Generator, sex: str) -> Cover:
    scarf = sex == "female" and rng.random() < 0.6
    r, g, b = (float(v) for v in rng.uniform(0.01, 0.7) * np.exp(rng.normal(0, 0.4, 3)))
    edge, thickness = (
        (rng.uniform(44, 60), rng.uniform(2, 5))
        if scarf
        else (rng.uniform(34, 58), rng.uniform(3, 8))
    )
    return Cover(
        "headscarf" if scarf else "hat",
        (min(r, 0.9), min(g, 0.9), min(b, 0.9)),
        float(edge),
        float(thickness),
    )


def _glasses(rng: Generator) -> Glasses:
    r, g, b = (
        float(v)
        for v in (rng.uniform(0.005, 0.05, 3) if rng.random() < 0.7 else rng.uniform(0.05, 0.6, 3))
    )
    sun = rng.random() < 0.07
    return Glasses(
        width=float(rng.uniform(0.044, 0.056)),
        height=float(rng.uniform(0.030, 0.046)),
        rim=float(
            rng.uniform(0.0008, 0.0014) if rng.random() < 0.5 else rng.uniform(0.0014, 0.0026)
        ),
        squareness=float(rng.uniform(2.0, 5.0)),
        colour=(r, g, b),
        tint=float(rng.uniform(0.5, 0.85) if sun else rng.uniform(0, 0.12)),
    )
