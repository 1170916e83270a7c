"""What lives but does nothing, in a real TorchServe: it is noticed within two seconds, killed, and started anew."""

import asyncio
import resource
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import psutil
import pytest
import pytest_asyncio

from affect.archive import OPERATIONS, Operation, archive_of
from affect.protocol.messages import PredictRequest
from service.backend.interface import BackendError
from service.backend.torchserve_client import TorchServeBackend
from service.backend.torchserve_process import TorchServe, workers
from service.backend.watchdog import FAILURES, IDLE_SECONDS, Watchdog, watched
from tests.support.tiny import tiny_run
from training.archive import write_archives

pytestmark = pytest.mark.asyncio(loop_scope="module")
JOB = PredictRequest(np.zeros((2, 32, 32, 3), dtype=np.uint8))


@dataclass
class Live:
    server: TorchServe
    backend: TorchServeBackend
    hang: Path  # while this file is there, predict waits for ever
    kills: list[tuple[str, str]] = field(default_factory=list)

    async def worker(self, operation: Operation = "predict") -> psutil.Process:
        async with self.server.management_session() as session:
            (worker,) = await workers(session, operation)
        return psutil.Process(worker.pid)

    async def ready(self) -> bool:
        return all((await self.backend.ready()).values())

    async def until(self, ready: bool, seconds: float) -> None:
        async with asyncio.timeout(seconds):
            while await self.ready() is not ready:
                await asyncio.sleep(0.05)

    async def ask(self, seconds: float = 30) -> int:
        return len((await self.backend.predict(JOB, timeout_seconds=seconds)).read)


def hanging(models: Path, flag: Path) -> None:
    """Let the archive's predict wait as long as the file is there, as for a lock that nobody gives back."""
    path = archive_of(models, "predict")
    with ZipFile(path) as whole:
        contents = {name: whole.read(name) for name in whole.namelist()}
    start = "        return RequestBatch.parse("
    waiting = f'        import os, time\n        while os.path.exists("{flag}"):\n            time.sleep(60)\n'
    assert start.encode() in contents["predict.py"]
    contents["predict.py"] = contents["predict.py"].replace(
        start.encode(), (waiting + start).encode()
    )
    with ZipFile(path, "w") as changed:
        for name, content in contents.items():
            changed.writestr(name, content)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Live]:
    models = tmp_path_factory.mktemp("models")
    write_archives(tiny_run(models / "run"), models)
    hanging(models, models / "hang")
    async with (
        TorchServe(models) as server,
        TorchServeBackend.from_folder(models, server.inference, server.management) as backend,
    ):
        live = Live(server, backend, models / "hang")
        async with watched(
            Watchdog(server, backend, lambda what, why: live.kills.append((what, why)))
        ):
            yield live


@pytest_asyncio.fixture(loop_scope="module")
async def live(running: Live) -> Live:
    running.hang.unlink(missing_ok=True)
    await running.until(True, 30)
    running.kills.clear()
    return running


async def test_a_stopped_worker_is_told_within_two_seconds_and_replaced(live: Live) -> None:
    (await live.worker("explain")).send_signal(signal.SIGSTOP)
    before = (await live.worker("explain")).pid
    await live.until(False, 2)
    await live.until(True, 20)
    assert live.kills == [("explain", "stopped")] and (await live.worker("explain")).pid != before


async def test_jobs_of_a_stopped_worker_are_answered_by_the_next(live: Live) -> None:
    jobs = [asyncio.create_task(live.ask()) for _ in range(20)]
    (await live.worker()).send_signal(signal.SIGSTOP)
    assert await asyncio.gather(*jobs, live.ask()) == [2] * 21
    assert live.kills == [("predict", "stopped")]


@pytest.mark.slow
async def test_a_worker_that_waits_for_ever_is_replaced_and_its_job_answered(live: Live) -> None:
    live.hang.touch()
    start = time.monotonic()
    job = asyncio.create_task(live.ask())
    async with asyncio.timeout(IDLE_SECONDS + 5):
        while not live.kills:
            await asyncio.sleep(0.05)
    live.hang.unlink()
    assert live.kills == [("predict", "hung")] and time.monotonic() - start > IDLE_SECONDS
    assert await job == 2


@pytest.mark.slow
async def test_a_worker_that_fails_every_job_for_want_of_memory_is_replaced(live: Live) -> None:
    worker = await live.worker()
    room = worker.memory_info().vms + (1 << 20)
    worker.rlimit(resource.RLIMIT_AS, (room, room))
    big = PredictRequest(np.zeros((1024, 32, 32, 3), dtype=np.uint8))
    for _ in range(FAILURES):
        try:
            await live.backend.predict(big, timeout_seconds=20)
        except BackendError:
            continue
    assert await live.ask() == 2
    await live.until(True, 20)
    assert (await live.worker()).pid != worker.pid


@pytest.mark.slow
async def test_a_stopped_front_end_is_told_within_two_seconds_and_replaced(live: Live) -> None:
    before = live.server.pid
    psutil.Process(before).send_signal(signal.SIGSTOP)
    await live.until(False, 2)
    assert await live.ask() == 2
    assert live.kills == [("front end", "stopped")] and live.server.pid != before


@pytest.mark.slow
async def test_busy_workers_are_left_alone(live: Live) -> None:
    big = PredictRequest(np.zeros((1024, 32, 32, 3), dtype=np.uint8))
    end = time.monotonic() + IDLE_SECONDS + 1
    while time.monotonic() < end:
        await asyncio.gather(*(live.backend.predict(big, timeout_seconds=30) for _ in range(4)))
    assert (
        not live.kills and await live.ready() and set(await live.backend.ready()) == set(OPERATIONS)
    )
