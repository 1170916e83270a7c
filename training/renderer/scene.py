"""Where the picture is taken: pose, lens, light, gaze, clothes, camera and background.

Twins share a scene.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from training.renderer.person import Colour
from training.renderer.sensor import Sensor, draw_sensor

YAW, PITCH = (
    np.radians(60),
    np.radians(30),
)  # the most a head is turned: farther, no eye is left to align by
Direction = tuple[float, float, float]


@dataclass(frozen=True)
class Scarf:
    """Around the neck, up to the chin or over it."""

    colour: Colour
    height_mm: float  # of its upper edge, from the eyes: negative
    folds: float  # phase


@dataclass(frozen=True)
class Hand:
    """Fingers laid on one side of the face."""

    side: float  # 1 the subject's left, -1 the right
    x_mm: float  # of the finger nearest to the nose
    top_mm: float  # height of the longest finger's tip, from the eyes: negative
    fan: float  # radians between neighbours
    fingers: int


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One sitting.

    Directions are in the camera's frame: x right in the picture, y away from the lens, z up; angles
    in radians.
    """

    yaw: float  # positive turns to the subject's left
    pitch: float  # positive looks up
    roll: float
    distance: float  # metres from lens to eyes: how strong the perspective is
    gaze: tuple[float, float]  # left and up, against the head
    key: Direction  # towards the main light
    key_colour: Colour
    key_softness: float  # blur of its shadows, in shadow texels
    sky: Colour  # ambient light from above
    ground: Colour  # and from below
    fill: Direction
    fill_colour: Colour
    cloth: Colour
    collar: float  # 0 a wide neck, 1 a high collar
    outdoors: bool
    scarf: Scarf | None
    hand: Hand | None
    relief: float  # how clearly the light shows furrows
    sensor: Sensor
    seed: int  # of background, cloth and noise
    # LOOSE framing: offset x and y in sides, and the head's height in sides
    placement: tuple[float, float, float]


@dataclass(frozen=True)
class _DrawnLight:
    """What is drawn about the light before anything else of a scene."""

    outdoors: bool
    soft: bool
    key: Direction
    key_colour: Colour
    sky: Colour
    ambient: float
    earth: NDArray[np.float64]  # (3,) log colour of what the ground throws back
    side: float  # angle of the fill
    filling: float


def _draw_light(rng: Generator) -> _DrawnLight:
    outdoors = rng.random() < 0.35
    studio = not outdoors and rng.random() < 0.3
    azimuth, height = rng.normal(0, 0.75), rng.uniform(-0.05, 1.15)
    warm, hue = rng.normal(0.06 if outdoors else 0, 0.12), rng.normal(0, 0.1, 3)
    overcast = rng.random() < 0.25
    strength = rng.uniform(0.25, 0.7) if overcast else rng.uniform(0.7, 1.7)
    ambient = rng.uniform(0.6, 1.0) if overcast else rng.uniform(0.18, 0.65)
    side = rng.normal(0, 1.2)
    filling = rng.uniform(0.3, 0.7) if studio else rng.uniform(0.05, 0.45)
    if studio:  # a large lamp to one side, a weaker one on the other
        azimuth, height = rng.choice([-1, 1]) * rng.uniform(0.2, 0.9), rng.uniform(0.1, 0.7)
        strength, side = rng.uniform(0.6, 1.0), -azimuth
        overcast = True  # its shadows are as soft
    earth = np.array([0.0, 0.0, 0.0])
    if outdoors:
        height = rng.uniform(0.15, 1.25)
        hue = hue + (np.array([0.02, 0.02, 0.04]) if overcast else np.array([-0.22, -0.04, 0.22]))
        earth = np.array([0.05, 0.08, -0.25]) * rng.uniform(0, 1)  # what grass and soil throw back
    key = _unit(np.sin(azimuth) * np.cos(height), -np.cos(azimuth) * np.cos(height), np.sin(height))
    key_colour = _colour(strength * np.array([1 + warm, 1, 1 - warm]))
    sky = _colour(ambient * np.exp(hue))
    return _DrawnLight(outdoors, overcast, key, key_colour, sky, ambient, earth, side, filling)


def draw_scene(rng: Generator) -> Scene:
    """Mostly frontal heads, lit from anywhere in front: outdoors under sun or clouds, in rooms, or
    in a portrait studio.
    """
    light = _draw_light(rng)
    return Scene(
        yaw=_yaw(rng),
        pitch=float(np.clip(rng.normal(0, 0.17), -PITCH, PITCH)),
        roll=float(np.clip(rng.normal(0, 0.07), -0.18, 0.18)),
        distance=float(np.exp(rng.uniform(np.log(0.4), np.log(2.5)))),
        gaze=(
            float(np.clip(rng.normal(0, 0.16), -0.5, 0.5)),
            float(np.clip(rng.normal(0, 0.09), -0.3, 0.3)),
        ),
        key=light.key,
        key_colour=light.key_colour,
        key_softness=float(rng.uniform(2.0, 6.0) if light.soft else rng.uniform(0.8, 3.0)),
        sky=light.sky,
        ground=_colour(
            light.ambient * rng.uniform(0.3, 0.8) * np.exp(light.earth + rng.normal(0, 0.12, 3))
        ),
        fill=_unit(np.sin(light.side), -np.cos(light.side), rng.uniform(-0.3, 0.6)),
        fill_colour=_colour(light.filling * np.exp(rng.normal(0, 0.15, 3))),
        cloth=_colour(np.clip(rng.uniform(0.01, 0.6) * np.exp(rng.normal(0, 0.45, 3)), 0, 0.9)),
        collar=float(rng.random()),
        outdoors=light.outdoors,
        scarf=_scarf(rng) if rng.random() < 0.04 else None,
        hand=_hand(rng) if rng.random() < 0.05 else None,
        relief=float(rng.uniform(0.5, 1.2)),
        sensor=draw_sensor(rng),
        seed=int(rng.integers(0, 2**31)),
        placement=(
            float(rng.normal(0, 0.1)),
            float(rng.normal(0, 0.1)),
            float(np.exp(rng.uniform(np.log(0.25), np.log(0.95)))),
        ),
    )


def _yaw(rng: Generator) -> float:
    """Mostly frontal; every eighth person is well turned."""
    if rng.random() < 0.12:
        return float(rng.uniform(0.5, YAW) * rng.choice([-1.0, 1.0]))
    return float(np.clip(rng.normal(0, 0.25), -0.7, 0.7))


def _scarf(rng: Generator) -> Scarf:
    colour = np.clip(rng.uniform(0.02, 0.6) * np.exp(rng.normal(0, 0.5, 3)), 0, 0.9)
    return Scarf(_colour(colour), float(rng.uniform(-118, -84)), float(rng.uniform(0, 6.3)))


def _hand(rng: Generator) -> Hand:
    return Hand(
        side=float(rng.choice([-1.0, 1.0])),
        x_mm=float(rng.uniform(18, 52)),
        top_mm=float(rng.uniform(-82, -18)),
        fan=float(rng.uniform(0.02, 0.16)),
        fingers=int(rng.integers(1, 5)),
    )


def _unit(x: float, y: float, z: float) -> Direction:
    length = float(np.sqrt(x * x + y * y + z * z))
    return float(x) / length, float(y) / length, float(z) / length


def _colour(values: np.ndarray) -> Colour:
    return float(values[0]), float(values[1]), float(values[2])
