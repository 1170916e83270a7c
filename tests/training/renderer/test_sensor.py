"""The camera: one setting for all twins, noise of its own for every picture, each part of it
measurable.
"""

from dataclasses import replace

import numpy as np
import pytest

from training.renderer.sensor import Sensor, draw_sensor, expose

IDEAL = Sensor(1.0, (1.0, 1.0, 1.0), 0.0, 0.0, 0.0, 0.0, 1.0, None)
GREY = np.full((64, 64, 3), 0.2, np.float32)
EDGE = np.where(np.arange(64)[None, :, None] < 32, np.float32(0.1), np.float32(0.4)) * np.ones(
    (64, 64, 3), np.float32
)


def _taken(sensor: Sensor, light: np.ndarray = GREY, seed: int = 0) -> np.ndarray:
    return expose(sensor, light, np.random.default_rng(seed)).astype(float)


def test_an_ideal_camera_shows_gamma_and_nothing_else() -> None:
    assert np.all(_taken(IDEAL) == round(255 * 0.2 ** (1 / 2.2)))


def test_the_same_seed_takes_the_same_picture() -> None:
    sensor = draw_sensor(np.random.default_rng(1))
    noisy = replace(sensor, shot_noise=0.03)
    assert sensor == draw_sensor(np.random.default_rng(1))
    assert np.array_equal(_taken(noisy), _taken(noisy)) and not np.array_equal(
        _taken(noisy), _taken(noisy, seed=1)
    )


@pytest.mark.parametrize("seed", range(8))
def test_any_camera_gives_eight_bits_of_any_light(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = expose(draw_sensor(rng), rng.uniform(0, 4, (32, 32, 3)).astype(np.float32), rng)
    assert image.dtype == np.uint8 and image.shape == (32, 32, 3)


def test_exposure_brightens_and_balance_tints() -> None:
    assert (
        _taken(replace(IDEAL, exposure=2.0)).mean()
        > _taken(IDEAL).mean()
        > _taken(replace(IDEAL, exposure=0.5)).mean()
    )
    red, green, blue = _taken(replace(IDEAL, balance=(1.2, 1.0, 0.8))).mean((0, 1))
    assert red > green > blue


def test_corners_are_darker_than_the_middle() -> None:
    image = _taken(replace(IDEAL, vignette=0.35))
    assert image[0, 0, 0] < image[16, 16, 0] < image[32, 32, 0]


def test_noise_has_the_size_it_says() -> None:
    sensor = replace(IDEAL, read_noise=0.01)
    linear = (_taken(sensor) / 255) ** 2.2
    assert linear.std() == pytest.approx(0.01, rel=0.1)


def test_blur_softens_an_edge_and_contrast_widens_it() -> None:
    def step(sensor: Sensor) -> float:
        return float(np.abs(np.diff(_taken(sensor, EDGE)[32, :, 0])).max())

    assert step(replace(IDEAL, blur=0.03)) < 0.5 * step(IDEAL)
    assert step(replace(IDEAL, contrast=1.3)) == pytest.approx(1.3 * step(IDEAL), rel=0.03)


def test_compression_leaves_its_traces() -> None:
    sharp, squeezed = (
        _taken(replace(IDEAL, jpeg_quality=95), EDGE),
        _taken(replace(IDEAL, jpeg_quality=35), EDGE),
    )
    ideal = _taken(IDEAL, EDGE)
    assert np.abs(squeezed - ideal).mean() > np.abs(sharp - ideal).mean()
