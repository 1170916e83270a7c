"""The 68 iBUG landmarks as vertices of the head: exact on every rendered face."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.renderer.geometry import SKIN, load_basis
from training.renderer.meshes import hollow
from training.renderer.raster import vertex_normals

Floats = NDArray[Any]  # float32
Points = Sequence[tuple[float, float]]

# Frontal positions on the mean head in mm (x to the subject's left, z up), the picture's left
# first.
_JAW = [
    (-73, -8),
    (-72, -24),
    (-70, -39),
    (-66, -55),
    (-60, -70),
    (-51, -85),
    (-38, -98),
    (-20, -108),
    (0, -112),
]
_BROW = [(-53, 12), (-44, 18.5), (-33, 20.5), (-22, 18), (-12, 12)]
_NOSE = [(0, 2), (0, -12), (0, -26), (0, -40), (-13, -45), (-6, -48), (0, -49), (6, -48), (13, -45)]
_EYE = [(-46, -1), (-39, 3.5), (-30, 3.5), (-21, -3), (-29, -5.2), (-38, -5.2)]
_LIPS = [(-24.5, -71.5), (-15, -67), (-6, -64.8), (0, -66), (6, -64.8), (15, -67), (24.5, -71.5)]
_LIPS += [(14, -81), (6, -84), (0, -84.5), (-6, -84), (-14, -81)]
_LIPS += [
    (-21, -71.3),
    (-8, -70.3),
    (0, -70.3),
    (8, -70.3),
    (21, -71.3),
    (8, -73),
    (0, -73),
    (-8, -73),
]


def _mirrored(points: Points, order: Sequence[int]) -> list[tuple[float, float]]:
    return [(-points[i][0], points[i][1]) for i in order]


POSITIONS_MM: Floats = np.array(
    [
        *_JAW,
        *_mirrored(_JAW, [7, 6, 5, 4, 3, 2, 1, 0]),
        *_BROW,
        *_mirrored(_BROW, [4, 3, 2, 1, 0]),
        *_NOSE,
    ]
    + [*_EYE, *_mirrored(_EYE, [3, 2, 1, 0, 5, 4]), *_LIPS],
    np.float32,
)


@lru_cache(maxsize=1)
def landmark_vertices() -> NDArray[np.intp]:
    """(68,) vertex indices: for each position the nearest vertex of the front."""
    basis = load_basis()
    normals = vertex_normals(basis.mean, basis.triangles)
    front = np.flatnonzero(
        (basis.part == SKIN) & (hollow() == 0) & (normals[:, 1] < 0.25) & (basis.mean[:, 1] < 0.10)
    )
    frontal = basis.mean[front][:, [0, 2]] * 1000
    return np.asarray(front[np.argmin(((POSITIONS_MM[:, None] - frontal) ** 2).sum(2), axis=1)])


def landmarks(vertices: Floats) -> Floats:
    """(68, 3) metres on a head of (V, 3) vertices."""
    assert len(vertices) == len(load_basis().mean)
    return vertices[landmark_vertices()]


def lip_gap_m(vertices: Floats) -> float:
    """Height in metres between the inner edges of the lips, on a head of (V, 3) vertices."""
    upper, lower = landmark_vertices()[[61, 62, 63]], landmark_vertices()[[67, 66, 65]]
    return float((vertices[upper, 2] - vertices[lower, 2]).mean())
