"""Explanations of one kind of faces, renders or photographs, as they are served, graded by a second
judge.

What is measured on renders and on photographs answers different questions, so each kind has its
own figures, beside each other and never mixed. N questions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from affect.card import TrustName, TrustRequirement
from affect.judge import Judge
from affect.model import AffectModel
from training.database.reader import Database
from training.evaluation.core import metrics
from training.evaluation.core.metrics import Interval, mean_interval
from training.evaluation.core.predictions import U8, Floats, load_faces
from training.evaluation.explanation.grading import CHANGED, margins
from training.evaluation.explanation.questions import AnsweredQuestions, ask
from training.evaluation.explanation.trust_levels import confirm, fit_levels
from training.evaluation.judge.evaluator import JudgeEvaluator
from training.evaluation.recognition import robustness

LEVELS = ("high", "medium", "low")
# Questions about a face: which one is asked moves the share that is confirmed as much as whose face
# it is, but a third adds little to the bound over people (LOG).
MOST_ROUNDS = 2
# Questions to fit levels for one to measure them: a level needs a bound.
FITTED = 2
NOISE, CROP = 1.5, 3.0  # percent of full scale, of the side


@dataclass(frozen=True)
class Judges:
    """The judge of serving, and the one that grades."""

    served: Judge
    second: Judge


@dataclass(frozen=True)
class DomainFigures:
    """Means over questions about one kind of faces, intervals over people."""

    on: str
    questions: int
    people: int
    validity: Interval
    confirmed: Interval  # of valid ones: share that the second judge confirms
    identity: Interval  # cosine, the model's own embedding
    labels_changed: Interval  # AUs beside the asked that the second judge sees move by over 0.1
    steady_in_noise: Interval  # of valid ones: the decision stays under noise
    steady_in_crop: Interval  # and when the crop moves
    # level -> answers, share that the second judge confirms
    levels: dict[str, tuple[int, Interval | None]]
    high_of_confirmed: Interval  # share of the confirmed answers that get "high"


def fit_trust(
    model: AffectModel,
    judges: Judges,
    databases: Sequence[Database],
    split: str,
    count: int,
    rng: Generator,
) -> dict[TrustName, TrustRequirement]:
    """The levels that answers earn on every database, with about `count` questions about each (see
    `ask_about`); none where one lacks the split.
    """
    if not all(database.count(split) for database in databases):
        return {}
    sets = [
        confirm(
            model,
            judges.second,
            ask_about(model, judges.served, database, split, count, rng),
            name_of(database, split),
        )
        for database in databases
    ]
    return fit_levels(sets, judges.served.card.sha256)


def ask_about(
    model: AffectModel, served: Judge, database: Database, split: str, count: int, rng: Generator
) -> AnsweredQuestions:
    """About `count` questions, answered as they are served: about so many faces, or about fewer
    faces several times, each at most MOST_ROUNDS times.
    """
    faces = load_faces(database, model, split, database.count(split), rng)
    rounds = min(max(1, round(count / len(faces))), MOST_ROUNDS)
    rows = np.concatenate([rng.permutation(len(faces))[:count] for _ in range(rounds)])
    return ask(model, faces.take(rows), rng, served)


def name_of(database: Database, split: str) -> str:
    """What figures are said to be measured on."""
    return f"{database.card.name}, {split}"


def measure_domain(
    model: AffectModel, second: Judge, questions: AnsweredQuestions, on: str, rng: Generator
) -> DomainFigures:
    """Figures of answers, as they were served, about one kind of faces."""
    confirmations = confirm(model, second, questions, on)
    weights = metrics.resamplings(confirmations.identity, rng)
    valid = np.array([one.valid for one in questions.answers])
    confirmed = confirmations.confirmed.astype(np.float64)
    trust = np.array([one.trust for one in questions.answers])

    def mean(values: Floats, among: NDArray[np.bool_] | None = None) -> Interval:
        selected = values if among is None else np.where(among, values, np.nan)
        return mean_interval(selected, weights)

    return DomainFigures(
        on=confirmations.on,
        questions=len(valid),
        people=len(np.unique(confirmations.identity)),
        validity=mean(valid.astype(np.float64)),
        confirmed=mean(confirmed, valid),
        identity=mean(np.array([one.scores["identity"] for one in questions.answers])),
        labels_changed=mean(_others_changed(model, second, questions)),
        steady_in_noise=mean(_steady(model, questions, robustness.noise, NOISE, rng), valid),
        steady_in_crop=mean(_steady(model, questions, robustness.shift, CROP, rng), valid),
        levels={
            level: (
                int((trust == level).sum()),
                mean(confirmed, trust == level) if (trust == level).any() else None,
            )
            for level in LEVELS
        },
        high_of_confirmed=mean((trust == "high").astype(np.float64), confirmations.confirmed),
    )


def _others_changed(model: AffectModel, second: Judge, questions: AnsweredQuestions) -> Floats:
    """(N,) AUs beside the asked whose reading by the second judge moves visibly."""
    evaluator, aus = JudgeEvaluator(second, model), len(model.card.vocabulary)
    before, after = (
        evaluator.read(images)[0][:, :aus]
        for images in (questions.faces.images, questions.counterfactuals)
    )
    changed = np.abs(after - before) > CHANGED
    asks_au = questions.column < aus
    changed[np.flatnonzero(asks_au), questions.column[asks_au]] = False
    return np.asarray(changed.sum(1), np.float64)


def _steady(
    model: AffectModel,
    questions: AnsweredQuestions,
    change: Callable[[U8, float, Generator], U8],
    strength: float,
    rng: Generator,
) -> Floats:
    """(N,) whether an answer is read as was asked after a change of its picture."""
    changed = np.stack([change(image, strength, rng) for image in questions.counterfactuals])
    return (margins(model, questions, changed) > 0).astype(np.float64)
