"""The field's metrics, each for one label, with cluster bootstrap intervals.

Shape letters: N faces, R resamplings of them, C clusters (people or videos).

Every metric takes truth (N,) and prediction (N,), drops rows where either is NaN (not annotated),
and takes weights (R, N): row r counts how often each face was drawn in resampling r. So one call
gives the metric of all resamplings. `resamplings` puts the data themselves in row 0, so `summary`
finds the figure in entry 0 and its interval in the rest.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Metric = Callable[[Floats, Floats, Floats | None], Floats]
RESAMPLINGS = 400  # enough for the 2.5 % and 97.5 % quantiles to be steady in the second digit
ECE_BINS = 15  # Guo et al. 2017


@dataclass(frozen=True)
class Interval:
    """A figure with the 95 % interval of its bootstrap; `value` is NaN where the figure does not
    exist.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def resamplings(clusters: NDArray[np.generic], rng: Generator, count: int = RESAMPLINGS) -> Floats:
    """(count + 1, N) weights: row 0 is all ones, the others draw the clusters (N,) with
    replacement, whole (Efron & Tibshirani 1993).
    """
    names, member = np.unique(clusters, return_inverse=True)
    drawn = (
        rng.multinomial(len(names), np.full(len(names), 1 / max(len(names), 1)), size=count)
        if len(names)
        else np.ones((count, 0))
    )
    return np.concatenate([np.ones((1, len(member))), drawn[:, member]]).astype(np.float64)


def summary(replicates: Floats, *, lifted: bool = False) -> Interval:
    """Figure and percentile interval of (R,) replicates; resamplings in which the figure does not
    exist are left out.

    `lifted`: resampling itself raises the figure (a calibration error grows with noise), so its
    excess is taken off.
    """
    replicates = np.atleast_1d(replicates)
    drawn = replicates[1:][np.isfinite(replicates[1:])]
    if not len(drawn):
        return Interval(float(replicates[0]), float("nan"), float("nan"))
    if lifted:
        drawn = (drawn - (drawn.mean() - replicates[0])).clip(0)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(float(replicates[0]), float(low), float(high))


def mean_over_labels(replicates: list[Floats]) -> Floats:
    """(R,) mean of several labels' (R,) replicates of the same resamplings; labels whose figure
    does not exist are left out.
    """
    stacked = np.stack(replicates) if replicates else np.full((1, 1), np.nan)
    is_defined = np.isfinite(stacked)
    total = np.where(is_defined, stacked, 0.0).sum(0)
    return _ratio(total, is_defined.sum(0).astype(np.float64))


def mean_interval(values: Floats, weights: Floats) -> Interval:
    """Mean of (N,) values that are figures in themselves; rows where one is NaN (does not apply)
    are left out.
    """
    is_defined = np.isfinite(values)
    return summary(
        _ratio(weights[:, is_defined] @ values[is_defined], weights[:, is_defined].sum(1))
    )


def median_interval(values: Floats, weights: Floats) -> Interval:
    """Median of (N,) values that are figures in themselves: the smallest that half of the weight
    does not exceed.
    """
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[:, order], axis=1)
    return summary(values[order][np.argmax(reached >= reached[:, -1:] / 2, axis=1)])


# -- presence of an AU: truth in {0, 1} ------------------------------------------------------------


def precision(truth: Floats, prediction: Floats, weights: Floats | None = None) -> Floats:
    """TP / (TP + FP) of decisions in {0, 1}; 0 where nothing was called present."""
    hits, predicted, _ = _counts(truth, prediction, weights)
    return _ratio(hits, predicted, empty=0.0)


def recall(truth: Floats, prediction: Floats, weights: Floats | None = None) -> Floats:
    """TP / (TP + FN); NaN where nothing is present."""
    hits, _, present = _counts(truth, prediction, weights)
    return _ratio(hits, present)


def f1(truth: Floats, prediction: Floats, weights: Floats | None = None) -> Floats:
    """2 TP / (2 TP + FP + FN) of decisions in {0, 1}; NaN where nothing is present."""
    hits, predicted, present = _counts(truth, prediction, weights)
    return np.where(present > 0, _ratio(2 * hits, predicted + present), np.nan)


def auc(truth: Floats, prediction: Floats, weights: Floats | None = None) -> Floats:
    """Area under the ROC curve of scores: P(positive above negative) + half of the ties (Hanley &
    McNeil 1982).
    """
    truth, prediction, weights = _known(truth, prediction, weights)
    order = np.argsort(prediction, kind="stable")
    starts = np.flatnonzero(np.diff(prediction[order], prepend=np.nan) != 0)
    if not len(starts):
        return np.full(len(weights), np.nan)
    drawn = weights[:, order]
    positive = np.add.reduceat(drawn * truth[order], starts, axis=1)
    negative = np.add.reduceat(drawn * (1 - truth[order]), starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative / 2
    return _ratio((positive * below).sum(1), positive.sum(1) * negative.sum(1))


def expected_calibration_error(
    truth: Floats, prediction: Floats, weights: Floats | None = None
) -> Floats:
    """Mean |share present - mean probability| over equal bins of the probability, weighted by how
    full they are (Naeini et al. 2015).
    """
    truth, prediction, weights = _known(truth, prediction, weights)
    share, stated, full = reliability(truth, prediction, weights)
    gap: Floats = np.where(full > 0, np.abs(share - stated), 0.0)
    return _ratio((gap * full).sum(1), full.sum(1))


def reliability(
    truth: Floats, prediction: Floats, weights: Floats | None = None
) -> tuple[Floats, Floats, Floats]:
    """Share present, mean probability and weight of each bin, (R, ECE_BINS) each: the points of a
    reliability plot.
    """
    truth, prediction, weights = _known(truth, prediction, weights)
    bin_index = np.clip((prediction * ECE_BINS).astype(int), 0, ECE_BINS - 1)
    member = (bin_index[:, None] == np.arange(ECE_BINS)).astype(np.float64)
    full = weights @ member
    return (
        _ratio(weights @ (member * truth[:, None]), full),
        _ratio(weights @ (member * prediction[:, None]), full),
        full,
    )


# -- valence, arousal and intensities: real numbers ------------------------------------------------


def ccc(truth: Floats, prediction: Floats, weights: Floats | None = None) -> Floats:
    """Concordance correlation: 2 cov / (var x + var y + (mean x - mean y)^2), all faces pooled (Lin
    1989).
    """
    mean_x, mean_y, var_x, var_y, cov = _moments(truth, prediction, weights)
    return _ratio(2 * cov, var_x + var_y + (mean_x - mean_y) ** 2)


def pearson(truth: Floats, prediction: Floats, weights: Floats | None = None) -> Floats:
    """Linear correlation."""
    _, _, var_x, var_y, cov = _moments(truth, prediction, weights)
    return _ratio(cov, np.sqrt(var_x * var_y))


def icc31(truth: Floats, prediction: Floats, weights: Floats | None = None) -> Floats:
    """ICC(3,1): consistency of two raters (Shrout & Fleiss 1979).

    For two of them (BMS - EMS) / (BMS + EMS) = 2 cov / (var x + var y).
    """
    _, _, var_x, var_y, cov = _moments(truth, prediction, weights)
    return _ratio(2 * cov, var_x + var_y)


def rmse(truth: Floats, prediction: Floats, weights: Floats | None = None) -> Floats:
    """Root of the mean squared error."""
    truth, prediction, weights = _known(truth, prediction, weights)
    return np.sqrt(_ratio(weights @ (truth - prediction) ** 2, weights.sum(1)))


def mean_absolute_error(truth: Floats, prediction: Floats, weights: Floats | None = None) -> Floats:
    """Mean |error|."""
    truth, prediction, weights = _known(truth, prediction, weights)
    return _ratio(weights @ np.abs(truth - prediction), weights.sum(1))


def sign_agreement(truth: Floats, prediction: Floats, weights: Floats | None = None) -> Floats:
    """SAGR: share of faces whose sign is right (Nicolaou et al. 2011)."""
    truth, prediction, weights = _known(truth, prediction, weights)
    return _ratio(
        weights @ (np.sign(truth) == np.sign(prediction)).astype(np.float64), weights.sum(1)
    )


# -- what they share -------------------------------------------------------------------------------


def _known(
    truth: Floats, prediction: Floats, weights: Floats | None
) -> tuple[Floats, Floats, Floats]:
    """Rows that are known on both sides, as float64, with (R, N) weights."""
    is_defined = np.isfinite(truth) & np.isfinite(prediction)
    weights = np.ones((1, len(truth))) if weights is None else np.atleast_2d(weights)
    return (
        np.asarray(truth, np.float64)[is_defined],
        np.asarray(prediction, np.float64)[is_defined],
        weights[:, is_defined],
    )


def _counts(
    truth: Floats, prediction: Floats, weights: Floats | None
) -> tuple[Floats, Floats, Floats]:
    """Weight of what is rightly called present, called present, present: (R,) each."""
    truth, prediction, weights = _known(truth, prediction, weights)
    return weights @ (truth * prediction), weights @ prediction, weights @ truth


def _moments(
    truth: Floats, prediction: Floats, weights: Floats | None
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Means, variances (divided by N) and covariance of each resampling, (R,) each."""
    x, y, weights = _known(truth, prediction, weights)
    # centred first: squares lose no digits
    shift_x, shift_y = (float(v.mean()) if len(v) else 0.0 for v in (x, y))
    x, y = x - shift_x, y - shift_y
    total = weights.sum(1)
    mean_x, mean_y = _ratio(weights @ x, total), _ratio(weights @ y, total)
    var_x, var_y = (
        _ratio(weights @ x**2, total) - mean_x**2,
        _ratio(weights @ y**2, total) - mean_y**2,
    )
    return (
        mean_x + shift_x,
        mean_y + shift_y,
        var_x,
        var_y,
        _ratio(weights @ (x * y), total) - mean_x * mean_y,
    )


def _ratio(over: Floats, under: Floats, empty: float = float("nan")) -> Floats:
    """over / under, and `empty` where under is 0."""
    is_defined = under != 0
    return np.where(is_defined, over / np.where(is_defined, under, 1.0), empty)
