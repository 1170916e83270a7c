"""The explain handler in an unpacked archive, with TorchServe's real context."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from affect.counterfactual import CounterfactualQuestion, Explanation, explain
from affect.judge import Judge, JudgeCard
from affect.protocol.messages import ANY_LABEL, ExplainRequest, ExplainResponse
from handlers.explain import ExplainHandler
from tests.support.handler_worker import bodies, context_of, started, unpacked
from tests.support.tiny import tiny_card


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked(tmp_path_factory.mktemp("archive"), "explain")


@pytest.fixture(scope="module")
def handler(folder: Path) -> ExplainHandler:
    return started(ExplainHandler(), folder)


def faces(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def strongest(crops: NDArray[np.uint8]) -> ExplainRequest:
    return ExplainRequest.of(crops, ANY_LABEL, np.nan)


def answers(
    handler: ExplainHandler, folder: Path, *requests: ExplainRequest
) -> list[ExplainResponse]:
    card = handler.model.card
    contents = handler.handle(
        bodies(*(request.to_bytes(card) for request in requests)), context_of(folder, len(requests))
    )
    return [ExplainResponse.from_bytes(content, card) for content in contents]


def test_an_answer_is_the_explanation_of_its_own_face(
    handler: ExplainHandler, folder: Path
) -> None:
    got = answers(handler, folder, strongest(faces(1, 1)), strongest(faces(2, 2)))
    expected = explain(
        handler.model, faces(2, 2), [CounterfactualQuestion(), CounterfactualQuestion()]
    )[1]
    assert isinstance(expected, Explanation)
    details = got[1].details[1]
    assert details is not None
    assert handler.model.card.labels_of.names[got[1].label[1]] == expected.question.label
    assert (details.trust, details.reasons) == (expected.trust, expected.reasons)
    assert np.abs(got[1].counterfactual[1].astype(int) - expected.counterfactual).max() <= 1
    assert np.allclose(got[1].factual.va[1], expected.factual.va[0], atol=1e-5)


def test_the_way_begins_at_the_face_and_ends_at_the_counterfactual(
    handler: ExplainHandler, folder: Path
) -> None:
    got = answers(handler, folder, strongest(faces(1, 3)))[0]
    assert len(got.frames[0]) == handler.settings.frames
    assert np.array_equal(got.frames[0, 0], faces(1, 3)[0])
    assert np.array_equal(got.frames[0, -1], got.counterfactual[0])


def test_a_question_that_makes_no_sense_fails_alone(handler: ExplainHandler, folder: Path) -> None:
    alone = answers(handler, folder, strongest(faces(1, 4)))[0]
    already = float(alone.factual.va[0, 0])
    request = strongest(np.repeat(faces(1, 4), 4, axis=0))
    request.label[:] = [99, ANY_LABEL, 8, 8]
    request.target[:] = [np.nan, np.nan, 7.0, already]
    got = answers(handler, folder, request)[0]
    assert {row: error.code for row, error in got.errors.items()} == {
        0: "unknown_label",
        2: "label_out_of_range",
        3: "already_so",
    }
    assert [details is None for details in got.details] == [True, False, True, True]


def test_other_answers_stand_in_the_rows_behind_the_first(
    handler: ExplainHandler, folder: Path
) -> None:
    crops = faces(4, 5)
    request = ExplainRequest.of(crops, 8, 0.9, answers=3)
    got = answers(handler, folder, strongest(faces(1)), request)[1]
    several = explain(
        handler.model, crops, [CounterfactualQuestion("valence", 0.9, answers=3)] * len(crops)
    )
    # Which of these noisy pictures have another answer hangs on the last bits of a reading.
    row, expected = next(
        (3 * index + 1, one)
        for index, one in enumerate(several)
        if index and isinstance(one, Explanation) and one.alternatives
    )
    # A face may have fewer different answers.
    assert {error.code for error in got.errors.values()} <= {"no_other_answer"}
    details = got.details[row]
    assert details is not None and details.causes == expected.alternatives[0].causes
    assert (
        np.abs(got.counterfactual[row].astype(int) - expected.alternatives[0].counterfactual).max()
        <= 1
    )


def test_an_answer_that_follows_no_question_is_refused(
    handler: ExplainHandler, folder: Path
) -> None:
    request = strongest(faces(2))
    request.answer[:] = [1, 0]
    assert {
        row: error.code for row, error in answers(handler, folder, request)[0].errors.items()
    } == {0: "lone_answer"}


def test_both_families_share_a_request(handler: ExplainHandler, folder: Path) -> None:
    request = ExplainRequest.of(np.repeat(faces(1, 6), 2, axis=0), 8, 0.9)
    request.family[:] = [0, 1]
    expression, nuisance = answers(handler, folder, request)[0].details
    assert expression is not None and nuisance is not None
    assert set(expression.attribution) == set(handler.model.card.vocabulary)
    assert len({"light: dim to bright", "light: bright to dim"} & set(nuisance.attribution)) == 1


def test_a_request_of_nothing_but_bad_questions_is_answered(
    handler: ExplainHandler, folder: Path
) -> None:
    request = strongest(faces(2))
    request.label[:] = 99
    assert set(answers(handler, folder, request)[0].errors) == {0, 1}


def test_gradients_are_given_for_the_rows_that_ask_for_them(
    handler: ExplainHandler, folder: Path
) -> None:
    request = strongest(faces(2, 5))
    request.gradients[1] = 1
    got = answers(handler, folder, request)[0]
    without, having = got.details
    assert without is not None and having is not None
    assert without.gradients is None and not got.gradients[0].any()
    assert having.gradients is not None and got.gradients[1].any()
    assert sum(map(abs, having.gradients.values())) <= 1.01
    assert "completeness_error" in having.scores and "completeness_error" not in without.scores


def test_a_judge_in_the_archive_is_used(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "judged"
    shutil.copytree(folder, place)
    Judge(
        JudgeCard(
            vocabulary=tiny_card().vocabulary, image_px=32, widths=(8, 8), data="none", seed=0
        )
    ).save(place)
    handler = started(ExplainHandler(), place)
    details = answers(handler, place, strongest(faces(1, 6)))[0].details[0]
    assert details is not None and details.judge_agreement is not None
    assert "independent judge" in details.reasons[-1]
