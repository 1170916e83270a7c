"""Face meshes of many pictures in one Parquet file: what `make mesh` writes and the teacher reads.

One row a picture: its `name` (the key in a database, else the path in a folder), whether a face was
`found`, the picture's `width` and `height` in px, and 478 `points` x, y, z in shares of its longer
side (MediaPipe's face mesh with irises; z towards the viewer is negative), NaN where none was
found. N pictures, M = 478 points.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

Floats = NDArray[np.float32]
POINTS = 478
# MediaPipe's indices; left and right are the picture's.
LEFT_IRIS, RIGHT_IRIS, NOSE_TIP, LEFT_CORNER, RIGHT_CORNER = 468, 473, 1, 61, 291
FIVE = (LEFT_IRIS, RIGHT_IRIS, NOSE_TIP, LEFT_CORNER, RIGHT_CORNER)


class PointsError(ValueError):
    """A file of points that cannot be used: says which and what to do."""


@dataclass(frozen=True)
class MeshPoints:
    """Meshes of N pictures."""

    names: tuple[str, ...]
    found: NDArray[np.bool_]  # (N,)
    sizes: NDArray[np.int32]  # (N, 2) width and height of the picture in px
    points: Floats  # (N, M, 3) in shares of the picture's longer side

    def save(self, path: Path) -> None:
        """Write the Parquet file; it appears whole or not at all."""
        flat = pa.array(self.points.reshape(-1).astype(np.float32))
        table = pa.table(
            {
                "name": list(self.names),
                "found": self.found,
                "width": self.sizes[:, 0].astype(np.int32),
                "height": self.sizes[:, 1].astype(np.int32),
                "points": pa.FixedSizeListArray.from_arrays(flat, 3 * POINTS),
            }
        )
        part = path.with_suffix(".part")
        pq.write_table(table, part, compression="zstd")
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> "MeshPoints":
        """The inverse of `save`. Raises PointsError."""
        try:
            table = pq.read_table(path)
            points = table["points"].combine_chunks().flatten().to_numpy()
            return cls(
                tuple(table["name"].to_pylist()),
                table["found"].to_numpy(),
                np.stack([table["width"].to_numpy(), table["height"].to_numpy()], axis=1),
                points.reshape(-1, POINTS, 3),
            )
        except (OSError, KeyError, ValueError, pa.ArrowInvalid) as error:
            raise PointsError(
                f"{path} is no file of mesh points ({error}); make one with `make mesh`"
            ) from error

    def of(self, names: Sequence[str]) -> tuple[NDArray[np.bool_], Floats]:
        """Which of the named pictures have a mesh (n,), and their points (n, M, 3), else NaN."""
        rows = {name: row for row, name in enumerate(self.names)}
        places = np.array([rows.get(name, -1) for name in names])
        is_found = (places >= 0) & self.found[places]
        points = np.where(is_found[:, None, None], self.points[places], np.float32(np.nan))
        return is_found, points.astype(np.float32)

    def five(self) -> Floats:
        """(N, 5, 2) px of the picture: pupils (iris centres), nose tip, mouth corners."""
        longest = self.sizes.max(1)[:, None, None]
        return np.asarray(self.points[:, list(FIVE), :2] * longest, np.float32)
