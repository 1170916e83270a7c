"""Per AU: a logit becomes a probability (Platt scaling), and a probability a decision (the
threshold that is best for F1).

The threshold is best for the F1 that the calibrated probabilities themselves lead to expect, not
for the F1 counted on the validation faces: the count depends on a few positives near the threshold.
On the shipped 64 px weights, test F1 was .578 instead of .556 with 5 to 9 positives, .561 instead
of .542 with 10 to 19, and .614 instead of .611 with all 1,208 validation faces.

Fitted on the validation split, written into the model's card, judged on the test split.

Thresholds that are best on rendered faces call Action Units present on people at rest: their
wrinkles and resting shapes are no expression. Where photographs of people at rest are known, each
threshold is raised until hardly any of them is called (`raised_for_rest`).
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from affect.card import Calibration

Floats = NDArray[np.float64]
NEWTON_STEPS = 50
FEWEST = 5  # present and absent faces below which nothing can be fitted
REST_ALARMS = 0.03  # largest share of people at rest on whom an AU may be called present
STEP = 1e-4  # a raised threshold lies so far above the probability it keeps out
HIGHEST = 1 - 1e-6


def fit(logits: Floats, present: Floats) -> Calibration:
    """Calibration of one AU from logits (N,) and presence (N,) in {0, 1}, NaN = unknown; the
    neutral one where data are too few.
    """
    known = np.isfinite(present) & np.isfinite(logits)
    logits, present = np.asarray(logits, np.float64)[known], np.asarray(present, np.float64)[known]
    if min(present.sum(), (1 - present).sum()) < FEWEST:
        return Calibration()
    scale, shift = platt(logits, present)
    probability = expit(scale * logits + shift)
    return Calibration(scale=scale, shift=shift, threshold=best_threshold(probability, probability))


def raised_for_rest(fitted: Calibration, logits: Floats) -> Calibration:
    """The calibration of one AU with a threshold at which at most REST_ALARMS of N people at rest,
    logits (N,), are called present: the fitted one where that is so already.
    """
    probability = np.sort(expit(fitted.scale * logits + fitted.shift))[::-1]
    allowed = int(REST_ALARMS * len(probability))
    if allowed >= len(probability) or probability[allowed] < fitted.threshold:
        return fitted
    threshold = min(float(probability[allowed]) + STEP, HIGHEST)
    return fitted.model_copy(update={"threshold": threshold})


def platt(logits: Floats, present: Floats) -> tuple[float, float]:
    """Scale > 0 and shift that make sigmoid(scale * logit + shift) likeliest, with Platt's smoothed
    targets (1999, section 2.2).
    """
    positives, negatives = present.sum(), (1 - present).sum()
    target = np.where(present > 0.5, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    spread = float(logits.std()) or 1.0
    design = np.stack([logits / spread, np.ones_like(logits)], axis=1)
    weights = _newton(design, target)
    if weights[0] <= 0:  # the logit says nothing, or the opposite: only the base rate can be learnt
        weights = np.array([1e-3, np.log(positives / negatives)])
    return float(weights[0] / spread), float(weights[1])


def _newton(design: Floats, target: Floats) -> Floats:
    """Logistic regression by Newton's method with step halving; design (N, 2), target (N,) in (0,
    1).
    """
    weights = np.array([0.0, float(np.log(target.mean() / (1 - target.mean())))])
    loss = _cross_entropy(design @ weights, target)
    for _ in range(NEWTON_STEPS):
        probability = expit(design @ weights)
        gradient = design.T @ (probability - target)
        curvature = (
            design * (probability * (1 - probability))[:, None]
        ).T @ design + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        for share in 0.5 ** np.arange(20):
            new_loss = _cross_entropy(design @ (weights - share * step), target)
            if new_loss <= loss:
                break
        weights, gain, loss = weights - share * step, loss - new_loss, new_loss
        if gain < 1e-10:
            break
    return weights


def best_threshold(probability: Floats, present: Floats) -> float:
    """The threshold in (0, 1) with the highest F1, halfway between the two probabilities it parts.

    `present` is 0 or 1, or how likely presence is: then the F1 is the ratio of expected counts
    (Lipton et al. 2014).
    """
    order = np.argsort(-probability, kind="stable")
    sorted_probability, hits = probability[order], np.cumsum(present[order])
    score = 2 * hits / (np.arange(1, len(hits) + 1) + present.sum())
    last_of_ties = np.append(np.diff(sorted_probability) != 0, True)
    best = int(np.argmax(np.where(last_of_ties, score, -1)))
    below = sorted_probability[best + 1] if best + 1 < len(sorted_probability) else 0.0
    return float(np.clip((sorted_probability[best] + below) / 2, 1e-6, 1 - 1e-6))


def _cross_entropy(logit: Floats, target: Floats) -> float:
    return float(np.sum(np.logaddexp(0, logit) - target * logit))
