"""The backend against a real TorchServe: answers, refusals, deadlines, and workers that die."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import psutil
import pytest
import pytest_asyncio
import torch
from aiohttp import web
from numpy.typing import NDArray

from affect.archive import OPERATIONS
from affect.batches import predict
from affect.card import ModelCard
from affect.protocol.messages import (
    ANY_LABEL,
    NO_REFERENCE,
    ExplainRequest,
    GenerateRequest,
    PredictRequest,
    PredictResponse,
)
from service.backend.interface import (
    BackendError,
    BackendOverloaded,
    BackendRefused,
    BackendTimeout,
    BackendUnavailable,
)
from service.backend.torchserve_client import TorchServeBackend
from service.backend.torchserve_process import TorchServeProcess
from service.backend.watchdog import Watchdog
from tests.support.tiny import tiny_card, tiny_model
from tests.support.waiting import LIMIT_SECONDS

pytestmark = [pytest.mark.processes, pytest.mark.asyncio(loop_scope="module")]


@dataclass
class Live:
    server: TorchServeProcess
    backend: TorchServeBackend

    def worker(self) -> psutil.Process:
        """The process that serves predict."""
        folder = str(self.server.folder)
        for process in psutil.process_iter(["cmdline"]):
            line = " ".join(process.info["cmdline"] or ())
            if folder in line and "model_service_worker.py" in line and ".ts.sock.9000" in line:
                return process
        raise AssertionError("there is no worker")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live(models: Path) -> AsyncIterator[Live]:
    async with (
        TorchServeProcess(models, start_seconds=LIMIT_SECONDS) as server,
        TorchServeBackend.from_folder(models, server.inference, server.management) as backend,
    ):
        backend.restart_seconds = LIMIT_SECONDS  # a busy machine restarts it in its own time
        yield Live(server, backend)


@contextmanager
def frozen(process: psutil.Process) -> Iterator[None]:
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def faces(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def wish(seeds: list[int]) -> GenerateRequest:
    labels = np.full((len(seeds), 10), np.nan, dtype=np.float32)
    nobody, none = (
        np.zeros((0, 32, 32, 3), dtype=np.uint8),
        np.full(len(seeds), NO_REFERENCE, dtype=np.int32),
    )
    return GenerateRequest(labels, np.array(seeds, dtype=np.int64), nobody, none)


async def test_a_prediction_is_the_models(live: Live) -> None:
    answer = await live.backend.predict(PredictRequest(faces(5)), timeout_seconds=LIMIT_SECONDS)
    model = tiny_model()
    expected = model.predict(model.to_pixels(torch.from_numpy(faces(5))))
    assert np.allclose(answer.read.probability, expected.probability.detach(), atol=1e-5)


async def test_many_clients_get_their_own_answers(live: Live) -> None:
    counts = [1 + number % 7 for number in range(40)]
    answers = await asyncio.gather(
        *(
            live.backend.predict(PredictRequest(faces(n)), timeout_seconds=LIMIT_SECONDS)
            for n in counts
        )
    )
    model = tiny_model()
    for count, answer in zip(counts, answers, strict=True):
        expected = model.read(model.to_pixels(torch.from_numpy(faces(count)))).va
        assert np.allclose(answer.read.va, expected.detach(), atol=1e-5)


async def test_the_same_seed_is_the_same_picture_among_other_clients(live: Live) -> None:
    alone = await live.backend.generate(wish([7]), timeout_seconds=LIMIT_SECONDS)
    crowd = await asyncio.gather(
        *(
            live.backend.generate(wish([seed, 7]), timeout_seconds=LIMIT_SECONDS)
            for seed in range(6)
        )
    )
    assert all(np.array_equal(answer.images[1], alone.images[0]) for answer in crowd)


async def test_an_explanation_comes_with_its_words_and_the_errors_of_its_rows(live: Live) -> None:
    job = ExplainRequest.of(faces(2), ANY_LABEL, np.nan)
    job.label[1] = 99
    answer = await live.backend.explain(job, timeout_seconds=LIMIT_SECONDS)
    assert answer.details[0] is not None
    assert answer.errors[1].code == "unknown_label"


async def test_crops_of_another_size_are_refused_before_they_are_sent(live: Live) -> None:
    with pytest.raises(BackendRefused, match="crops"):
        await live.backend.predict(
            PredictRequest(np.zeros((1, 8, 8, 3), dtype=np.uint8)), timeout_seconds=LIMIT_SECONDS
        )


async def test_a_job_for_other_weights_is_refused_by_the_worker(live: Live) -> None:
    card: ModelCard = (await live.backend.card()).model_copy(update={"digest": "of other weights"})
    async with replace(live.backend, served=card) as stale:
        with pytest.raises(BackendRefused, match="digest"):
            await stale.predict(PredictRequest(faces(1)), timeout_seconds=LIMIT_SECONDS)


async def test_no_answer_in_time_is_a_timeout(live: Live) -> None:
    with frozen(live.worker()), pytest.raises(BackendTimeout, match="predict"):
        await live.backend.predict(PredictRequest(faces(1)), timeout_seconds=0.5)


async def test_a_full_queue_is_reported_while_the_worker_stands_still_and_what_it_holds_is_answered(
    live: Live,
) -> None:
    async def ask() -> type[BackendError] | None:
        try:
            await live.backend.predict(PredictRequest(faces(1)), timeout_seconds=LIMIT_SECONDS)
        except BackendError as error:
            return type(error)
        return None

    with frozen(live.worker()):
        pending = [asyncio.create_task(ask()) for _ in range(400)]
        async with asyncio.timeout(LIMIT_SECONDS):
            while sum(task.done() for task in pending) <= 50:
                await asyncio.sleep(0.05)
    outcomes = Counter(await asyncio.gather(*pending))
    assert set(outcomes) == {None, BackendOverloaded}
    assert outcomes[None] >= 256  # what the queue holds


async def test_a_killed_worker_costs_clients_time_but_no_answer(live: Live) -> None:
    async def client() -> None:
        """Asks until a worker was killed, and once after that."""
        while not killed.is_set():
            await predict()
        await predict()

    async def predict() -> None:
        await live.backend.predict(PredictRequest(faces(2)), timeout_seconds=LIMIT_SECONDS)
        answered.set()

    killed, answered = asyncio.Event(), asyncio.Event()
    # TorchServe may lose what it was about to hand to the worker; the watchdog has it sent again.
    async with Watchdog(live.server, live.backend).watching():
        clients = [asyncio.create_task(client()) for _ in range(8)]
        await answered.wait()
        live.worker().kill()
        killed.set()
        await asyncio.gather(*clients)


async def test_readiness_reports_a_dead_worker_and_its_return(live: Live) -> None:
    assert await live.backend.ready() == dict.fromkeys(OPERATIONS, True)
    live.worker().kill()
    async with asyncio.timeout(LIMIT_SECONDS):
        while (await live.backend.ready())["predict"]:
            await asyncio.sleep(0.05)
    assert (await live.backend.ready())["generate"]
    async with asyncio.timeout(LIMIT_SECONDS):
        while not (await live.backend.ready())["predict"]:
            await asyncio.sleep(0.05)


async def test_a_killed_front_end_costs_clients_time_but_no_answer(live: Live) -> None:
    front_end = live.worker().parent()
    assert front_end is not None
    jobs = [
        asyncio.create_task(
            live.backend.predict(PredictRequest(faces(64)), timeout_seconds=LIMIT_SECONDS)
        )
        for _ in range(8)
    ]
    while live.backend.oldest_sent_at("predict") is None:
        await asyncio.sleep(0)
    front_end.kill()
    assert [len(answer.read) for answer in await asyncio.gather(*jobs)] == [64] * 8


async def test_without_a_server_nothing_is_ready_and_calls_say_so(tmp_path: Path) -> None:
    inference, management = (f"unix:{tmp_path / name}.sock" for name in "ab")
    async with TorchServeBackend(
        inference, management, tiny_card(), restart_seconds=0.2
    ) as backend:
        assert not any((await backend.ready()).values())
        with pytest.raises(BackendUnavailable, match="predict"):
            await backend.predict(PredictRequest(faces(1)), timeout_seconds=LIMIT_SECONDS)


@asynccontextmanager
async def stand_in(
    folder: Path, *answers: Literal["died", "lost", "read"]
) -> AsyncIterator[tuple[TorchServeBackend, asyncio.Queue[str]]]:
    """A backend of a TorchServe that answers one request after the other so, and what it is about
    to answer.
    """
    numbers, arrived = iter(answers), asyncio.Queue[str]()
    read = PredictResponse(predict(tiny_model(), faces(1), (1,))).to_bytes(tiny_card())

    async def answer(_: web.Request) -> web.Response:
        what = next(numbers)
        arrived.put_nowait(what)
        if what == "lost":
            await asyncio.Event().wait()
        if what == "died":
            return web.json_response({"message": "Worker died."}, status=500)
        return web.Response(body=read)

    app, path = web.Application(), folder / "stand-in.sock"
    app.router.add_post("/predictions/{name}", answer)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    await web.UnixSite(runner, path).start()
    address = f"unix:{path}"
    try:
        async with TorchServeBackend(address, address, tiny_card()) as backend:
            yield backend, arrived
    finally:
        await runner.cleanup()


def ask(backend: TorchServeBackend) -> asyncio.Task[PredictResponse]:
    request = PredictRequest(faces(1))
    return asyncio.create_task(backend.predict(request, timeout_seconds=LIMIT_SECONDS))


async def test_a_lost_request_may_be_given_up_at_any_moment(tmp_path: Path) -> None:
    """Also twice, and while it is ending: it is sent again, and its answer is an answer."""
    async with stand_in(tmp_path, "lost", "lost", "read") as (backend, arrived):
        pending = ask(backend)
        for _ in range(2):
            assert await arrived.get() == "lost"
            backend.mark_suspect("predict", before=np.inf)
            for _ in range(20):
                backend.resend_lost("predict", before=np.inf)
                await asyncio.sleep(0)
        assert len((await pending).read) == 1


async def test_what_died_with_its_worker_and_is_lost_then_is_answered_too(tmp_path: Path) -> None:
    """It was sent again before the next worker was there, so it may be taken for lost."""
    async with stand_in(tmp_path, "died", "lost", "read") as (backend, arrived):
        pending = ask(backend)
        assert [await arrived.get(), await arrived.get()] == ["died", "lost"]
        backend.mark_suspect("predict", before=np.inf)
        assert backend.resend_lost("predict", before=np.inf) == 1
        assert len((await pending).read) == 1


async def test_what_two_workers_died_of_is_sent_to_no_third(tmp_path: Path) -> None:
    async with stand_in(tmp_path, "died", "died") as (backend, _):
        with pytest.raises(BackendUnavailable, match="Worker died"):
            await ask(backend)
