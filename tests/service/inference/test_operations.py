"""A large request is read in parts, while its other pictures are still decoded and searched."""

from collections.abc import Iterator

import numpy as np
import pytest

from affect.faces import FaceFinder
from affect.marking import Marker
from affect.model import AffectModel
from affect.protocol.messages import PredictRequest, PredictResponse
from service.backend.interface import BackendOverloaded, BackendUnavailable
from service.inference.operations import PIPELINED_IMAGES, Operations
from service.inference.preprocessing import Preprocessor
from service.observability.metrics import Metrics
from service.schemas import PredictOptions
from service.settings import Settings
from tests.support.gateway import LocalBackend
from tests.support.pictures import encoded
from tests.support.tiny import tiny_model

PARTS = 3
COUNT = PARTS * PIPELINED_IMAGES - PIPELINED_IMAGES // 2
CROPS = PredictOptions(faces="none")


class CountingBackend(LocalBackend):
    """Counts at each request the pictures that are ready, and refuses if it is to."""

    def __init__(self, model: AffectModel) -> None:
        super().__init__(model)
        self.metrics, self.ready_pictures = Metrics(), list[float]()
        self.error: Exception | None = None

    async def predict(self, request: PredictRequest, *, timeout_seconds: float) -> PredictResponse:
        self.ready_pictures.append(pictures(self.metrics))
        if self.error is not None:
            raise self.error
        return await super().predict(request, timeout_seconds=timeout_seconds)


@pytest.fixture
def backend() -> CountingBackend:
    return CountingBackend(tiny_model())


@pytest.fixture
def operations(backend: CountingBackend) -> Iterator[Operations]:
    metrics, card = backend.metrics, backend.model.card
    with Preprocessor(metrics, threads=1, max_pixels=10**6, finder=FaceFinder()) as preprocessor:
        yield Operations(backend, preprocessor, metrics, card, Marker(Settings().marking))


def pictures(metrics: Metrics) -> float:
    return metrics.registry.get_sample_value("affectgan_picture_seconds_count") or 0.0


def faces(side: int) -> list[bytes]:
    """As many different pictures as fill all parts but for a half."""
    rng = np.random.default_rng(0)
    return [encoded(rng.integers(0, 255, (side, side, 3), np.uint8)) for _ in range(COUNT)]


async def test_some_pictures_are_read_before_all_are_decoded(
    operations: Operations, backend: CountingBackend
) -> None:
    images = faces(operations.card.image_px)
    result = await operations.predict(images, CROPS, seconds=60)
    assert len(result.read) == len(images) == pictures(operations.metrics)
    assert len(backend.predicted) == PARTS
    assert backend.ready_pictures[0] < len(images)


async def test_rows_read_in_parts_are_those_read_one_by_one(operations: Operations) -> None:
    images = faces(operations.card.image_px)
    images[PIPELINED_IMAGES + 1] = b"no picture"
    together = await operations.predict(images, CROPS, seconds=60)
    alone = [await operations.predict([image], CROPS, seconds=60) for image in images]
    bad = together.rows[PIPELINED_IMAGES + 1]
    assert not isinstance(bad, range) and bad.code == "not_an_image"
    rows = np.concatenate([one.read.va for one in alone if isinstance(one.rows[0], range)])
    assert np.allclose(together.read.va, rows, atol=1e-6)
    assert [row for row in together.rows if isinstance(row, range)] == [
        range(face, face + 1) for face in range(len(images) - 1)
    ]


async def test_the_first_error_ends_the_other_parts(
    operations: Operations, backend: CountingBackend
) -> None:
    images = faces(operations.card.image_px)
    backend.error = BackendOverloaded("the queue is full")
    with pytest.raises(BackendOverloaded):
        await operations.predict(images, CROPS, seconds=60)
    assert len(backend.ready_pictures) == 1 < PARTS


async def test_a_request_that_tries_a_failing_server_is_not_split(operations: Operations) -> None:
    breaker = operations.dispatcher.breakers["predict"]
    while breaker.state == "closed":
        with pytest.raises(BackendUnavailable), breaker.guard():
            raise BackendUnavailable("down")
    breaker._open_until = 0.0  # the pause is over
    result = await operations.predict(faces(operations.card.image_px), CROPS, seconds=60)
    assert len(result.read) == COUNT and breaker.failures == 0
