"""Is the stronger of two faces of one person read as the stronger?

Smile against neutral, twin against twin.

The result does not depend on thresholds, on calibration, or on how a person's face looks at rest.
Shape letters: N faces, P pairs, K Action Units.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from affect.card import ModelCard
from training.evaluation.core.metrics import Interval
from training.evaluation.core.predictions import Faces, Floats, Read

APART = 0.3  # labels of a pair that differ by less are not compared
FEWEST_PAIRS = 5


@dataclass(frozen=True)
class PairwiseRanking:
    """One label: share of pairs whose stronger face is read as stronger, ties counting half.

    Wilson's interval, which is valid at 1 too.
    """

    name: str
    pairs: int
    right: Interval


def pairwise_rankings(card: ModelCard, faces: Faces, read: Read) -> tuple[PairwiseRanking, ...]:
    """Every label that FEWEST_PAIRS pairs of faces differ in.

    Faces of one pair follow one another, round in a circle if they are more.
    """
    first, second = _pairs(faces.pair)
    rankings = []
    for column, name in enumerate(card.labels_of.names):
        if not card.learns(name):
            continue
        true_difference = faces.truth[first, column] - faces.truth[second, column]
        compared = np.abs(np.nan_to_num(true_difference)) >= APART
        observed = read.labels[first, column] - read.labels[second, column]
        if compared.sum() >= FEWEST_PAIRS:
            rankings.append(
                PairwiseRanking(
                    name,
                    int(compared.sum()),
                    _share(np.sign(true_difference[compared]) * np.sign(observed[compared])),
                )
            )
    return tuple(rankings)


def _pairs(names: NDArray[np.str_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(P,) rows of either side: each face with the next of its name; two faces are one pair."""
    first, second = [], []
    for name in np.unique(names[names != ""]):
        rows = np.flatnonzero(names == name)
        sides = rows[:-1] if len(rows) <= 2 else rows
        first += sides.tolist()
        second += np.roll(rows, -1)[: len(sides)].tolist()
    return np.array(first, np.intp), np.array(second, np.intp)


def _share(agreement: Floats) -> Interval:
    """From +1 right, 0 tied, -1 wrong."""
    share, count = float((1 + agreement).mean() / 2), len(agreement)
    interval = binomtest(round(share * count), count).proportion_ci(method="wilson")
    return Interval(share, float(interval.low), float(interval.high))
