"""Where the picture is taken: pose, lens, light, gaze, clothes, camera and background. Twins share a scene."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from training.faces.person import Colour
from training.render.sensor import Sensor, draw_sensor

Direction = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One sitting. Directions are in the camera's frame: x right in the picture, y away from the lens, z up; angles in radians."""

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
    sensor: Sensor
    seed: int  # of background, cloth and noise
    placement: tuple[float, float, float]  # LOOSE framing: offset x and y in sides, and the head's height in sides


def draw_scene(rng: Generator) -> Scene:
    """Mostly frontal heads, lit from anywhere in front, indoors or out."""
    azimuth, height = rng.normal(0, 0.75), rng.uniform(-0.05, 1.15)
    warm, hue = rng.normal(0, 0.12), rng.normal(0, 0.1, 3)
    overcast = rng.random() < 0.25
    strength = rng.uniform(0.25, 0.7) if overcast else rng.uniform(0.7, 1.7)
    ambient = rng.uniform(0.6, 1.0) if overcast else rng.uniform(0.18, 0.65)
    side = rng.normal(0, 1.2)
    return Scene(
        yaw=float(np.clip(rng.normal(0, 0.23), -0.62, 0.62)),
        pitch=float(np.clip(rng.normal(0, 0.12), -0.35, 0.35)),
        roll=float(np.clip(rng.normal(0, 0.07), -0.18, 0.18)),
        distance=float(np.exp(rng.uniform(np.log(0.4), np.log(2.5)))),
        gaze=(float(np.clip(rng.normal(0, 0.16), -0.5, 0.5)), float(np.clip(rng.normal(0, 0.09), -0.3, 0.3))),
        key=_unit(np.sin(azimuth) * np.cos(height), -np.cos(azimuth) * np.cos(height), np.sin(height)),
        key_colour=_colour(strength * np.array([1 + warm, 1, 1 - warm])),
        key_softness=float(rng.uniform(2.0, 6.0) if overcast else rng.uniform(0.8, 3.0)),
        sky=_colour(ambient * np.exp(hue)),
        ground=_colour(ambient * rng.uniform(0.3, 0.8) * np.exp(rng.normal(0, 0.12, 3))),
        fill=_unit(np.sin(side), -np.cos(side), rng.uniform(-0.3, 0.6)),
        fill_colour=_colour(rng.uniform(0.05, 0.45) * np.exp(rng.normal(0, 0.15, 3))),
        cloth=_colour(np.clip(rng.uniform(0.01, 0.6) * np.exp(rng.normal(0, 0.45, 3)), 0, 0.9)),
        collar=float(rng.random()),
        sensor=draw_sensor(rng),
        seed=int(rng.integers(0, 2**31)),
        placement=(float(rng.normal(0, 0.1)), float(rng.normal(0, 0.1)), float(np.exp(rng.uniform(np.log(0.25), np.log(0.95))))),
    )


def _unit(x: float, y: float, z: float) -> Direction:
    length = float(np.sqrt(x * x + y * y + z * z))
    return float(x) / length, float(y) / length, float(z) / length


def _colour(values: np.ndarray) -> Colour:
    return float(values[0]), float(values[1]), float(values[2])
