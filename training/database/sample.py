"""One annotated face, and its permanent split."""

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

TRAIN, VALIDATION, TEST = SPLITS = ("train", "validation", "test")
SHARES = {TRAIN: 0.80, VALIDATION: 0.08, TEST: 0.12}


@dataclass(frozen=True, kw_only=True)
class Sample:
    """An aligned crop with everything known about it."""

    key: str  # unique in the database; no dots or slashes
    image: bytes  # PNG, JPEG or WebP as stored
    labels: NDArray[np.float32]  # (K + 2,) row of the database's vocabulary, NaN = not annotated
    source: str
    identity: str
    video: str = ""
    # same person, light and pose in several states; the samples of a group follow one another
    twin_group: str = ""
    # attributes that results are broken down by
    groups: dict[str, str] = field(default_factory=dict)
    # whatever else is true: emotion, pose, landmarks
    truth: dict[str, Any] = field(default_factory=dict)
    # how often training draws it, beside 1 for the average picture of the database
    weight: float = 1.0
    # its split, where that is not left to the hash: an official split, or that of the database it
    # was merged from
    assigned: str = ""

    @property
    def split(self) -> str:
        """By a hash of who (or which video) it shows: the same person never stands on two sides, in
        any database.
        """
        return self.assigned or split_of(self.source, self.video or self.identity or self.key)


def split_of(source: str, unit: str) -> str:
    """The split of a person or a video of a source."""
    position = place_of(source, unit)
    if position < SHARES[TRAIN]:
        return TRAIN
    return VALIDATION if position < SHARES[TRAIN] + SHARES[VALIDATION] else TEST


def place_of(source: str, unit: str) -> float:
    """A hash in [0, 1)."""
    return int.from_bytes(sha256(f"{source}/{unit}".encode()).digest()[:8], "big") / 2**64
