"""A fixed list of questions about real faces, and a model's answers.

Shape letters: N questions, S side in px.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from affect.counterfactual import CounterfactualQuestion, Explanation, explain
from affect.judge import Judge
from affect.labels import DIMENSIONS
from affect.model import AffectModel
from training.evaluation.core.predictions import U8, Faces, Floats

ROWS = 32  # questions asked at once
FRAMES = 2  # the face and its counterfactual: nothing here looks at the way


@dataclass(frozen=True)
class AnsweredQuestions:
    """The list of questions, answered. Arrays have N rows."""

    faces: Faces
    answers: list[Explanation]
    column: NDArray[np.intp]  # of the questioned label
    target: Floats
    seconds: float  # that the answers took

    @property
    def counterfactuals(self) -> U8:
        """(N, S, S, 3)"""
        return np.stack([answer.counterfactual for answer in self.answers])


def ask(
    model: AffectModel, faces: Faces, rng: np.random.Generator, judge: Judge | None = None
) -> AnsweredQuestions:
    """One question a face: half about AUs (to turn), half about valence and arousal (the other
    side, or a real face's value). `judge` is asked as when serving.
    """
    start, names = time.perf_counter(), model.card.labels_of.names
    kinds = [*(["au"] * model.card.learns_aus), *(["va"] * model.card.learns_va)]
    questions = []
    for _ in range(len(faces)):
        kind, open_question = rng.choice(kinds), rng.random() < 0.5
        label = str(rng.choice(model.card.vocabulary if kind == "au" else DIMENSIONS))
        target = faces.truth[rng.integers(len(faces)), names.index(label)]
        questions.append(
            CounterfactualQuestion(
                label, None if kind == "au" or open_question or np.isnan(target) else float(target)
            )
        )
    answers_or_none = answer(model, faces.images, questions, judge)
    # the target already holds: ask for the other side
    retried = [i for i, one in enumerate(answers_or_none) if one is None]
    open_questions = [CounterfactualQuestion(questions[i].label) for i in retried]
    retried_answers = answer(model, faces.images[retried], open_questions, judge)
    for i, one in zip(retried, retried_answers, strict=True):
        answers_or_none[i] = one
    answers = [one for one in answers_or_none if one is not None]
    assert len(answers) == len(faces)
    column = np.array([names.index(str(one.question.label)) for one in answers])
    target = np.array([one.question.target for one in answers], np.float64)
    return AnsweredQuestions(faces, answers, column, target, time.perf_counter() - start)


def answer(
    model: AffectModel,
    images: U8,
    questions: Sequence[CounterfactualQuestion],
    judge: Judge | None = None,
) -> list[Explanation | None]:
    """Explanations of any number of faces; None where the question makes no sense."""
    explanations: list[Explanation | None] = []
    for start in range(0, len(images), ROWS):
        rows = slice(start, start + ROWS)
        answers = explain(model, images[rows], questions[rows], frames=FRAMES, judge=judge)
        explanations += [one if isinstance(one, Explanation) else None for one in answers]
    return explanations
