"""One layout for every label row, and its mask.

A row is a float32 vector [intensity of each AU in [0, 1] ..., valence, arousal in [-1, 1]] of
length K + 2 in the order of a vocabulary of K Action Units. NaN is "not annotated": the mask
travels inside the row, so no loss, metric or file can mistake a missing label for a zero.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from affect.catalogue import CATALOGUE

VALENCE, AROUSAL = "valence", "arousal"
DIMENSIONS = (VALENCE, AROUSAL)

# The classes of the ABAW challenges, in their order (Kollias 2022, arXiv 2202.10659).
EXPRESSIONS = ("neutral", "anger", "disgust", "fear", "happiness", "sadness", "surprise", "other")
# Degrees; yaw > 0 towards the picture's right, pitch > 0 up, roll > 0 clockwise.
POSE = ("yaw", "pitch", "roll")

# Which labels a run learns from: the three experiments of the paper.
AU_ONLY, VA_ONLY, BOTH = "au", "va", "both"


class LabelError(ValueError):
    """An invalid label: names the field, the value and the allowed range."""

    def __init__(self, field: str, value: object, remedy: str) -> None:
        super().__init__(f"{field} is {value!r}; {remedy}")
        self.field, self.value, self.remedy = field, value, remedy


@dataclass(frozen=True)
class Vocabulary:
    """The Action Units of a data set or a model, in order.

    Raises LabelError for a code that FACS does not know.
    """

    aus: tuple[str, ...]

    def __post_init__(self) -> None:
        for code in self.aus:
            if code not in CATALOGUE:
                raise LabelError(
                    "vocabulary", code, f"known Action Units are {', '.join(CATALOGUE)}"
                )
        if len(set(self.aus)) != len(self.aus):
            raise LabelError("vocabulary", self.aus, "name every Action Unit once")

    def __len__(self) -> int:
        return len(self.aus)

    def __iter__(self) -> Iterator[str]:
        return iter(self.aus)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the K + 2 columns of a row."""
        return (*self.aus, *DIMENSIONS)

    def union(self, other: "Vocabulary") -> "Vocabulary":
        """Every Action Unit of both, in FACS order."""
        return Vocabulary(
            tuple(sorted({*self.aus, *other.aus}, key=lambda code: CATALOGUE[code].number))
        )

    def row(self, labels: Mapping[str, float]) -> np.ndarray:
        """(K + 2,) float32 from named values; what is absent is NaN.

        Raises LabelError for unknown names and values.
        """
        row = np.full(len(self.names), np.nan, dtype=np.float32)
        for name, value in labels.items():
            row[self.index(name)] = check(name, value)
        return row

    def index(self, name: str) -> int:
        """The column of an AU code, "valence" or "arousal"."""
        if name not in self.names:
            raise LabelError("label", name, f"this vocabulary has {', '.join(self.names)}")
        return self.names.index(name)

    def named(self, row: Sequence[float] | np.ndarray) -> dict[str, float]:
        """The known labels of one row by name."""
        return {
            name: float(value)
            for name, value in zip(self.names, row, strict=True)
            if not np.isnan(value)
        }

    def project(self, rows: np.ndarray, source: "Vocabulary") -> np.ndarray:
        """(N, K_source + 2) rows of another vocabulary in this one's columns (N, K + 2); what it
        lacks is NaN.
        """
        projected = np.full((len(rows), len(self.names)), np.nan, dtype=np.float32)
        for column, name in enumerate(self.names):
            if name in source.names:
                projected[:, column] = rows[:, source.names.index(name)]
        return projected


def allowed_range(name: str) -> tuple[float, float]:
    """The closed range of a label: [-1, 1] for valence and arousal, [0, 1] for the intensity of an
    Action Unit.
    """
    return (-1.0, 1.0) if name in DIMENSIONS else (0.0, 1.0)


def check(name: str, value: float) -> float:
    """The value as a float, or LabelError when it is not a number in the label's range."""
    low, high = allowed_range(name)
    if not low <= value <= high:  # also true for NaN
        raise LabelError(name, value, f"give a number from {low:g} to {high:g}")
    return float(value)


def mask_labels(rows: np.ndarray, labels: str) -> np.ndarray:
    """A copy of (N, K + 2) rows in which a run on `au`, `va` or `both` sees only its own kind of
    label.
    """
    if labels not in (AU_ONLY, VA_ONLY, BOTH):
        raise LabelError("labels", labels, f"choose {AU_ONLY}, {VA_ONLY} or {BOTH}")
    visible = rows.copy()
    if labels == AU_ONLY:
        visible[:, -2:] = np.nan
    if labels == VA_ONLY:
        visible[:, :-2] = np.nan
    return visible
