"""Baseline correction: readings as the difference from a person's neutral face.

Faces at rest differ, and without a person's resting face low brows are read as lowered brows
(Baltrusaitis et al. 2015, "Cross-dataset learning and person-specific normalisation for automatic
Action Unit detection"). Intensities lose the baseline's and stay in [0, 1], probabilities follow
from them by the card's calibration, valence and arousal lose the baseline's and stay in [-1, 1].
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from affect.card import ModelCard
from affect.labels import AROUSAL, VALENCE, allowed_range
from affect.local.reading import ActionUnit, LocalReading
from scoring.persons import Person, person_of

BINS = 1024  # resolution of a median: its error is half a bin


class Baseline(Protocol):
    """A source of neutral faces."""

    def of(self, entry: LocalReading) -> Mapping[str, float]:
        """The neutral of the person of this entry: intensity of each AU, valence, arousal."""


class Neutral:
    """The same neutral face for everybody: that of a picture."""

    def __init__(self, reading: LocalReading) -> None:
        self._values = _values(reading)

    def of(self, entry: LocalReading) -> Mapping[str, float]:
        """See `Baseline`."""
        return self._values


class Medians:
    """Each person's median, from histograms: memory does not grow with the video."""

    def __init__(self) -> None:
        self._counts: dict[Person, dict[str, NDArray[np.int64]]] = defaultdict(dict)

    def add(self, entry: LocalReading) -> None:
        """Count one entry."""
        for name, value in _values(entry).items():
            low, high = allowed_range(name)
            counts = self._counts[person_of(entry)].setdefault(name, np.zeros(BINS, np.int64))
            counts[min(BINS - 1, int((value - low) / (high - low) * BINS))] += 1

    def of(self, entry: LocalReading) -> Mapping[str, float]:
        """See `Baseline`."""
        return {
            name: _median(name, counts)
            for name, counts in self._counts.get(person_of(entry), {}).items()
        }


def _median(name: str, counts: NDArray[np.int64]) -> float:
    low, high = allowed_range(name)
    bin_index = int(np.searchsorted(np.cumsum(counts), (counts.sum() + 1) / 2))
    return low + (bin_index + 0.5) / BINS * (high - low)


def corrected(entry: LocalReading, baseline: Baseline, card: ModelCard) -> LocalReading:
    """The entry as difference from its person's neutral."""
    if entry.error is not None:
        return entry
    neutral = baseline.of(entry)
    return replace(
        entry,
        valence=_less(VALENCE, entry.valence, neutral),
        arousal=_less(AROUSAL, entry.arousal, neutral),
        aus={
            code: _unit(card, code, unit, neutral.get(code, 0.0))
            for code, unit in entry.aus.items()
        },
    )


def _less(name: str, value: float | None, neutral: Mapping[str, float]) -> float | None:
    return None if value is None else float(np.clip(value - neutral.get(name, 0.0), -1, 1))


def _unit(card: ModelCard, code: str, unit: ActionUnit, neutral: float) -> ActionUnit:
    intensity = max(0.0, unit.intensity - neutral)
    calibration = card.calibration[code]
    score = calibration.scale * _logit(intensity) + calibration.shift
    probability = 1 / (1 + math.exp(-score)) if score > -700 else 0.0
    sides = (None if side is None else max(0.0, side - neutral) for side in (unit.left, unit.right))
    return ActionUnit(probability, intensity, probability >= calibration.threshold, *sides)


def _logit(share: float) -> float:
    share = min(max(share, 1e-12), 1 - 1e-12)
    return math.log(share / (1 - share))


def _values(entry: LocalReading) -> dict[str, float]:
    numbers = {VALENCE: entry.valence, AROUSAL: entry.arousal}
    values = {name: value for name, value in numbers.items() if value is not None}
    return values | {code: unit.intensity for code, unit in entry.aus.items()}
