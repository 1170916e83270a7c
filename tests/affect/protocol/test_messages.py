"""Messages come back unharmed; what does not fit the model is refused by name."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load, save

from affect.card import ModelCard
from affect.catalogue import LABEL_SETS
from affect.model import smoke_card
from affect.protocol.messages import (
    ANY_LABEL,
    NO_REFERENCE,
    ExplainRequest,
    ExplainResponse,
    ExplanationDetails,
    GenerateRequest,
    GenerateResponse,
    Predictions,
    PredictRequest,
    PredictResponse,
    ProtocolError,
    RowError,
)

CARD = smoke_card()
WORDS = '{"errors": {}}'
K, S = len(CARD.vocabulary), CARD.image_px


def pictures(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


def predictions(rows: int) -> Predictions:
    rng = np.random.default_rng(2)
    return Predictions(
        intensity=rng.random((rows, K), dtype=np.float32),
        probability=rng.random((rows, K), dtype=np.float32),
        present=rng.integers(0, 2, (rows, K), dtype=np.uint8),
        va=rng.random((rows, 2), dtype=np.float32),
        realism=rng.random(rows, dtype=np.float32),
        expression=np.zeros((rows, 0), np.float32),
        pose=np.zeros((rows, 0), np.float32),
        sides=np.zeros((rows, 2, 0), np.float32),
    )


def generate_request(rows: int = 3) -> GenerateRequest:
    labels = np.full((rows, K + 2), np.nan, dtype=np.float32)
    return GenerateRequest(
        labels,
        np.arange(rows, dtype=np.int64),
        pictures(1, S, S, 3),
        np.full(rows, NO_REFERENCE, dtype=np.int32),
    )


def explain_request(rows: int = 2) -> ExplainRequest:
    return ExplainRequest.of(pictures(rows, S, S, 3), ANY_LABEL, np.nan)


def explain_answer() -> ExplainResponse:
    details = ExplanationDetails(
        (("AU12", 0.97, 0.08),),
        (("AU12", 0.9, 0.2),),
        {"mouth": 0.9},
        {"AU12": 2.5},
        {"proximity": 0.1},
        "high",
        ("it looks real",),
        "Without the smile.",
    )
    return ExplainResponse(
        label=np.array([4, 0], dtype=np.int32),
        target=np.zeros(2, dtype=np.float32),
        factual=predictions(2),
        reconstruction=pictures(2, S, S, 3),
        reconstruction_read=predictions(2),
        reconstruction_error=np.zeros(2, dtype=np.float32),
        counterfactual=pictures(2, S, S, 3),
        counterfactual_read=predictions(2),
        valid=np.ones(2, dtype=np.uint8),
        map=pictures(2, S, S),
        signed=pictures(2, S, S, 3),
        frames=pictures(2, 5, S, S, 3),
        gradients=pictures(2, S, S, 3),
        details=(details, None),
        errors={1: RowError("already_so", "Nothing to explain", "AU1 is already absent")},
    )


def test_crops_come_back_unharmed() -> None:
    request = PredictRequest(pictures(3, S, S, 3))
    assert np.array_equal(
        PredictRequest.from_bytes(request.to_bytes(CARD), CARD).crops, request.crops
    )


def test_an_answer_keeps_its_numbers_and_the_errors_of_its_rows() -> None:
    answer = PredictResponse(
        predictions(2), errors={1: RowError("not_finite", "No reading", "the model gave NaN")}
    )
    decoded = PredictResponse.from_bytes(answer.to_bytes(CARD), CARD)
    assert np.array_equal(decoded.read.probability, answer.read.probability)
    assert decoded.errors == answer.errors


def test_labels_that_were_not_requested_stay_nan() -> None:
    request = generate_request()
    request.labels[1, 4] = 0.5
    decoded = GenerateRequest.from_bytes(request.to_bytes(CARD), CARD)
    assert np.array_equal(decoded.labels, request.labels, equal_nan=True)


def test_a_request_without_references_comes_back() -> None:
    request = replace(generate_request(), references=pictures(0, S, S, 3))
    assert GenerateRequest.from_bytes(request.to_bytes(CARD), CARD).references.shape == (0, S, S, 3)


def test_a_drawn_answer_comes_back_unharmed() -> None:
    answer = GenerateResponse(
        pictures(2, S, S, 3), np.zeros((2, K + 2), dtype=np.float32), predictions(2)
    )
    decoded = GenerateResponse.from_bytes(answer.to_bytes(CARD), CARD)
    assert np.array_equal(decoded.images, answer.images)
    assert np.array_equal(decoded.measured.va, answer.measured.va)


def test_an_explanation_comes_back_with_its_details() -> None:
    answer = explain_answer()
    decoded = ExplainResponse.from_bytes(answer.to_bytes(CARD), CARD)
    assert decoded.details == answer.details
    assert np.array_equal(decoded.frames, answer.frames)
    assert np.array_equal(decoded.counterfactual_read.realism, answer.counterfactual_read.realism)


def test_an_explanation_of_an_archive_of_1_0_is_read() -> None:
    """It calls the judge's agreement an opinion."""
    details = explain_answer().details[0]
    assert details is not None
    stored = details.to_json() | {"opinion": [0.9, 0.2, True]}
    assert "judge_agreement" not in stored
    assert ExplanationDetails.from_json(stored).judge_agreement == (0.9, 0.2, True)


@pytest.mark.parametrize(
    ("crops", "named"),
    [
        (pictures(1, S + 1, S, 3), "crops"),
        (pictures(1, S, S, 4), "crops"),
        (pictures(S, S, 3), "crops"),
        (pictures(1, S, S, 3).astype(np.float32), "uint8"),
        (pictures(0, S, S, 3), "rows"),
        (pictures(1025, S, S, 3), "rows"),
    ],
)
def test_crops_that_do_not_fit_the_card_are_refused_by_name(
    crops: NDArray[np.uint8], named: str
) -> None:
    with pytest.raises(ProtocolError, match=named):
        PredictRequest(crops).to_bytes(CARD)


def test_rows_that_disagree_in_number_are_refused() -> None:
    with pytest.raises(ProtocolError, match="seeds"):
        replace(generate_request(3), seeds=np.arange(2, dtype=np.int64)).to_bytes(CARD)


def test_a_request_for_another_model_is_refused() -> None:
    content = PredictRequest(pictures(1, S, S, 3)).to_bytes(
        CARD.model_copy(update={"digest": "old"})
    )
    with pytest.raises(ProtocolError, match="digest"):
        PredictRequest.from_bytes(content, CARD.model_copy(update={"digest": "new"}))


def test_a_request_for_another_vocabulary_is_refused() -> None:
    content = generate_request().to_bytes(CARD)
    other: ModelCard = smoke_card(vocabulary=LABEL_SETS["disfa"])
    with pytest.raises(ProtocolError, match="labels"):
        GenerateRequest.from_bytes(content, other)


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff" * 64, b'{"json": true}' * 10])
def test_bytes_that_are_no_safetensors_are_refused(content: bytes) -> None:
    with pytest.raises(ProtocolError, match="content"):
        PredictRequest.from_bytes(content, CARD)


def test_a_cut_message_is_refused() -> None:
    with pytest.raises(ProtocolError, match="content"):
        PredictRequest.from_bytes(PredictRequest(pictures(1, S, S, 3)).to_bytes(CARD)[:-1], CARD)


def test_safetensors_without_our_header_are_refused() -> None:
    with pytest.raises(ProtocolError, match="message"):
        PredictRequest.from_bytes(save({"crops": pictures(1, S, S, 3)}), CARD)


def test_a_message_of_another_operation_is_refused() -> None:
    with pytest.raises(ProtocolError, match="message"):
        PredictRequest.from_bytes(explain_request().to_bytes(CARD), CARD)


def test_a_label_out_of_range_fails_its_row_only() -> None:
    request = generate_request(3)
    request.labels[1, -2] = 1.5
    request.labels[2, -2] = -1.0
    faults = request.faults(CARD)
    assert list(faults) == [1]
    assert "valence" in faults[1].detail


def test_a_reference_that_was_not_sent_fails_its_row_only() -> None:
    request = generate_request(2)
    request.reference_of[:] = [0, 1]
    assert {row: fault.code for row, fault in request.faults(CARD).items()} == {
        1: "unknown_reference"
    }


def test_a_question_out_of_range_fails_its_row_only() -> None:
    request = explain_request(3)
    request.label[:] = [K + 2, 0, ANY_LABEL]
    request.target[:] = [0, 1.5, np.nan]
    assert {row: fault.code for row, fault in request.faults(CARD).items()} == {
        0: "unknown_label",
        1: "label_out_of_range",
    }


def test_what_a_model_does_not_read_may_be_absent_from_its_answer() -> None:
    """An archive of before expression, pose and sides were known does not write them."""
    content = PredictResponse(predictions(3)).to_bytes(CARD)
    header = {"message": PredictResponse.kind, "format": "1", "digest": "", "words": WORDS}
    tensors = load(content)
    names = ("read.expression", "read.pose", "read.sides")
    older = save({k: v for k, v in tensors.items() if k not in names}, header)
    decoded = PredictResponse.from_bytes(older, CARD)
    assert decoded.read.expression.shape == (3, 0) and decoded.read.sides.shape == (3, 2, 0)
    assert np.array_equal(decoded.read.va, predictions(3).va)


def test_a_model_that_reads_expressions_must_send_them() -> None:
    card = CARD.model_copy(update={"expressions": ("neutral", "happiness")})
    content = PredictResponse(predictions(3)).to_bytes(CARD)
    with pytest.raises(ProtocolError, match="expression"):
        PredictResponse.from_bytes(content, card)
