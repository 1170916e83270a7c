"""The predict handler in an unpacked archive, with TorchServe's real context."""

from pathlib import Path

import numpy as np
import orjson
import pytest
import torch
import yaml
from numpy.typing import NDArray

from affect.archive import CONFIG_FILE
from affect.card import CardError
from affect.protocol.messages import PredictRequest, PredictResponse
from handlers.predict import PredictHandler
from tests.support.handler_worker import bodies, context_of, started, unpacked
from tests.support.tiny import tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked(tmp_path_factory.mktemp("archive"), "predict")


@pytest.fixture(scope="module")
def handler(folder: Path) -> PredictHandler:
    return started(PredictHandler(), folder)


def faces(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def test_every_request_of_a_batch_gets_what_the_model_reads_off_its_own_faces(
    handler: PredictHandler, folder: Path
) -> None:
    card, crops = handler.model.card, [faces(3, 1), faces(1, 2), faces(70, 3)]
    answers = handler.handle(
        bodies(*(PredictRequest(own).to_bytes(card) for own in crops)), context_of(folder, 3)
    )
    model = tiny_model()
    for own, answer in zip(crops, answers, strict=True):
        expected = model.predict(model.to_pixels(torch.from_numpy(own)))
        read = PredictResponse.from_bytes(answer, card).read
        assert np.allclose(read.probability, expected.probability.detach(), atol=1e-5)
        assert np.array_equal(read.present, expected.present.to(torch.uint8))
        assert np.allclose(read.va, expected.va.detach(), atol=1e-5)


def test_a_request_that_cannot_be_read_fails_alone(handler: PredictHandler, folder: Path) -> None:
    card, context = handler.model.card, context_of(folder, 3)
    valid = PredictRequest(faces(2)).to_bytes(card)
    answers = handler.handle(bodies(valid, b"nonsense", valid), context)
    assert [context.get_response_status(place)[0] for place in range(3)] == [200, 400, 200]
    assert orjson.loads(answers[1])["field"] == "content"
    assert len(PredictResponse.from_bytes(answers[2], card).read) == 2


def test_a_batch_of_nothing_but_bad_requests_is_answered(
    handler: PredictHandler, folder: Path
) -> None:
    context = context_of(folder, 2)
    assert len(handler.handle([{"body": b""}, {}], context)) == 2
    assert context.get_response_status(1)[0] == 400


def test_a_request_for_other_weights_is_refused(handler: PredictHandler, folder: Path) -> None:
    other = handler.model.card.model_copy(update={"digest": "of other weights"})
    answers = handler.handle(bodies(PredictRequest(faces(1)).to_bytes(other)), context_of(folder))
    assert orjson.loads(answers[0])["field"] == "digest"


def test_one_torch_thread_is_used(handler: PredictHandler) -> None:
    assert torch.get_num_threads() == handler.settings.threads == 1


def test_an_archive_of_another_operation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CardError, match="generate"):
        started(PredictHandler(), unpacked(tmp_path, "generate"))


def test_an_archive_without_settings_is_refused(tmp_path: Path) -> None:
    folder = unpacked(tmp_path, "predict")
    (folder / CONFIG_FILE).write_text(yaml.safe_dump({"batchSize": 1}))
    with pytest.raises(CardError, match="handler"):
        started(PredictHandler(), folder)


def test_a_card_that_does_not_fit_the_weights_is_refused(tmp_path: Path) -> None:
    folder = unpacked(tmp_path, "predict")
    weights = folder / "weights.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CardError, match="digest"):
        started(PredictHandler(), folder)
