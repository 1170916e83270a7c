"""The rasteriser against pictures worked out by hand."""

import numpy as np

from training.renderer.raster import EMPTY, rasterise, shadow_depth, vertex_normals

SIDE = 8
QUAD = np.array([[0, 1, 2], [1, 3, 2]], np.int32)


def square(low: float, high: float, depth: float) -> np.ndarray:
    """(4, 3) corners in px."""
    return np.array(
        [[low, low, depth], [high, low, depth], [low, high, depth], [high, high, depth]], np.float32
    )


def test_a_square_covers_its_pixels_and_no_others() -> None:
    depth, _, index = rasterise(square(2, 6, 1.0), QUAD, np.zeros((4, 1), np.float32), SIDE)
    expected = np.zeros((SIDE, SIDE), bool)
    expected[2:6, 2:6] = True
    assert np.array_equal(index >= 0, expected)
    assert np.allclose(depth[expected], 1.0)
    assert (depth[~expected] == EMPTY).all()


def test_attributes_are_linear_across_a_triangle() -> None:
    corners = square(0, SIDE, 1.0)
    _, attributes, _ = rasterise(corners, QUAD, corners[:, :2].copy(), SIDE)
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    assert np.allclose(attributes[..., 0], columns, atol=1e-4)
    assert np.allclose(attributes[..., 1], rows, atol=1e-4)


def test_the_nearer_of_two_surfaces_is_seen_in_either_order() -> None:
    corners = np.concatenate([square(0, SIDE, 2.0), square(2, 6, 1.0)])
    for triangles in (np.concatenate([QUAD, QUAD + 4]), np.concatenate([QUAD + 4, QUAD])):
        depth, _, _ = rasterise(
            corners, triangles.astype(np.int32), np.zeros((8, 1), np.float32), SIDE
        )
        assert depth[4, 4] == 1.0
        assert depth[0, 0] == 2.0


def test_what_lies_outside_the_picture_is_left_out() -> None:
    _, _, index = rasterise(square(-20, -10, 1.0), QUAD, np.zeros((4, 1), np.float32), SIDE)
    assert (index < 0).all()


def test_light_sees_the_depth_of_what_it_meets_first() -> None:
    corners = np.concatenate([square(0, SIDE, 2.0), square(2, 6, 1.0)])
    depth = shadow_depth(corners, np.concatenate([QUAD, QUAD + 4]).astype(np.int32), SIDE)
    assert depth[4, 4] == 1.0
    assert depth[0, 0] == 2.0


def test_normals_stand_upright_on_their_surface() -> None:
    assert np.allclose(vertex_normals(square(0, 1, 0.0), QUAD), [[0, 0, 1]] * 4)
