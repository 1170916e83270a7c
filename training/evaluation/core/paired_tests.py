"""Two kinds of run over the same seeds: intervals of their means, paired differences, and p-values
corrected for their number.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.95  # of the intervals


@dataclass(frozen=True)
class Difference:
    """The mean over seeds of (first - second), its interval, and the p-value of the paired
    t-test.
    """

    mean: float
    low: float
    high: float
    seeds: int
    p: float


def mean_interval(sample: Sequence[float]) -> tuple[float, float, float]:
    """Mean of at least two seeds and its interval (Student's t)."""
    low, high = stats.t.interval(
        LEVEL, len(sample) - 1, loc=np.mean(sample), scale=stats.sem(sample)
    )
    return float(np.mean(sample)), float(low), float(high)


def difference(first: dict[int, float], second: dict[int, float]) -> Difference | None:
    """Of figures by seed, over the seeds that both have; None where these are fewer than two."""
    seeds = sorted(first.keys() & second.keys())
    if len(seeds) < 2:
        return None
    left, right = (np.array([figures[seed] for seed in seeds]) for figures in (first, second))
    test = stats.ttest_rel(left, right)
    low, high = test.confidence_interval(LEVEL)
    return Difference(
        float((left - right).mean()), float(low), float(high), len(seeds), float(test.pvalue)
    )


def holm(p: Sequence[float]) -> NDArray[np.float64]:
    """Holm's step-down p-values (1979): the k-th smallest of n times n - k + 1, never below the one
    before it.
    """
    order = np.argsort(p)
    adjusted = np.empty(len(p))
    adjusted[order] = np.maximum.accumulate(np.sort(p) * np.arange(len(p), 0, -1)).clip(max=1)
    return adjusted
