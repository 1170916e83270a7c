"""Metrics against scikit-learn, torchmetrics and textbook formulas; the bootstrap against repeated
experiments.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torchmetrics.classification import BinaryCalibrationError
from torchmetrics.regression import ConcordanceCorrCoef

from training.evaluation.core import metrics

RNG = np.random.default_rng(5)
TRUTH = (RNG.random(400) < 0.3).astype(float)
SCORE = np.clip(0.3 * TRUTH + RNG.random(400) * 0.7, 0, 1).round(2)  # rounded: ties
DECIDED = (SCORE > 0.5).astype(float)
X = RNG.normal(0.2, 0.5, 400)
Y = 0.7 * X + RNG.normal(0, 0.2, 400)
COUNTS = RNG.integers(0, 4, (3, 400)).astype(float)


@pytest.mark.parametrize(
    ("ours", "theirs", "guess"),
    [
        (metrics.f1, sk.f1_score, DECIDED),
        (metrics.precision, sk.precision_score, DECIDED),
        (metrics.recall, sk.recall_score, DECIDED),
        (metrics.auc, sk.roc_auc_score, SCORE),
    ],
)
def test_presence_metrics_equal_scikit_learn_for_every_resampling(
    ours: Callable[..., Any], theirs: Callable[..., Any], guess: Any
) -> None:
    expected = [theirs(TRUTH, guess, sample_weight=weights) for weights in COUNTS]
    np.testing.assert_allclose(ours(TRUTH, guess, COUNTS), expected, rtol=1e-9)


def test_calibration_error_equals_torchmetrics() -> None:
    expected = BinaryCalibrationError(n_bins=metrics.ECE_BINS, norm="l1")(
        torch.tensor(SCORE), torch.tensor(TRUTH).int()
    )
    assert metrics.expected_calibration_error(TRUTH, SCORE)[0] == pytest.approx(
        float(expected), abs=1e-6
    )


def test_concordance_equals_torchmetrics_up_to_its_n_minus_1() -> None:
    expected = float(ConcordanceCorrCoef()(torch.tensor(Y), torch.tensor(X)))
    assert metrics.ccc(X, Y)[0] == pytest.approx(expected, abs=2e-3)
    by_hand = 2 * np.cov(X, Y, bias=True)[0, 1] / (X.var() + Y.var() + (X.mean() - Y.mean()) ** 2)
    assert metrics.ccc(X, Y)[0] == pytest.approx(by_hand, rel=1e-12)


def test_icc31_equals_the_analysis_of_variance_it_is_defined_by() -> None:
    ratings = np.stack([X, Y], axis=1)
    people, raters = ratings.shape
    between = raters * ((ratings.mean(1) - ratings.mean()) ** 2).sum() / (people - 1)
    residual = ratings - ratings.mean(1, keepdims=True) - ratings.mean(0) + ratings.mean()
    error = (residual**2).sum() / ((people - 1) * (raters - 1))
    assert metrics.icc31(X, Y)[0] == pytest.approx((between - error) / (between + error), rel=1e-9)


def test_the_other_real_valued_metrics_equal_numpy_and_scikit_learn() -> None:
    assert metrics.rmse(X, Y)[0] == pytest.approx(sk.mean_squared_error(X, Y) ** 0.5)
    assert metrics.mean_absolute_error(X, Y)[0] == pytest.approx(sk.mean_absolute_error(X, Y))
    assert metrics.pearson(X, Y)[0] == pytest.approx(np.corrcoef(X, Y)[0, 1])
    assert metrics.sign_agreement(X, Y)[0] == pytest.approx(((X > 0) == (Y > 0)).mean())


@pytest.mark.parametrize(
    "metric", [metrics.ccc, metrics.rmse, metrics.icc31, metrics.sign_agreement, metrics.pearson]
)
def test_a_weight_of_two_counts_a_face_twice(metric: Callable[..., Any]) -> None:
    twice = np.repeat(np.arange(400), COUNTS[0].astype(int))
    np.testing.assert_allclose(metric(X, Y, COUNTS[:1]), metric(X[twice], Y[twice]), rtol=1e-9)


@pytest.mark.parametrize(
    "metric",
    [metrics.f1, metrics.auc, metrics.ccc, metrics.rmse, metrics.expected_calibration_error],
)
def test_faces_without_a_label_are_dropped(metric: Callable[..., Any]) -> None:
    truth = np.where(np.arange(400) % 3 == 0, np.nan, TRUTH)
    known = np.isfinite(truth)
    guess = DECIDED if metric is metrics.f1 else SCORE
    assert metric(truth, guess)[0] == pytest.approx(metric(TRUTH[known], guess[known])[0])


@pytest.mark.parametrize("metric", [metrics.f1, metrics.auc, metrics.recall])
def test_an_au_that_nobody_shows_has_no_figure(metric: Callable[..., Any]) -> None:
    assert np.isnan(metric(np.zeros(10), np.ones(10))[0])


def test_people_are_resampled_whole() -> None:
    people = np.repeat(np.arange(20), 5)
    weights = metrics.resamplings(people, np.random.default_rng(0), 50)
    assert (weights[0] == 1).all()
    assert (weights.reshape(51, 20, 5).std(2) == 0).all()
    assert (weights.sum(1) == 100).all()


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng, hits = np.random.default_rng(1), 0
    for _ in range(200):
        people = np.repeat(rng.normal(size=60), 4)  # four pictures of each are nearly the same
        truth, guess = people, people + np.repeat(rng.normal(0.5, 1, 60), 4)
        weights = metrics.resamplings(np.repeat(np.arange(60), 4), rng, 200)
        interval = metrics.summary(metrics.rmse(truth, guess, weights))
        hits += interval.low <= 1.25**0.5 <= interval.high
    assert 0.88 <= hits / 200 <= 0.99


def test_the_mean_over_labels_leaves_out_labels_without_a_figure() -> None:
    mean = metrics.mean_over_labels([np.array([0.5, 0.7]), np.array([np.nan, 0.1])])
    np.testing.assert_allclose(mean, [0.5, 0.4])


def test_the_median_of_every_resampling_is_that_of_the_faces_it_holds() -> None:
    interval = metrics.median_interval(X, np.ones((1, 400)))
    assert interval.value == pytest.approx(np.quantile(X, 0.5, method="inverted_cdf"))
    repeated = [np.quantile(X, 0.5, method="inverted_cdf", weights=weights) for weights in COUNTS]
    both = metrics.median_interval(X, np.concatenate([np.ones((1, 400)), COUNTS]))
    assert (both.low, both.high) == pytest.approx(tuple(np.quantile(repeated, [0.025, 0.975])))


def test_the_interval_of_a_calibration_error_holds_its_figure() -> None:
    rng = np.random.default_rng(3)
    probability = rng.random(500)
    present = (rng.random(500) < probability).astype(float)
    replicates = metrics.expected_calibration_error(
        present, probability, metrics.resamplings(np.arange(500), rng)
    )
    interval = metrics.summary(replicates, lifted=True)
    assert interval.low < interval.value < interval.high
