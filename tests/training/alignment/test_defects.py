"""What hides eyes or mouth, and what draws a face, for the landmark network to doubt."""

import numpy as np
import pytest
from numpy.random import default_rng

from affect.landmarks import INPUT_PX, box_of_points, cut
from training.alignment.defects import add_defects, draw, hide_elsewhere, hide_eyes, hide_mouth
from training.alignment.pictures import render_heads

EYES, MOUTH = slice(0, 2), slice(3, 5)


@pytest.fixture(scope="module")
def face() -> tuple[np.ndarray, np.ndarray]:
    """A crop and its points."""
    heads = render_heads(5, 3, 1)
    crop, transform = cut(heads.images[0], box_of_points(heads.points[0]))
    points = (heads.points[0] @ transform[:, :2].T + transform[:, 2]) / INPUT_PX
    return crop, points.astype(np.float32)


def changed(before: np.ndarray, after: np.ndarray, points: np.ndarray) -> float:
    """The share of the points where the picture is another one."""
    places = np.clip((points * INPUT_PX).astype(int), 0, INPUT_PX - 1)
    off = np.abs(before.astype(int) - after).max(2)
    return float(np.mean([off[y, x] > 3 for x, y in places]))


@pytest.mark.parametrize("seed", range(8))
def test_what_is_hidden_is_hidden_and_nothing_else(
    face: tuple[np.ndarray, np.ndarray], seed: int
) -> None:
    crop, points = face
    eyes, mouth = (hide(crop, points, default_rng(seed)) for hide in (hide_eyes, hide_mouth))
    assert changed(crop, eyes, points[EYES]) == changed(crop, mouth, points[MOUTH]) == 1
    assert changed(crop, eyes, points[MOUTH]) == changed(crop, mouth, points[EYES]) == 0


@pytest.mark.parametrize("seed", range(8))
def test_what_lies_elsewhere_leaves_eyes_and_mouth(
    face: tuple[np.ndarray, np.ndarray], seed: int
) -> None:
    crop, points = face
    other = hide_elsewhere(crop, points, default_rng(seed))
    assert not np.array_equal(other, crop)
    assert changed(crop, other, points[[0, 1, 3, 4]]) == 0


@pytest.mark.parametrize("seed", range(6))
def test_a_drawing_has_lines_and_one_colour_at_most(
    face: tuple[np.ndarray, np.ndarray], seed: int
) -> None:
    drawing = draw(face[0], default_rng(seed)).reshape(-1, 3).astype(float)
    first, second, _ = np.linalg.svd(drawing, compute_uv=False)
    assert second < 0.03 * first and drawing.std() > 4


def test_clear_faces_are_the_most(face: tuple[np.ndarray, np.ndarray]) -> None:
    rng = default_rng(0)
    defects = np.array([add_defects(*face, rng)[1] for _ in range(400)])
    assert (defects.max(1) == 0).mean() > 0.6 and (defects.mean(0) > 0.05).all()
