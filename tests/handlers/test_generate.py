"""The generate handler in an unpacked archive, with TorchServe's real context."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from affect.protocol.messages import NO_REFERENCE, GenerateRequest, GenerateResponse
from handlers.generate import GenerateHandler
from tests.support.handler_worker import bodies, context_of, started, unpacked


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked(tmp_path_factory.mktemp("archive"), "generate")


@pytest.fixture(scope="module")
def handler(folder: Path) -> GenerateHandler:
    return started(GenerateHandler(), folder)


def wish(seeds: list[int], *, references: NDArray[np.uint8] | None = None) -> GenerateRequest:
    people = np.zeros((0, 32, 32, 3), dtype=np.uint8) if references is None else references
    labels = np.full((len(seeds), 10), np.nan, dtype=np.float32)
    reference_of = np.full(len(seeds), NO_REFERENCE, dtype=np.int32)
    return GenerateRequest(labels, np.array(seeds, dtype=np.int64), people, reference_of)


def answer(
    handler: GenerateHandler, folder: Path, *requests: GenerateRequest
) -> list[GenerateResponse]:
    card = handler.model.card
    answers = handler.handle(
        bodies(*(request.to_bytes(card) for request in requests)), context_of(folder, len(requests))
    )
    return [GenerateResponse.from_bytes(content, card) for content in answers]


def test_the_same_seed_gives_the_same_bytes_whoever_else_is_served(
    handler: GenerateHandler, folder: Path
) -> None:
    alone = answer(handler, folder, wish([7]))[0]
    crowd = answer(handler, folder, wish([1, 2, 7]), wish([7, 3]))
    assert np.array_equal(alone.images[0], crowd[0].images[2])
    assert np.array_equal(alone.images[0], crowd[1].images[0])
    assert np.array_equal(alone.measured.probability[0], crowd[1].measured.probability[0])


def test_another_seed_gives_another_face(handler: GenerateHandler, folder: Path) -> None:
    images = answer(handler, folder, wish([7, 8]))[0].images
    assert not np.array_equal(images[0], images[1])


def test_requested_labels_are_kept_and_the_others_are_filled(
    handler: GenerateHandler, folder: Path
) -> None:
    request = wish([7])
    request.labels[0, 4] = 0.9
    requested = answer(handler, folder, request)[0].requested[0]
    assert requested[4] == np.float32(0.9)
    assert not np.isnan(requested).any()


def test_a_reference_decides_the_face(handler: GenerateHandler, folder: Path) -> None:
    people = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    request = wish([7, 7], references=people)
    request.reference_of[:] = [0, 1]
    images = answer(handler, folder, request)[0].images.astype(int)
    own, other = np.abs(images[0] - people[0]).mean(), np.abs(images[0] - people[1]).mean()
    assert own < other


def test_a_row_out_of_range_fails_alone(handler: GenerateHandler, folder: Path) -> None:
    request = wish([7, 8, 9])
    request.labels[1, -1] = 2.0
    request.reference_of[2] = 5
    got = answer(handler, folder, request)[0]
    assert {row: error.code for row, error in got.errors.items()} == {
        1: "label_out_of_range",
        2: "unknown_reference",
    }
    assert np.array_equal(got.images[0], answer(handler, folder, wish([7]))[0].images[0])


def test_measured_is_what_the_predictor_reads_off_the_picture(
    handler: GenerateHandler, folder: Path
) -> None:
    got = answer(handler, folder, wish([7]))[0]
    expected = handler.model.predict(handler.model.to_pixels(torch.from_numpy(got.images)))
    assert np.allclose(got.measured.va, expected.va.detach(), atol=1e-6)
