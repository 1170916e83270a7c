"""Photographs with mesh points become heads beside the rendered ones."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from affect.images import encode
from training.alignment.photographs import head_of, photograph_heads, with_pupils
from training.alignment.pictures import PICTURE_PX
from training.teacher.points import FIVE, POINTS, MeshPoints

SPOTS = np.array([[80, 100], [120, 100], [100, 125], [85, 145], [115, 145]], np.float32)


def _dotted(scale: float) -> np.ndarray:
    """A grey picture with a bright disc on each of the five points."""
    image = np.full((round(260 * scale), round(200 * scale), 3), 60, np.uint8)
    for x, y in SPOTS * scale:
        cv2.circle(image, (round(float(x)), round(float(y))), round(3 * scale), (255,) * 3, -1)
    return image


@pytest.mark.parametrize("scale", [0.5, 1.0, 4.0])
def test_points_stay_on_what_they_mean(scale: float) -> None:
    head = head_of(_dotted(scale), SPOTS * scale)
    assert head.images.shape == (1, PICTURE_PX, PICTURE_PX, 3)
    for x, y in head.points[0]:
        assert head.images[0, int(y), int(x)].min() > 150


def test_iris_centres_are_lifted_to_the_pupils_of_a_tilted_head() -> None:
    turn = np.array([[0, -1], [1, 0]], np.float32)  # a quarter turn clockwise in the picture
    lifted, tilted = with_pupils(SPOTS), with_pupils(SPOTS @ turn.T)
    assert np.allclose(tilted, lifted @ turn.T, atol=1e-4)
    assert (lifted[:2, 1] < SPOTS[:2, 1]).all() and (lifted[2:] == SPOTS[2:]).all()


def test_a_fifth_of_the_people_is_held_out(tmp_path: Path) -> None:
    names, points = [f"{n}.png" for n in range(40)], np.zeros((40, POINTS, 3), np.float32)
    points[:, list(FIVE), :2] = SPOTS / 260
    for name in names:
        (tmp_path / name).write_bytes(encode(_dotted(1.0)))
    has_face, sizes = np.ones(40, bool), np.tile(np.array([200, 260], np.int32), (40, 1))
    has_face[0] = False
    MeshPoints(tuple(names), has_face, sizes, points).save(tmp_path / "points.parquet")
    learnt, held_out = photograph_heads(tmp_path, tmp_path / "points.parquet")
    assert len(learnt.images) + len(held_out.images) == 39
    assert 2 <= len(held_out.images) <= 16
