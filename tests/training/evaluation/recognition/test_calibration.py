"""Platt scaling against scikit-learn's logistic regression; thresholds against trying them all."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from affect.card import Calibration
from training.evaluation.core import metrics
from training.evaluation.recognition import calibration

RNG = np.random.default_rng(2)
LOGITS = RNG.normal(-1, 2, 3000)
# overconfident and shifted
PRESENT = (RNG.random(3000) < 1 / (1 + np.exp(-(0.4 * LOGITS + 0.8)))).astype(float)


def test_platt_scaling_equals_unpenalised_logistic_regression() -> None:
    expected = LogisticRegression(C=1e9).fit(LOGITS[:, None], PRESENT)
    scale, shift = calibration.platt(LOGITS, PRESENT)
    # Platt's smoothed targets differ a little
    assert scale == pytest.approx(expected.coef_[0, 0], abs=5e-3)
    assert shift == pytest.approx(expected.intercept_[0], abs=5e-3)


def test_calibration_lowers_the_expected_calibration_error() -> None:
    fitted = calibration.fit(LOGITS[::2], PRESENT[::2])
    raw = 1 / (1 + np.exp(-LOGITS[1::2]))
    mended = 1 / (1 + np.exp(-(fitted.scale * LOGITS[1::2] + fitted.shift)))
    before, after = (metrics.expected_calibration_error(PRESENT[1::2], p)[0] for p in (raw, mended))
    assert after < 0.05 < before


def test_the_threshold_is_the_best_of_all() -> None:
    probability = np.round(1 / (1 + np.exp(-LOGITS[:300])), 2)
    chosen = calibration.best_threshold(probability, PRESENT[:300])
    best = max(f1_score(PRESENT[:300], probability >= t) for t in np.linspace(0.001, 0.999, 999))
    assert f1_score(PRESENT[:300], probability >= chosen) == pytest.approx(best)


def test_with_few_positives_the_fitted_threshold_does_better_on_other_faces_than_counting() -> None:
    rng, gained = np.random.default_rng(4), []
    other = PRESENT[1500:], LOGITS[1500:]
    for _ in range(60):
        rows = rng.choice(1500, 40, replace=False)
        fitted = calibration.fit(LOGITS[rows], PRESENT[rows])
        few, many = (
            1 / (1 + np.exp(-(fitted.scale * logits + fitted.shift)))
            for logits in (LOGITS[rows], other[1])
        )
        counted = calibration.best_threshold(few, PRESENT[rows])
        gained.append(
            f1_score(other[0], many >= fitted.threshold) - f1_score(other[0], many >= counted)
        )
    assert np.mean(gained) > 0


def test_an_au_that_is_hardly_ever_seen_stays_uncalibrated() -> None:
    assert calibration.fit(LOGITS, np.zeros(3000)) == Calibration()
    assert calibration.fit(LOGITS, np.full(3000, np.nan)) == Calibration()


def test_a_logit_that_points_the_wrong_way_becomes_the_base_rate() -> None:
    fitted = calibration.fit(-LOGITS, PRESENT)
    probability = 1 / (1 + np.exp(-(fitted.scale * -LOGITS + fitted.shift)))
    assert fitted.scale > 0
    assert np.abs(probability - PRESENT.mean()).max() < 0.02


def test_perfectly_parted_faces_give_a_finite_calibration() -> None:
    fitted = calibration.fit(np.linspace(-3, 3, 100), (np.linspace(-3, 3, 100) > 0).astype(float))
    assert 0 < fitted.scale < 100
    assert 0 < fitted.threshold < 1


def test_a_threshold_is_raised_until_three_in_a_hundred_people_at_rest_are_called() -> None:
    rest = np.random.default_rng(5).normal(0, 2, 400)
    adjusted = calibration.raised_for_rest(Calibration(threshold=0.5), rest)
    probability = 1 / (1 + np.exp(-rest))
    assert (probability >= 0.5).mean() > 0.4
    assert 0.027 <= (probability >= adjusted.threshold).mean() <= calibration.REST_ALARMS


def test_a_threshold_that_few_people_at_rest_reach_stays() -> None:
    fitted = Calibration(scale=1.5, shift=-0.2, threshold=0.4)
    assert calibration.raised_for_rest(fitted, np.full(50, -6.0)) == fitted
    assert calibration.raised_for_rest(fitted, np.array([])) == fitted


def test_people_at_rest_who_are_read_alike_are_all_below_the_threshold() -> None:
    adjusted = calibration.raised_for_rest(Calibration(), np.full(40, 3.0))
    assert 1 / (1 + np.exp(-3.0)) < adjusted.threshold < 1
