"""Meshes of made faces: people, and what each label moves, through a random camera."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from training.teacher.points import POINTS, MeshPoints
from training.teacher.shape import LEFT_EYE, RIGHT_EYE

Floats = NDArray[np.float64]
MIDDLE = (168, 6, 197, 195, 5, 4, 1, 10, 151)  # on the line between the halves
PAIRS = ((109, 338), (67, 297), (61, 291), *zip(LEFT_EYE, reversed(RIGHT_EYE), strict=True))


@dataclass(frozen=True)
class MadeFaces:
    """A mean face, even on both sides, and a movement for each of K labels."""

    mean: Floats  # (M, 3)
    moves: Floats  # (K, M, 3)

    @classmethod
    def draw(cls, labels: int, seed: int = 0) -> "MadeFaces":
        """The same for the same seed."""
        rng = np.random.default_rng(seed)
        named = [point for pair in PAIRS for point in pair]
        rest = [p for p in range(POINTS) if p not in (*MIDDLE, *named)]
        pairs = [*PAIRS, *zip(rest[::2], rest[1::2], strict=False)]
        mean, moves = np.zeros((POINTS, 3)), np.zeros((labels, POINTS, 3))
        mean[list(MIDDLE)] = rng.normal(0, 0.6, (len(MIDDLE), 3)) * (0, 1, 1)
        for left, right in pairs:
            x, y, z = rng.normal(0, 0.6, 3)
            mean[left], mean[right] = (-abs(x) - 0.05, y, z), (abs(x) + 0.05, y, z)
        for left, right in pairs[len(PAIRS) :]:
            move = rng.normal(0, 0.04, (labels, 3))
            moves[:, left], moves[:, right] = move, move * (-1, 1, 1)
        for (left, right), x in zip(PAIRS[3:], (0.7, 0.3), strict=True):
            mean[left], mean[right] = (-x, 0, 0), (x, 0, 0)
        return cls(mean, moves)

    def meshes(self, values: Floats, rng: np.random.Generator, *, shift: float = 0.0) -> Floats:
        """(N, M, 3) in shares of a picture, of people whose labels are `values` (N, K).

        `shift` moves all of them as the last label would: photographs of people who only seem so.
        """
        moved = values.copy()
        moved[:, -1] += shift
        people = rng.normal(0, 0.005, (len(values), POINTS, 3))
        shapes = self.mean + np.einsum("nk,kmc->nmc", moved, self.moves) + people
        turns = Rotation.from_euler("yxz", rng.normal(0, 0.15, (len(values), 3))).as_matrix()
        size = rng.uniform(0.1, 0.3, (len(values), 1, 1))
        return np.asarray(size * shapes @ turns.transpose(0, 2, 1) + rng.uniform(0.4, 0.6, 3))


def save(path: Path, names: list[str], meshes: Floats) -> Path:
    """A file of points, all found."""
    sizes = np.full((len(names), 2), 128, np.int32)
    has_face = np.ones(len(names), bool)
    MeshPoints(tuple(names), has_face, sizes, meshes.astype(np.float32)).save(path)
    return path
