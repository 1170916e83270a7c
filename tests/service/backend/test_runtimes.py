"""What every runtime promises (service/backend/interface.py): the same readings, refusals,
deadlines, and answers in spite of a worker that dies.
"""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from affect.archive import OPERATIONS
from affect.batches import predict
from affect.card import ModelCard
from affect.protocol.messages import (
    ANY_LABEL,
    NO_REFERENCE,
    ExplainRequest,
    GenerateRequest,
    PredictRequest,
)
from service.backend.interface import BackendRefused, BackendTimeout, BackendUnavailable
from service.backend.message_backend import MessageBackend
from service.backend.pool import RUNTIMES, opener_of
from service.backend.process_runtime import ModelError, ProcessBackend
from service.observability.metrics import Metrics
from service.settings import Settings
from tests.support.archives import altered_archive, copied
from tests.support.gateway import open_gateway
from tests.support.tiny import tiny_model
from tests.support.waiting import LIMIT_SECONDS

pytestmark = [pytest.mark.processes, pytest.mark.asyncio(loop_scope="module")]
CROPS = np.random.default_rng(0).integers(0, 255, (3, 32, 32, 3), dtype=np.uint8)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[*RUNTIMES, "oip"])
async def backend(request: pytest.FixtureRequest, models: Path) -> AsyncIterator[MessageBackend]:
    """Of each runtime; the remote server is a gateway of ours."""
    with open_gateway(Settings(), card=ModelCard.load(models)) as gateway:
        runtime = gateway.url.replace("http", "oip") if request.param == "oip" else request.param
        async with opener_of(runtime, Metrics(), Settings())(models) as opened:
            assert isinstance(opened, MessageBackend)
            yield opened


async def test_every_operation_is_ready_when_it_is_open(backend: MessageBackend) -> None:
    assert await backend.ready() == dict.fromkeys(OPERATIONS, True)


async def test_many_at_once_are_read_as_the_model_reads(backend: MessageBackend) -> None:
    request = PredictRequest(CROPS)
    requests = [backend.predict(request, timeout_seconds=LIMIT_SECONDS) for _ in range(8)]
    expected = predict(tiny_model(), CROPS, (1, 8, 64))
    for answer in await asyncio.gather(*requests):
        assert np.allclose(answer.read.va, expected.va, atol=1e-5)


async def test_faces_are_drawn_and_readings_explained(backend: MessageBackend) -> None:
    unconstrained = np.full((1, len((await backend.card()).labels_of.names)), np.nan, np.float32)
    one = np.zeros(1, np.int64)
    nothing = np.zeros((0, 32, 32, 3), np.uint8)
    request = GenerateRequest(unconstrained, one, nothing, np.array([NO_REFERENCE], np.int32))
    drawn = await backend.generate(request, timeout_seconds=LIMIT_SECONDS)
    assert drawn.images.shape == (1, 32, 32, 3)
    question = ExplainRequest.of(CROPS[:1], ANY_LABEL, np.nan, gradients=False)
    explained = await backend.explain(question, timeout_seconds=LIMIT_SECONDS)
    assert explained.counterfactual.shape == (1, 32, 32, 3)


async def test_what_does_not_fit_the_model_is_refused(backend: MessageBackend) -> None:
    misfit = PredictRequest(np.zeros((1, 16, 16, 3), np.uint8))
    with pytest.raises(BackendRefused):
        await backend.predict(misfit, timeout_seconds=LIMIT_SECONDS)


async def test_no_answer_in_time_is_reported(backend: MessageBackend) -> None:
    with pytest.raises(BackendTimeout, match="no answer within"):
        await backend.predict(PredictRequest(CROPS), timeout_seconds=1e-6)


async def test_a_remote_server_that_is_gone_is_reported_and_not_ready(models: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"oip://127.0.0.1:{free.getsockname()[1]}"
    async with opener_of(address, Metrics(), Settings())(models) as backend:
        assert not any((await backend.ready()).values())
        with pytest.raises(BackendUnavailable):
            await backend.predict(PredictRequest(CROPS), timeout_seconds=LIMIT_SECONDS)


@pytest.mark.parametrize("runtime", ["java", "oip://", "http://host"])
async def test_a_runtime_that_there_is_not_is_refused(models: Path, runtime: str) -> None:
    with pytest.raises(ValueError, match="oip://HOST:PORT"):
        async with opener_of(runtime, Metrics(), Settings())(models):
            pass


# -- the process runtime alone ---------------------------------------------------------------------


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT_SECONDS):
        while not holds():
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("with_signal", [signal.SIGKILL, signal.SIGSTOP])
async def test_requests_of_a_worker_that_dies_or_stops_are_answered_by_the_next(
    models: Path, with_signal: signal.Signals
) -> None:
    events: list[tuple[str, str]] = []
    alone = ProcessBackend(models, lambda *event: events.append(event), operations=["predict"])
    async with alone as backend:
        before = backend.pid("predict")
        os.kill(before, with_signal)
        request = PredictRequest(CROPS)
        requests = [backend.predict(request, timeout_seconds=LIMIT_SECONDS) for _ in range(4)]
        assert [len(answer.read) for answer in await asyncio.gather(*requests)] == [3] * 4
        await until(lambda: ("ended", "predict") in events)
        assert (("stopped", "predict") in events) is (with_signal == signal.SIGSTOP)
        await until(lambda: backend.pid("predict") != before)


async def test_workers_and_batches_are_as_the_settings_say(models: Path) -> None:
    settings = Settings(predict_workers=2, predict_batch=1, operations=("predict", "explain"))
    async with opener_of("process", Metrics(), settings)(models) as backend:
        assert isinstance(backend, ProcessBackend)
        pids = {worker.pid for worker in backend.workers("predict")}
        assert len(pids) == 2 and len(backend.workers("explain")) == 1
        requests = [backend.predict(PredictRequest(CROPS), timeout_seconds=240) for _ in range(4)]
        works = [answer.work for answer in await asyncio.gather(*requests)]
        assert {work.batch_jobs for work in works if work} == {1}


@pytest.mark.parametrize("runtime", [*RUNTIMES, "oip"])
async def test_a_tier_has_workers_of_its_operations_alone(models: Path, runtime: str) -> None:
    settings = Settings(operations=("predict",))
    with open_gateway(Settings(), card=ModelCard.load(models)) as gateway:
        runtime = gateway.url.replace("http", "oip") if runtime == "oip" else runtime
        async with opener_of(runtime, Metrics(), settings)(models) as backend:
            assert await backend.ready() == {"predict": True}
            answer = await backend.predict(PredictRequest(CROPS), timeout_seconds=LIMIT_SECONDS)
            assert len(answer.read) == 3
            question = ExplainRequest.of(CROPS[:1], ANY_LABEL, np.nan, gradients=False)
            with pytest.raises(BackendUnavailable, match="no workers here"):
                await backend.explain(question, timeout_seconds=LIMIT_SECONDS)


async def test_settings_that_a_runtime_does_not_have_are_refused() -> None:
    with pytest.raises(ValueError, match="settings of --runtime process"):
        opener_of("torchserve", Metrics(), Settings(gpus=1))


async def test_nothing_is_left_of_worker_processes(models: Path) -> None:
    async with ProcessBackend(models, operations=["predict", "explain"]) as backend:
        folder = backend.folder
        pids = [backend.pid(operation) for operation in backend.operations]
    assert not folder.exists() and not any(Path(f"/proc/{pid}").exists() for pid in pids)


async def test_a_model_that_does_not_load_says_what_its_handler_said(
    models: Path, tmp_path: Path
) -> None:
    broken = copied(models, tmp_path / "broken")
    altered_archive(broken / "affectgan-explain.mar", "weights.safetensors", lambda _: b"nothing")
    with pytest.raises(ModelError, match="does not load"):
        async with ProcessBackend(broken, operations=["explain"]):
            pass
