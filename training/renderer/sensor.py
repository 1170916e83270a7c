"""The camera's share of a picture: exposure, white balance, vignetting, blur, noise, gamma and
JPEG.

A sensor is drawn once per scene, so that twins share it; only the noise differs from picture to
picture.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

GAMMA = 2.2
GREY = np.array([0.299, 0.587, 0.114], np.float32)  # Rec. 601


@dataclass(frozen=True)
class Sensor:
    """One camera and its settings."""

    exposure: float  # factor on linear light
    balance: tuple[float, float, float]  # gains of red, green, blue
    vignette: float  # loss of light in the corners
    blur: float  # sd in shares of the side
    shot_noise: float  # sd at full white, growing with the root of light
    read_noise: float
    contrast: float
    jpeg_quality: int | None
    saturation: float = 1.0  # factor on the distance from grey


def draw_sensor(rng: Generator) -> Sensor:
    """Mostly decent cameras, sometimes poor ones."""
    poor = rng.random() < 0.15
    return Sensor(
        exposure=float(np.exp(rng.normal(0, 0.22))),
        balance=tuple(np.exp(rng.normal(0, 0.07, 3)).tolist()),
        vignette=float(rng.uniform(0, 0.35)),
        blur=float(rng.uniform(0.003, 0.011)) if poor else float(rng.uniform(0, 0.004)),
        shot_noise=float(rng.uniform(0.01, 0.045)) if poor else float(rng.uniform(0, 0.015)),
        read_noise=float(rng.uniform(0.0, 0.02)) if poor else float(rng.uniform(0, 0.004)),
        contrast=float(np.exp(rng.normal(0, 0.12))),
        saturation=float(rng.uniform(0.6, 1.05)),
        jpeg_quality=int(rng.integers(35, 96)) if rng.random() < 0.4 else None,
    )


def expose(sensor: Sensor, light: NDArray[np.float32], rng: Generator) -> NDArray[np.uint8]:
    """(S, S, 3) linear light -> uint8 RGB. `rng` gives the noise of this picture."""
    side = len(light)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / (side - 1) * 2 - 1
    fall = 1 - sensor.vignette * 0.5 * (x * x + y * y)
    picture = light * (sensor.exposure * np.array(sensor.balance, np.float32)) * fall[..., None]
    if sensor.blur * side > 0.3:
        picture = cv2.GaussianBlur(picture, (0, 0), sensor.blur * side)
    noise = rng.standard_normal(picture.shape, dtype=np.float32)
    picture = picture + noise * (
        sensor.shot_noise * np.sqrt(np.clip(picture, 0, 1)) + sensor.read_noise
    )
    shown = np.clip(picture, 1e-5, None) ** (1 / GAMMA)
    # film's shoulder: highlights roll off
    shown = np.where(shown > 0.8, 0.8 + 0.2 * np.tanh((shown - 0.8) / 0.2), shown)
    shown = np.clip((shown - 0.5) * sensor.contrast + 0.5, 0, 1)
    grey = shown @ GREY
    shown = np.clip(grey[..., None] + sensor.saturation * (shown - grey[..., None]), 0, 1)
    image: NDArray[np.uint8] = np.round(shown * 255).astype(np.uint8)
    if sensor.jpeg_quality is not None:
        _, code = cv2.imencode(
            ".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, sensor.jpeg_quality]
        )
        image = np.ascontiguousarray(
            np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR), np.uint8)[..., ::-1]
        )
    return image
