"""Annotations beside the label row: expression, pose, sides, and the confidence of each label.

It lies in the `truth` of a sample under the names below, so that older databases simply lack it.
Shape letters: N rows, K Action Units.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affect.labels import DIMENSIONS, EXPRESSIONS, POSE
from affect.rows import take_rows
from training.database.reader import Database

EXPRESSION, POSE_DEGREES, SIDES, CONFIDENCE = "expression", "pose_degrees", "sides", "confidence"
UNKNOWN = -1  # an expression that was not annotated


@dataclass(frozen=True)
class Annotations:
    """Columns beside the label rows; each array's first axis is N."""

    expression: NDArray[np.int64]  # (N,) index into EXPRESSIONS, -1 unknown
    pose: NDArray[np.float32]  # (N, 3) degrees, NaN unknown
    sides: NDArray[np.float32]  # (N, 2, K) intensity of the person's left, then right; NaN unknown
    confidence: NDArray[np.float32]  # (N, K + 2) in [0, 1], 1 where a label is simply true

    @classmethod
    def unknown(cls, count: int, aus: int) -> "Annotations":
        """Of rows and Action Units without annotations; the confidence of every label is 1."""
        return cls(
            np.full(count, UNKNOWN, np.int64),
            np.full((count, len(POSE)), np.nan, np.float32),
            np.full((count, 2, aus), np.nan, np.float32),
            np.ones((count, aus + len(DIMENSIONS)), np.float32),
        )

    def take(self, rows: NDArray[np.integer]) -> "Annotations":
        """The rows named."""
        return take_rows(self, rows)

    def __len__(self) -> int:
        return len(self.expression)


def project(rows: Annotations, names: Sequence[str], source: Sequence[str]) -> Annotations:
    """The same for the AUs `names` instead of `source`; what `source` lacks is unknown and
    certain.
    """
    sides = np.full((len(rows), 2, len(names)), np.nan, np.float32)
    confidence = np.ones((len(rows), len(names) + len(DIMENSIONS)), np.float32)
    confidence[:, len(names) :] = rows.confidence[:, len(source) :]
    for index, code in enumerate(names):
        if code in source:
            sides[:, :, index] = rows.sides[:, :, source.index(code)]
            confidence[:, index] = rows.confidence[:, source.index(code)]
    return Annotations(rows.expression, rows.pose, sides, confidence)


def annotated(rows: Annotations, aus: Sequence[str]) -> "Annotated":
    """Which kinds of annotation any row has."""
    known = np.asarray(np.isfinite(rows.sides).any((0, 1)))
    return Annotated(
        expressions=EXPRESSIONS if (rows.expression >= 0).any() else (),
        pose=bool(np.isfinite(rows.pose).any()),
        one_sided=tuple(code for code, has_sides in zip(aus, known, strict=True) if has_sides),
    )


@dataclass(frozen=True)
class Annotated:
    """What a model can learn beside labels: the fields of its card."""

    expressions: tuple[str, ...] = ()
    pose: bool = False
    one_sided: tuple[str, ...] = ()


def expression_weights(rows: Annotations) -> NDArray[np.float32]:
    """(E,) weight of each class in a loss: the root of how much rarer it is than the mean class."""
    counts = np.bincount(rows.expression[rows.expression >= 0], minlength=len(EXPRESSIONS))
    weights = np.sqrt(counts.sum() / len(EXPRESSIONS) / np.maximum(counts, 1))
    return np.asarray(np.clip(weights, 0.2, 5.0), np.float32)


def read_annotations(database: Database, split: str) -> Annotations:
    """All rows of a split."""
    texts = database.table(split, ["truth"])["truth"].to_pylist()
    aus = database.card.vocabulary
    annotations = Annotations.unknown(len(texts), len(aus))
    for row, text in enumerate(texts):
        _fill(annotations, row, json.loads(text), aus)
    return annotations


def _fill(annotations: Annotations, row: int, truth: Mapping[str, Any], aus: Sequence[str]) -> None:
    if (name := truth.get(EXPRESSION)) in EXPRESSIONS:
        annotations.expression[row] = EXPRESSIONS.index(name)
    if pose := truth.get(POSE_DEGREES):
        annotations.pose[row] = [pose[axis] for axis in POSE]
    for side, name in enumerate(("left", "right")):
        for code, value in truth.get(SIDES, {}).get(name, {}).items():
            if code in aus:
                annotations.sides[row, side, aus.index(code)] = value
    for name, value in truth.get(CONFIDENCE, {}).items():
        columns = (*aus, *DIMENSIONS)
        if name in columns:
            annotations.confidence[row, columns.index(name)] = value
