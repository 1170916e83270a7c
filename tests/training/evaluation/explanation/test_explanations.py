"""What the benchmark of explanations says about answers whose worth is known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from affect.judge import Judge
from tests.support.trained import FACES, face, model
from training.database.annotations import Annotations
from training.evaluation.core.predictions import Faces
from training.evaluation.explanation import examples, grading, sanity_checks
from training.evaluation.explanation.grading import Grader, JudgeThresholds
from training.evaluation.explanation.questions import AnsweredQuestions, ask
from training.evaluation.judge.evaluator import JudgeEvaluator


def faces() -> Faces:
    images = np.stack([face(name) for name in FACES] * 4)
    truth = model().labels(model().to_pixels(torch.from_numpy(images))).detach().double().numpy()
    return Faces(
        images,
        truth,
        truth[:, -2:],
        np.arange(len(images)).astype(str),
        {},
        np.full(len(images), -1),
        np.full(len(images), ""),
        Annotations.unknown(len(images), truth.shape[1] - 2),
    )


@pytest.fixture(scope="module")
def questions() -> AnsweredQuestions:
    return ask(model(), faces(), np.random.default_rng(0))


@pytest.fixture(scope="module")
def evaluator(judge_folder: Path) -> JudgeEvaluator:
    return JudgeEvaluator(Judge.load(judge_folder), model())


@pytest.fixture(scope="module")
def grader(questions: AnsweredQuestions, evaluator: JudgeEvaluator) -> Grader:
    halves = np.full(len(model().card.vocabulary), 0.5)
    thresholds = JudgeThresholds(presence=halves, stranger_distance=1.0, identity=0.5)
    return Grader(model(), evaluator, questions, thresholds)


def test_every_face_has_a_valid_question(questions: AnsweredQuestions) -> None:
    assert len(questions.answers) == len(questions.faces)
    assert len(set(questions.column.tolist())) > 3
    again = ask(model(), faces(), np.random.default_rng(0))
    assert [one.question for one in again.answers] == [one.question for one in questions.answers]


def test_doing_nothing_is_never_valid_and_costs_nothing(
    questions: AnsweredQuestions, grader: Grader
) -> None:
    columns = grader.grade(questions.faces.images, np.random.default_rng(0)).columns
    assert not columns["validity"].any()
    assert not columns["proximity"].any() and not columns["labels_changed"].any()
    assert np.allclose(columns["identity"], 1, atol=1e-5)
    assert np.isnan(columns["agreement"]).all()


def test_validity_is_what_each_answer_says_of_itself(
    questions: AnsweredQuestions, grader: Grader
) -> None:
    columns = grader.grade(questions.counterfactuals, np.random.default_rng(0)).columns
    assert columns["validity"].astype(bool).tolist() == [one.valid for one in questions.answers]
    assert np.allclose(
        columns["proximity"], [one.scores["proximity"] for one in questions.answers], atol=1e-4
    )
    assert np.allclose(
        columns["identity"], [one.scores["identity"] for one in questions.answers], atol=1e-3
    )


def test_the_threshold_of_identity_separates_twins_from_other_people() -> None:
    rng = np.random.default_rng(0)
    person = np.repeat(rng.normal(size=(40, 8)), 2, axis=0)
    features = person + 0.1 * rng.normal(size=person.shape)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    names = np.repeat(np.arange(40), 2).astype(str)
    twin = np.arange(80) ^ 1
    known = Faces(
        np.zeros((80, 1, 1, 3), np.uint8),
        np.zeros((80, 2)),
        np.zeros((80, 2)),
        names,
        {},
        twin,
        np.full(80, ""),
        Annotations.unknown(80, 0),
    )
    at = grading._equal_error(features, known, rng.permutation(80))
    assert 0.6 < at < 0.99
    assert np.mean((features * features[twin]).sum(1) > at) > 0.95
    assert (
        grading._equal_error(features, replace(known, twin_of=np.full(80, -1)), rng.permutation(80))
        == 0.5
    )


def test_slight_noise_hardly_changes_an_answer(questions: AnsweredQuestions) -> None:
    assert sanity_checks.steadiness(model(), questions, np.random.default_rng(0)).value > 0.7


def test_pixels_in_order_of_change_turn_the_decision_in_the_end(
    questions: AnsweredQuestions,
) -> None:
    row = next(
        i
        for i, one in enumerate(questions.answers)
        if one.question.label in model().card.vocabulary and one.valid
    )
    curve = sanity_checks._curve(model(), questions, row)
    one, column = questions.answers[row], questions.column[row]
    target_present = questions.target[row] >= 0.5
    ends = [float(read.probability[0, column]) for read in (one.factual, one.counterfactual_read)]
    assert curve[[0, -1]] == pytest.approx(
        [end if target_present else 1 - end for end in ends], abs=1e-4
    )


def test_what_went_worst_is_shown(questions: AnsweredQuestions) -> None:
    count = len(questions.answers)
    columns = {"agreement": np.ones(count), "moved": np.ones(count)}
    columns["moved"][7], columns["agreement"][3] = 0, 0
    chosen = examples.choose(questions, columns)
    failed = [one for one in chosen if one.failed]
    assert len(chosen) - len(failed) == examples.GOOD
    verdicts = [one.verdict for one in failed]
    assert "the judge sees it move the other way" in verdicts
    assert "the judge sees it move that way, but not turn" in verdicts
    sheet = examples.as_sheet(chosen)
    assert sheet.shape[0] == len(chosen) * examples.TILE_PX
