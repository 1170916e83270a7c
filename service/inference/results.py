"""The result of an operation: numbers as typed arrays, pictures as encoded bytes, and the problems
of failed rows. Renderers make responses of it: JSON and the picture itself
(service/api/json_answers.py), tensors of the Open Inference Protocol
(service/api/open_inference.py). Shape letters: N rows of the request, F rows of the arrays (faces
that the model answered for), K Action Units.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from affect.answers import RowProblem
from affect.card import ModelCard
from affect.faces import Face
from affect.protocol.messages import ExplanationDetails, Predictions
from affect.protocol.tensor_codec import tensors_of

# Beside encoded images, as measured of predictions with their JSON (18 AUs).
RESULT_BYTES, FACE_BYTES = 1500, 2000
Row = range | RowProblem


@dataclass(frozen=True, eq=False)
class InferenceResult:
    """Base of the three. For each of the N rows of the request `rows` has the indices of its faces
    in the arrays, or its problem. `read` (F) is what the model reads.
    """

    card: ModelCard
    rows: tuple[Row, ...]
    read: Predictions

    @property
    def is_cacheable(self) -> bool:
        """Whether the same request would get the same result again: no row failed by a server
        error.
        """
        return all(isinstance(row, range) or row.status < 500 for row in self.rows)

    @cached_property
    def size_bytes(self) -> int:
        """Its approximate size in memory, its JSON included."""
        images = sum(map(_size, vars(self).values()))
        return RESULT_BYTES + FACE_BYTES * len(self.read) + images

    def distinct_faces(self, row: range) -> range:
        """The indices of a row that are of different faces."""
        return row

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """The result of a request that was done in parts."""
        if len(parts) == 1:
            return parts[0]
        starts = np.cumsum([0, *(len(part.read) for part in parts)]).tolist()
        rows = [
            _moved(row, start)
            for part, start in zip(parts, starts, strict=False)
            for row in part.rows
        ]
        joined = {
            name: _joined([getattr(part, name) for part in parts])
            for name in (field.name for field in fields(cls))
            if name not in ("card", "rows")
        }
        return cls(card=parts[0].card, rows=tuple(rows), **joined)


@dataclass(frozen=True, eq=False)
class PredictionResult(InferenceResult):
    """Faces read. `faces` (F) are where they lie in their pictures; None where one came aligned."""

    faces: tuple[Face | None, ...]


@dataclass(frozen=True, eq=False)
class GenerationResult(InferenceResult):
    """Faces drawn: encoded images (F), their seeds (F,), and the whole state that was asked of the
    model (F, K+2), NaN where it does not know a label. `read` is read off the images."""

    images: tuple[bytes, ...]
    media_type: str
    seeds: NDArray[np.int64]
    requested: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ExplanationResult(InferenceResult):
    """Faces explained: each has as many rows of the arrays as answers were asked for, the least
    change first.

    `label` (F,) is a column of a label row, `target` (F,) its wanted value. Images are PNG. Those
    of the face itself (reconstruction, frames, gradients) stand in its first row, where gradients
    are empty unless somebody asked for them. `details` are None for an answer that was not found.
    """

    faces: tuple[Face | None, ...]
    label: NDArray[np.int32]
    target: NDArray[np.float32]
    details: tuple[ExplanationDetails | None, ...]
    reconstruction: tuple[bytes, ...]
    reconstruction_read: Predictions
    reconstruction_error: NDArray[np.float32]
    frames: tuple[tuple[bytes, ...], ...]
    gradients: tuple[bytes, ...]
    counterfactual: tuple[bytes, ...]
    counterfactual_read: Predictions
    valid: NDArray[np.bool_]
    change_map: tuple[bytes, ...]
    signed_map: tuple[bytes, ...]

    def distinct_faces(self, row: range) -> range:
        """All answers of a row are about one face."""
        return row[:1]


def concatenate_predictions(parts: Sequence[Predictions]) -> Predictions:
    """The rows of all parts, of which there is at least one."""
    if len(parts) == 1:
        return parts[0]
    names = tensors_of(Predictions)
    return Predictions(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    )


def _moved(row: Row, offset: int) -> Row:
    return range(row.start + offset, row.stop + offset) if isinstance(row, range) else row


def _size(value: Any) -> int:
    """Of encoded images, wherever they are."""
    if isinstance(value, tuple):
        return sum(map(_size, value))
    return len(value) if isinstance(value, bytes) else 0


def _joined(values: list[Any]) -> Any:
    first = values[0]
    if isinstance(first, Predictions):
        return concatenate_predictions(values)
    if isinstance(first, np.ndarray):
        return np.concatenate(values)
    return sum(values, ()) if isinstance(first, tuple) else first
