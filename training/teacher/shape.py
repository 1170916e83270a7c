"""Face meshes normalised for position, size and rotation: identity and expression remain.

Shape letters: N meshes, M = 478 points.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.transform import Rotation

Floats = NDArray[np.float64]
# Points that no expression moves much: nose bridge and tip, eye corners, forehead.
RIGID = (168, 6, 197, 195, 5, 4, 1, 33, 133, 362, 263, 10, 151, 109, 338, 67, 297)
MEAN_ROUNDS = 3  # of the mean face
LEFT_EYE, RIGHT_EYE = (33, 133), (362, 263)  # corners; the picture's left and right


@dataclass(frozen=True)
class Normaliser:
    """A mean face, and for each of its points the point on the other side."""

    mean: Floats  # (M, 3), distance of the eyes' centres 1
    mirror: NDArray[np.intp]  # (M,)

    @classmethod
    def fit(cls, points: Floats) -> Self:
        """From (N, M, 3) meshes: generalised Procrustes analysis (Gower 1975) on the rigid
        points.
        """
        mean = _centred(points[0])
        for _ in range(MEAN_ROUNDS):
            mean = _centred(align(points, mean)[0].mean(0))
        flipped = mean * (-1, 1, 1)
        distance = np.linalg.norm(mean[:, None] - flipped[None], axis=2)
        mirror = np.asarray(linear_sum_assignment(distance)[1], np.intp)
        symmetric = (mean + mean[mirror] * (-1, 1, 1)) / 2
        return cls(symmetric, mirror)

    def shapes(self, points: Floats) -> tuple[Floats, Floats]:
        """(N, 3 M) shapes of (N, M, 3) meshes, less the mean; and the turn (N, 3) taken out of
        each, as a rotation vector in radians about x, y and z of the picture.
        """
        aligned, turns = align(points, self.mean)
        return (aligned - self.mean).reshape(len(points), -1), turns

    def mirrored(self, shapes: Floats) -> Floats:
        """(N, 3 M) the same faces in a mirror."""
        points = shapes.reshape(len(shapes), -1, 3)
        return np.asarray((points[:, self.mirror] * (-1, 1, 1)).reshape(len(shapes), -1))


def align(points: Floats, target: Floats) -> tuple[Floats, Floats]:
    """Each of (N, M, 3) meshes by the similarity that brings its rigid points closest to those of
    `goal` (Umeyama 1991), and the inverse of its rotation as a vector (N, 3).
    """
    rigid = list(RIGID)
    source = np.asarray(points, np.float64)
    centres, goal_centre = source[:, rigid].mean(1, keepdims=True), target[rigid].mean(0)
    centred = source - centres
    covariance = np.einsum("pi,npj->nij", target[rigid] - goal_centre, centred[:, rigid])
    u, s, vt = np.linalg.svd(covariance)
    sign = np.ones_like(s)
    sign[:, 2] = np.sign(np.linalg.det(u @ vt))
    rotation = (u * sign[:, None]) @ vt  # (N, 3, 3)
    scale = (s * sign).sum(1) / (centred[:, rigid] ** 2).sum((1, 2))
    aligned = scale[:, None, None] * centred @ rotation.transpose(0, 2, 1) + goal_centre
    return aligned, _vectors(rotation.transpose(0, 2, 1))


def _centred(mesh: Floats) -> Floats:
    """Middle of the eyes at the origin, their distance 1 along x: upright and facing the viewer."""
    left, right = mesh[list(LEFT_EYE)].mean(0), mesh[list(RIGHT_EYE)].mean(0)
    across = right - left
    reach = float(np.linalg.norm(across))
    turn, _ = Rotation.align_vectors([[1.0, 0.0, 0.0]], [across / reach])
    return np.asarray(turn.apply(mesh - (left + right) / 2) / reach)


def _vectors(rotation: Floats) -> Floats:
    """(N, 3) axis times angle of (N, 3, 3) rotations."""
    return np.asarray(Rotation.from_matrix(rotation).as_rotvec())
