"""Fits trust levels: the score from which a second judge confirms the answers of the first.

The score of an answer is computed as in serving, with the judge beside the model; a second judge
decides whether it holds (another seed, other renders, other photographs), by the same rule. A level
is the least score from which on the lower bound of the share that is confirmed is high enough, on
every kind of faces alone (selective classification with guaranteed risk, Geifman & El-Yaniv 2017,
arXiv 1705.08500, without its correction for the scores tried: what a level earns is measured again
on faces that it was not fitted to). The bound is the smaller of Clopper-Pearson's for answers and a
bootstrap over people, since answers about one person are alike. N answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import beta

from affect.card import EarnedTrust, TrustName, TrustRequirement
from affect.counterfactual.judge_agreement import judge_agreements
from affect.counterfactual.trust import REQUIRED_SHARES
from affect.judge import Judge
from affect.model import AffectModel
from training.evaluation.core import metrics
from training.evaluation.core.metrics import mean_interval
from training.evaluation.core.predictions import Floats, batches
from training.evaluation.explanation.questions import AnsweredQuestions

RISK = 0.05  # that a share is in truth below its bound
REDRAWN = 0.95  # share of the measured answers whose faces are drawn well enough for "high"


@dataclass(frozen=True)
class Confirmations:
    """Answers about one kind of faces, and whether a second judge confirms them. Rows N."""

    on: str
    score: Floats  # (N,) in [0, 1]
    in_domain: NDArray[np.bool_]  # (N,) else never "high"
    confirmed: NDArray[np.bool_]  # (N,) by the second judge
    identity: NDArray[np.generic]  # (N,) who it is
    redrawn: Floats  # (N,) share of real faces that the generator draws with less error

    def of(self, level: TrustName, least: float) -> NDArray[np.bool_]:
        """(N,) the answers of that level or a higher one, if it began at this score."""
        enough = (self.score > 0) & (self.score >= least)
        return enough & self.in_domain if level == "high" else enough

    def drawn_within(self, limit: float) -> "Confirmations":
        """The same, where what is drawn worse lies outside the domain."""
        return replace(self, in_domain=self.in_domain & (self.redrawn <= limit))


def confirm(
    model: AffectModel, second: Judge, questions: AnsweredQuestions, on: str
) -> Confirmations:
    """Whether the second judge confirms answers."""
    answers, is_confirmed = questions.answers, list[bool]()
    for rows in batches(len(answers)):
        some, device = answers[rows], model.platt.device
        faces, changed = (
            model.to_pixels(torch.from_numpy(images[rows]).to(device))
            for images in (questions.faces.images, questions.counterfactuals)
        )
        labels = [str(one.question.label) for one in some]
        moved = [one.scores["moved"] for one in some]
        agreements = judge_agreements(second, faces, changed, labels, moved)
        is_confirmed += [one is not None and one.agrees for one in agreements]
    return Confirmations(
        on,
        np.array([one.scores["trust"] for one in answers]),
        np.array([one.scores["in_domain"] == 1 for one in answers]),
        np.array(is_confirmed),
        questions.faces.identity,
        np.array([one.scores["reconstruction_percentile"] for one in answers]),
    )


def fit_levels(sets: Sequence[Confirmations], judge: str = "") -> dict[TrustName, TrustRequirement]:
    """Every level with the score that earns it on every one of the sets, or without one; none where
    nothing was measured. `judge` is the SHA-256 of the one that was asked.
    """
    levels, limit = dict[TrustName, TrustRequirement](), worst_redrawn(sets)
    sets = [one.drawn_within(limit) for one in sets]
    for name, required in REQUIRED_SHARES.items() if sets else ():
        scores = [least_score(one, name, required) for one in sets]
        reached = [one for one in scores if one is not None]
        least = round(max(reached), 4) if len(reached) == len(sets) else None
        shares = tuple(earned(one, name, least or 0.0) for one in sets)
        levels[name] = TrustRequirement(least=least, earned=shares, redrawn=limit, judge=judge)
    return levels


def worst_redrawn(sets: Sequence[Confirmations]) -> float:
    """The largest redrawing error, as a share of real faces, for which answers in the domain were
    measured: the quantile REDRAWN over the kind of faces that is drawn worse.
    """
    chosen = (one.redrawn[one.of("high", 0.0)] for one in sets)
    return max((round(float(np.quantile(x, REDRAWN)), 4) for x in chosen if len(x)), default=1.0)


def least_score(confirmations: Confirmations, level: TrustName, required: float) -> float | None:
    """The least score from which the lower bound of the share of confirmed answers is at least
    `required`; None where there is none.
    """
    for score in np.unique(confirmations.score[confirmations.of(level, 0.0)]):
        chosen = confirmations.of(level, score)
        if lower_bound(confirmations.confirmed[chosen], confirmations.identity[chosen]) >= required:
            return float(score)
    return None


def lower_bound(confirmed: NDArray[np.bool_], identity: NDArray[np.generic]) -> float:
    """Of the share of confirmed answers (N,), one-sided, at a confidence of 1 - RISK."""
    count, right = len(confirmed), int(confirmed.sum())
    exact = float(beta.ppf(RISK, right, count - right + 1)) if right else 0.0
    weights = metrics.resamplings(identity, np.random.default_rng(0))[1:]
    shares = weights @ confirmed / weights.sum(1)
    return min(exact, float(np.quantile(shares, RISK)))


def earned(confirmations: Confirmations, level: TrustName, least: float) -> EarnedTrust:
    """The confirmed share of the answers from a score on; without answers it is unknown."""
    chosen = confirmations.of(level, least)
    if not chosen.any():
        return EarnedTrust(on=confirmations.on, answers=0, confirmed=0.0, low=0.0, high=1.0)
    weights = metrics.resamplings(confirmations.identity[chosen], np.random.default_rng(0))
    share = mean_interval(confirmations.confirmed[chosen].astype(np.float64), weights)
    return EarnedTrust(
        on=confirmations.on,
        answers=int(chosen.sum()),
        confirmed=round(share.value, 4),
        low=round(share.low, 4),
        high=round(share.high, 4),
    )
