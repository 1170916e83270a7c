"""Files of mesh points come back as they were written."""

from pathlib import Path

import numpy as np
import pytest

from training.teacher.points import FIVE, POINTS, MeshPoints, PointsError


@pytest.fixture
def made() -> MeshPoints:
    """Two pictures, a face in the first."""
    points = np.random.default_rng(0).random((2, POINTS, 3)).astype(np.float32)
    points[1] = np.nan
    sizes = np.array([[100, 200], [50, 50]], np.int32)
    return MeshPoints(("a", "b"), np.array([True, False]), sizes, points)


def test_what_is_saved_is_loaded(made: MeshPoints, tmp_path: Path) -> None:
    made.save(tmp_path / "p.parquet")
    back = MeshPoints.load(tmp_path / "p.parquet")
    assert back.names == made.names and (back.found == made.found).all()
    assert np.array_equal(back.points, made.points, equal_nan=True)
    assert (back.sizes == made.sizes).all()


def test_pictures_without_a_mesh_are_reported(made: MeshPoints) -> None:
    found, points = made.of(["b", "a", "c"])
    assert found.tolist() == [False, True, False]
    assert np.array_equal(points[1], made.points[0]) and np.isnan(points[2]).all()


def test_five_points_are_in_px_of_the_picture(made: MeshPoints) -> None:
    assert np.allclose(made.five()[0], made.points[0, list(FIVE), :2] * 200)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.parquet").write_bytes(b"nonsense")
    with pytest.raises(PointsError, match="make mesh"):
        MeshPoints.load(tmp_path / "p.parquet")
