"""Which nuisance change flips a decision about a given face: counts over nuisance counterfactuals
of many faces.

The audit's other two measures move every face by the same amount and count flips; this one finds
for each face the *least* such change that flips one of its decisions, so it shows how close faces
are to biased decisions. Questions are about AUs, a random one a face. Shape letters: N faces, S
side in px.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from affect.counterfactual import CounterfactualQuestion, Explanation, explain
from affect.counterfactual.nuisance import reversed_name
from affect.judge import Judge
from affect.model import AffectModel
from affect.picture_grid import picture_grid
from training.evaluation.core import metrics
from training.evaluation.core.metrics import Interval, mean_interval
from training.evaluation.core.predictions import U8, Faces
from training.evaluation.explanation.questions import ROWS

EXAMPLES = 3
ON_THE_BRINK = "hardly anything: a decision on the brink"


@dataclass(frozen=True)
class FlipCause:
    """One nuisance as the leading cause of decisions that turned."""

    name: str  # in the direction in which it was moved: "light: bright to dim"
    turned: Interval  # share of all asked decisions
    way: float  # how much of the way between its ends was enough, mean
    # share of these that the judge does not follow: weaknesses of this model alone; None without a
    # judge
    own: float | None


@dataclass(frozen=True)
class DecisionFlips:
    """All of them, the commonest first."""

    asked: int
    turned: Interval  # share of decisions that some nuisance flips
    own: float | None
    by: tuple[FlipCause, ...]


def decision_flips(
    model: AffectModel, faces: Faces, judge: Judge | None, *, seed: int
) -> tuple[DecisionFlips, dict[str, U8]]:
    """Ask about one AU of each of N faces; pictures (2 S, EXAMPLES * S, 3) for each cause: faces
    over what turned their decision.
    """
    rng = np.random.default_rng(seed)
    answers = _explain_faces(model, faces, judge, rng)
    leaders = np.array([_leading_cause(one) if one.valid else "" for one in answers])
    weights = metrics.resamplings(faces.identity, rng)
    causes, pictures = [], {}
    for name in sorted(set(leaders) - {""}, key=lambda one: -int((leaders == one).sum())):
        is_leader = leaders == name
        flipped = [
            one for one, is_led_by_it in zip(answers, is_leader, strict=True) if is_led_by_it
        ]
        share = mean_interval(is_leader.astype(np.float64), weights)
        causes.append(FlipCause(name, share, _mean_share(flipped), _own(flipped)))
        pictures[name] = _pictures(flipped[:EXAMPLES])
    any_flip = mean_interval((leaders != "").astype(np.float64), weights)
    own_flips = _own([one for one in answers if one.valid])
    return DecisionFlips(len(answers), any_flip, own_flips, tuple(causes)), pictures


def _explain_faces(
    model: AffectModel, faces: Faces, judge: Judge | None, rng: np.random.Generator
) -> list[Explanation]:
    """A random AU of each face."""
    codes = [str(rng.choice(model.card.vocabulary)) for _ in range(len(faces))]
    questions = [CounterfactualQuestion(code, family="nuisance") for code in codes]
    answers: list[Explanation] = []
    for start in range(0, len(faces), ROWS):
        rows = slice(start, start + ROWS)
        part = explain(model, faces.images[rows], questions[rows], judge=judge)
        answers += [one for one in part if isinstance(one, Explanation)]
    assert len(answers) == len(faces)  # "otherwise" can be asked of every decision
    return answers


def _mean_share(answers: Sequence[Explanation]) -> float:
    """How much of the way between the ends of what moved most was enough, mean over answers."""
    moves = [[abs(end - start) for _, start, end in one.causes] for one in answers]
    return float(np.mean([max(row, default=0.0) for row in moves]))


def _leading_cause(answer: Explanation) -> str:
    """What did most towards the question; a decision very near its threshold flips by less than any
    reported cause.
    """
    if not answer.causes:
        return ON_THE_BRINK
    name, start, end = answer.causes[0]
    return name if end > start else reversed_name(name)


def _own(answers: Sequence[Explanation]) -> float | None:
    agreements = [one.judge_agreement for one in answers if one.judge_agreement is not None]
    return float(np.mean([not one.agrees for one in agreements])) if agreements else None


def _pictures(answers: Sequence[Explanation]) -> U8:
    images = [one.frames[0] for one in answers] + [one.counterfactual for one in answers]
    return picture_grid(images, len(answers))
