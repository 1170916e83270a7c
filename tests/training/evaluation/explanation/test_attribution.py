"""The rule agrees with itself, is opposed by its opposite, and knows what a smile does."""

from dataclasses import replace

import numpy as np
import pytest

from tests.support.trained import face, model
from training.database.annotations import Annotations
from training.evaluation.core.predictions import Faces
from training.evaluation.explanation import attribution
from training.evaluation.explanation.attribution import AttributionFigures, by_rule, measure
from training.evaluation.explanation.questions import AnsweredQuestions, ask
from training.renderer.expressions import AU_CODES, State

CODES = AU_CODES
SMILE = State({"AU6": 0.7, "AU12": 0.9}, {}, None, 0.6, 0.1)
SORROW = State({"AU4": 0.8, "AU15": 0.7, "AU17": 0.6}, {}, None, -0.5, -0.2)


@pytest.fixture(scope="module")
def questions() -> AnsweredQuestions:
    """Questions about valence and arousal of two faces whose true AUs are known."""
    truth = np.stack([SMILE.row(), SORROW.row()] * 4)
    assert model().card.vocabulary == CODES
    images = np.stack([face("happiness"), face("sadness")] * 4)
    none = np.full(len(images), -1)
    faces = Faces(
        images,
        truth,
        truth[:, -2:],
        np.arange(len(images)).astype(str),
        {},
        none,
        np.full(len(images), ""),
        Annotations.unknown(len(images), truth.shape[1] - 2),
    )
    answered_questions = ask(model(), faces, np.random.default_rng(1))
    assert (answered_questions.column >= len(CODES)).any()
    return answered_questions


def figures(questions: AnsweredQuestions, gain: float) -> AttributionFigures:
    """The figures when every answer attributes `gain` times what the rule says."""
    aus, answers = len(CODES), []
    for i, one in enumerate(questions.answers):
        dimension = int(questions.column[i]) - aus
        if dimension < 0:
            answers.append(one)
            continue
        way = float(np.sign(questions.target[i] - one.factual.va[0, dimension].item()))
        rule = by_rule(CODES, questions.faces.truth[i, :aus], dimension)
        answers.append(
            replace(one, attribution=dict(zip(CODES, (gain * way * rule).tolist(), strict=True)))
        )
    result = measure(model(), replace(questions, answers=answers), np.random.default_rng(0))
    assert result is not None
    return result


def test_taking_a_smile_away_lowers_valence_and_adding_one_to_sorrow_raises_it() -> None:
    k = CODES.index("AU12")
    assert by_rule(CODES, SMILE.row()[:-2], 0)[k] < -0.1
    assert by_rule(CODES, SORROW.row()[:-2], 0)[k] > 0.05


def test_an_attribution_that_is_the_rule_agrees_wholly(questions: AnsweredQuestions) -> None:
    measured = figures(questions, 3.0)
    assert measured.signed.value == pytest.approx(1) and measured.size.value == pytest.approx(1)
    assert measured.ahead.value == pytest.approx(1 - measured.gradients.value)


def test_the_opposite_of_the_rule_agrees_in_size_alone(questions: AnsweredQuestions) -> None:
    measured = figures(questions, -1.0)
    assert measured.signed.value == pytest.approx(-1) and measured.size.value == pytest.approx(1)


def test_real_answers_are_compared_and_pixels_too(questions: AnsweredQuestions) -> None:
    measured = measure(model(), questions, np.random.default_rng(0))
    assert measured is not None and measured.faces == int((questions.column >= len(CODES)).sum())
    assert -1 <= measured.signed.value <= 1 and np.isfinite(measured.gradients.value)


def test_faces_whose_rule_is_not_known_are_left_out(questions: AnsweredQuestions) -> None:
    unknown = replace(
        questions.faces, expected_va=np.full_like(questions.faces.expected_va, np.nan)
    )
    assert (
        attribution.measure(model(), replace(questions, faces=unknown), np.random.default_rng(0))
        is None
    )
