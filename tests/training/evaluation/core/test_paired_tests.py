"""Paired differences against the one-sample test of the differences, Holm's p-values against the
closed test that they abbreviate.
"""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from training.evaluation.core.paired_tests import difference, holm, mean_interval


def test_a_difference_is_the_one_sample_test_of_the_differences_of_shared_seeds() -> None:
    first, second = {0: 0.61, 1: 0.58, 2: 0.66, 7: 0.99}, {2: 0.60, 0: 0.55, 1: 0.56, 9: 0.01}
    result = difference(first, second)
    alone = stats.ttest_1samp([0.06, 0.02, 0.06], 0)
    assert result is not None and result.seeds == 3
    assert (result.mean, result.p) == pytest.approx((0.14 / 3, alone.pvalue))
    assert (result.low, result.high) == pytest.approx(tuple(alone.confidence_interval(0.95)))
    assert difference({0: 0.5, 1: 0.6}, {1: 0.5, 2: 0.5}) is None


def test_holm_is_the_closed_test_with_bonferroni_in_every_subset() -> None:
    """A hypothesis is rejected when every subset of hypotheses that holds it is, by its smallest p
    times its size.
    """
    rng = np.random.default_rng(0)
    for count in (1, 4, 7):
        p = rng.random(count) ** 3
        subsets = [set(s) for size in range(1, count + 1) for s in combinations(range(count), size)]
        closed = [
            max(min(1.0, len(s) * min(p[j] for j in s)) for s in subsets if k in s)
            for k in range(count)
        ]
        assert holm(list(p)) == pytest.approx(closed)


def test_the_interval_of_a_mean_covers_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = [
        low <= 3 <= high
        for _, low, high in (mean_interval(list(rng.normal(3, 2, 5))) for _ in range(2_000))
    ]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)
