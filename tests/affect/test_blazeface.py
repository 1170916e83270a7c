"""The network that finds heads which cascades miss."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

from affect.blazeface import BlazeFace
from affect.cascade import Square

EYES_MIDDLE = (224, 104)  # of the portrait, by eye


@pytest.fixture(scope="module")
def portrait() -> NDArray[np.uint8]:
    picture: NDArray[np.uint8] = data.astronaut()[:300, 70:370]
    return picture


def _is_the_face(box: Square, scale: float = 1.0) -> bool:
    x, y = EYES_MIDDLE[0] - 70, EYES_MIDDLE[1]
    left, top, side = (value / scale for value in box)
    return left < x < left + side and top < y < top + 0.6 * side and 60 < side < 160


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.5])
def test_a_face_is_found_at_its_place_at_any_size(
    portrait: NDArray[np.uint8], scale: float
) -> None:
    picture = np.asarray(cv2.resize(portrait, None, fx=scale, fy=scale), np.uint8)
    (box,) = BlazeFace().boxes(picture)
    assert _is_the_face(box, scale)


def test_a_face_is_found_in_a_picture_that_is_no_square(portrait: NDArray[np.uint8]) -> None:
    (box,) = BlazeFace().boxes(np.ascontiguousarray(portrait[:220]))
    assert _is_the_face(box)


def test_noise_has_no_face() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    assert BlazeFace().boxes(noise) == []


def test_a_network_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.tflite is missing"):
        BlazeFace(tmp_path / "none.tflite")
