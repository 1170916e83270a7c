"""Eyes: where the pupils are."""

import numpy as np
import pytest

from training.renderer.geometry import load_basis
from training.renderer.meshes import eyeballs, eyes


@pytest.mark.parametrize("gaze", [(0.0, 0.0), (0.3, -0.2)])
def test_pupils_lie_where_the_eyes_paint_them(gaze: tuple[float, float]) -> None:
    balls = eyeballs(load_basis().mean)
    for part, pupil in zip(eyes(balls, gaze), balls.pupils(gaze), strict=True):
        painted = part.vertices[np.argmin(part.coordinates[:, 1])]
        assert np.linalg.norm(painted - pupil) < 0.25 * balls.radius


def test_a_level_gaze_looks_straight_ahead() -> None:
    balls = eyeballs(load_basis().mean)
    ahead = balls.pupils((0.0, 0.0)) - balls.centres
    assert np.allclose(ahead, [[0, -balls.radius, 0]] * 2, atol=1e-6)
