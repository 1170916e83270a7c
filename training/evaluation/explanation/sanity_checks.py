"""Sanity checks of explanations: the null edit, stability under noise, whether the changed pixels
decide, and whether several answers differ.

Shape letters: N questions, S side in px.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.random import Generator

from affect.model import AffectModel
from training.evaluation.core import metrics
from training.evaluation.core.metrics import Interval, mean_interval
from training.evaluation.core.predictions import U8, Floats, in_batches
from training.evaluation.explanation.questions import AnsweredQuestions, answer

COUT_STEPS, COUT_FACES = 50, 48
NOISE_SD, NOISE_FACES = 2.0, 48  # grey levels


SEVERAL_ANSWERS, SEVERAL_FACES = 3, 48


@dataclass(frozen=True)
class SeveralAnswers:
    """Quality of further answers to one question.

    Means over questions, intervals over people.
    """

    # 1 - cosine between the answers' changes of pixels; a question with one answer only counts as 0
    diversity: Interval
    others_valid: Interval  # share of the further answers that the model reads as was asked


def several(model: AffectModel, questions: AnsweredQuestions, rng: Generator) -> SeveralAnswers:
    """Ask the first questions again, for several answers."""
    repeated_questions = [
        replace(one.question, answers=SEVERAL_ANSWERS) for one in questions.answers[:SEVERAL_FACES]
    ]
    repeated = [
        one
        for one in answer(model, questions.faces.images[:SEVERAL_FACES], repeated_questions)
        if one is not None
    ]
    assert len(repeated) == len(repeated_questions)  # they could be asked before
    diversities = np.array([one.scores.get("diversity", 0.0) for one in repeated])
    valid = np.array(
        [
            np.mean([other.valid for other in one.alternatives]) if one.alternatives else np.nan
            for one in repeated
        ]
    )
    weights = metrics.resamplings(questions.faces.identity[:SEVERAL_FACES], rng)
    return SeveralAnswers(mean_interval(diversities, weights), mean_interval(valid, weights))


def null_edit(model: AffectModel, images: U8) -> Floats:
    """(N,) mean absolute change of an edit to the state that is read."""
    (edited,) = in_batches(
        model, lambda x: (model.to_images(model.edit(x, model.labels(x))),), images
    )
    change: Floats = np.abs(edited - images).mean((1, 2, 3)) / 255
    return change


def steadiness(model: AffectModel, questions: AnsweredQuestions, rng: Generator) -> Interval:
    """Whether a slightly noised face is explained by a similar change."""
    images = questions.faces.images[:NOISE_FACES]
    noised = np.clip(np.round(images + rng.normal(0, NOISE_SD, images.shape)), 0, 255).astype(
        np.uint8
    )
    repeated = answer(model, noised, [one.question for one in questions.answers[:NOISE_FACES]])
    cosines = np.full(len(images), np.nan)
    for i, one in enumerate(repeated):
        if one is not None:  # the noise alone may have flipped the decision
            a = (questions.answers[i].counterfactual.astype(np.float64) - images[i]).ravel()
            b = (one.counterfactual.astype(np.float64) - noised[i]).ravel()
            cosines[i] = a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-9)
    return mean_interval(cosines, metrics.resamplings(questions.faces.identity[:NOISE_FACES], rng))


def cout(model: AffectModel, questions: AnsweredQuestions, rng: Generator) -> Interval:
    """COUT (Khorram & Fuxin 2022): pixels of the face are replaced by the counterfactual's, the
    most changed first.

    Area under the probability of the asked decision less that of the old one. Questions about AUs
    only.
    """
    rows = np.flatnonzero(
        (questions.column < len(model.card.vocabulary))
        & [answer.valid for answer in questions.answers]
    )[:COUT_FACES]
    if not len(rows):
        return Interval(float("nan"), float("nan"), float("nan"))
    areas = np.array([_curve(model, questions, int(i)).mean() for i in rows])
    return mean_interval(2 * areas - 1, metrics.resamplings(questions.faces.identity[rows], rng))


def _curve(model: AffectModel, questions: AnsweredQuestions, i: int) -> Floats:
    """(COUT_STEPS + 1,) probability of the asked decision as the pixels are replaced."""
    fact, counter = questions.faces.images[i], questions.answers[i].counterfactual
    order = np.argsort(-np.abs(counter.astype(int) - fact).sum(2), axis=None, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    upto = np.linspace(0, len(order), COUT_STEPS + 1)[:, None, None, None]
    mixed = np.where(rank.reshape(*fact.shape[:2], 1)[None] < upto, counter, fact)
    with torch.inference_mode():
        prediction = model.predict(
            model.to_pixels(torch.from_numpy(mixed).to(model.platt.device))
        ).probability[:, questions.column[i]]
    probability: Floats = prediction.double().cpu().numpy()
    return probability if questions.target[i] >= 0.5 else 1 - probability
