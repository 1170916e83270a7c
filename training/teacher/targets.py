"""The targets of regression from a mesh, as the columns of one matrix: AUs, valence and arousal,
pose, and sides.

Shape letters: N faces, K Action Units, T = K + 2 + 3 + O columns, O one-sided Action Units.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from affect.catalogue import ONE_SIDED
from affect.labels import POSE
from training.database.annotations import Annotations

Floats = NDArray[np.float64]
MIRRORED_POSE = (-1.0, 1.0, -1.0)  # yaw and roll change their sign in a mirror, pitch does not


@dataclass(frozen=True)
class Targets:
    """The layout of the columns for a vocabulary."""

    aus: tuple[str, ...]

    @property
    def one_sided(self) -> tuple[str, ...]:
        """AUs whose left less right is a column."""
        return tuple(code for code in self.aus if code in ONE_SIDED)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the T columns."""
        sides = (f"{code} left less right" for code in self.one_sided)
        return (*self.aus, "valence", "arousal", *POSE, *sides)

    @property
    def signs(self) -> Floats:
        """(T,) what a mirror does to each column."""
        same = np.ones(len(self.aus) + 2)
        return np.concatenate([same, MIRRORED_POSE, -np.ones(len(self.one_sided))])

    @property
    def au(self) -> slice:
        """The AUs' columns."""
        return slice(0, len(self.aus))

    @property
    def va(self) -> slice:
        """Those of valence and arousal."""
        return slice(len(self.aus), len(self.aus) + 2)

    @property
    def pose(self) -> slice:
        """Those of yaw, pitch and roll in degrees."""
        return slice(len(self.aus) + 2, len(self.aus) + 5)

    @property
    def sides(self) -> slice:
        """Those of left less right."""
        return slice(len(self.aus) + 5, len(self.names))

    def of(self, labels: NDArray[np.float32], annotations: Annotations) -> Floats:
        """(N, T) from label rows (N, K + 2) and what stands beside them; NaN is unknown."""
        places = [self.aus.index(code) for code in self.one_sided]
        tilt = annotations.sides[:, 0, places] - annotations.sides[:, 1, places]
        return np.concatenate([labels, annotations.pose, tilt], axis=1).astype(np.float64)
