"""What should not matter to a reading: skin, shape, age, glasses, light, pose, camera.

Each as two versions of a rendered face.

Everything else stays: person, expression, sitting, noise. So every change of the reading is caused
by this change alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from training.renderer.expressions import State, draw_state
from training.renderer.face import render_face
from training.renderer.geometry import features, load_basis
from training.renderer.person import Beard, Glasses, Person, draw_person, linear
from training.renderer.scene import Scene, draw_scene

Sitting = tuple[Person, Scene]
Version = Callable[[Person, Scene], Sitting]

FRAME = Glasses(
    width=0.05, height=0.038, rim=0.0018, squareness=3.0, colour=(0.02, 0.02, 0.02), tint=0.05
)
SUNGLASSES = replace(FRAME, tint=0.8)
RED_LIPS = linear((168, 36, 48))
MALE, FEMALE = 0.1, 0.9  # along the basis's gender


@dataclass(frozen=True)
class NuisanceChange:
    """One change that should not matter."""

    name: str
    kind: str  # person, worn, light, pose, camera
    before: Version
    after: Version


@dataclass(frozen=True)
class NuisancePairs:
    """N faces in both versions, and their true state."""

    before: NDArray[np.uint8]  # (N, S, S, 3)
    after: NDArray[np.uint8]
    states: list[State]


def render_pairs(
    nuisance: NuisanceChange, *, people: int, seed: int, size_px: int
) -> NuisancePairs:
    """The same people, sittings and states for every nuisance of a seed."""
    before: list[NDArray[np.uint8]] = []
    after: list[NDArray[np.uint8]] = []
    states: list[State] = []
    for number in range(people):
        rng = np.random.default_rng((seed, number))
        person, scene, state = draw_person(rng), draw_scene(rng), draw_state(rng)
        for version, images in ((nuisance.before, before), (nuisance.after, after)):
            images.append(render_face(*version(person, scene), state, size_px=size_px).image)
        states.append(state)
    return NuisancePairs(np.stack(before), np.stack(after), states)


def _person(**changed: object) -> Version:
    return lambda person, scene: (replace(person, **changed), scene)  # type: ignore[arg-type]


def _scene(**changed: object) -> Version:
    return lambda person, scene: (person, replace(scene, **changed))  # type: ignore[arg-type]


def _camera(**changed: object) -> Version:
    def version(person: Person, scene: Scene) -> tuple[Person, Scene]:
        sensor = replace(scene.sensor, **changed)  # type: ignore[arg-type]
        return person, replace(scene, sensor=sensor)

    return version


def _skin(monk: int) -> Version:
    return _person(monk=monk, melanin=float(monk), freckles=0.0)


def _shape(
    *, gender: float | None = None, ancestry: tuple[float, float, float] | None = None
) -> Version:
    """The head moved along what the basis knows of sex or ancestry; what makes the person stays."""

    def version(person: Person, scene: Scene) -> Sitting:
        maturity = float(np.interp(person.age, [14, 25, 90], [0.5, 0.67, 1.0]))
        own = MALE if person.sex == "male" else FEMALE
        rows = np.array(
            [
                [own, maturity, 0.5, 0.5, *person.ancestry],
                [gender or own, maturity, 0.5, 0.5, *(ancestry or person.ancestry)],
            ]
        )
        was, becomes = features(rows) @ load_basis().attribute_effect
        return replace(
            person, coefficients=(person.coefficients + becomes - was).astype(np.float32)
        ), scene

    return version


def _beard(cover: float) -> Version:
    def version(person: Person, scene: Scene) -> Sitting:
        return replace(person, beard=Beard(cover, cover, cover, cover, person.beard.colour)), scene

    return version


def _light(scale: float = 1.0, azimuth: float | None = None, warm: float = 0.0) -> Version:
    """Main light stronger, from elsewhere (radians, 0 is the front), warmer."""

    def version(person: Person, scene: Scene) -> Sitting:
        colour = tuple(
            float(c * scale * gain)
            for c, gain in zip(scene.key_colour, (1 + warm, 1, 1 - warm), strict=True)
        )
        key = (
            scene.key
            if azimuth is None
            else (float(np.sin(azimuth)) * 0.92, -float(np.cos(azimuth)) * 0.92, 0.39)
        )
        return person, replace(scene, key=key, key_colour=(colour[0], colour[1], colour[2]))

    return version


def _same(person: Person, scene: Scene) -> Sitting:
    return person, scene


def _elsewhere(person: Person, scene: Scene) -> Sitting:
    return person, replace(scene, seed=scene.seed ^ 0x5EED)


NUISANCES: tuple[NuisanceChange, ...] = (
    NuisanceChange("skin: light to dark", "person", _skin(2), _skin(9)),
    NuisanceChange("shape: male to female", "person", _shape(gender=MALE), _shape(gender=FEMALE)),
    NuisanceChange(
        "shape: European to African",
        "person",
        _shape(ancestry=(0, 0, 1)),
        _shape(ancestry=(1, 0, 0)),
    ),
    NuisanceChange(
        "shape: European to Asian", "person", _shape(ancestry=(0, 0, 1)), _shape(ancestry=(0, 1, 0))
    ),
    NuisanceChange("furrows and spots: 25 to 75 years", "person", _person(age=25), _person(age=75)),
    NuisanceChange("glasses: none to some", "worn", _person(glasses=None), _person(glasses=FRAME)),
    NuisanceChange(
        "glasses: clear to dark", "worn", _person(glasses=FRAME), _person(glasses=SUNGLASSES)
    ),
    NuisanceChange("beard: none to full", "worn", _beard(0.0), _beard(0.9)),
    NuisanceChange("lips: bare to red", "worn", _person(lipstick=None), _person(lipstick=RED_LIPS)),
    NuisanceChange("light: frontal to lateral", "light", _light(azimuth=0.0), _light(azimuth=1.3)),
    NuisanceChange("light: dim to bright", "light", _light(0.6), _light(1.7)),
    NuisanceChange("light: cold to warm", "light", _light(warm=-0.25), _light(warm=0.25)),
    NuisanceChange("head: frontal to turned left", "pose", _scene(yaw=0.0), _scene(yaw=0.45)),
    NuisanceChange("head: frontal to turned right", "pose", _scene(yaw=0.0), _scene(yaw=-0.45)),
    NuisanceChange("head: lowered to raised", "pose", _scene(pitch=-0.22), _scene(pitch=0.22)),
    NuisanceChange("lens: far to near", "pose", _scene(distance=2.0), _scene(distance=0.45)),
    NuisanceChange("camera: sharp to blurred", "camera", _camera(blur=0.0), _camera(blur=0.011)),
    NuisanceChange(
        "camera: dark to bright", "camera", _camera(exposure=0.65), _camera(exposure=1.5)
    ),
    NuisanceChange("another background and other noise", "camera", _same, _elsewhere),
)


def true_rows(pairs: NuisancePairs) -> NDArray[np.float64]:
    """(N, K + 2) true labels in the renderer's columns."""
    return np.stack([state.row() for state in pairs.states]).astype(np.float64)
