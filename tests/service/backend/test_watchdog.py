"""What lives but does nothing, in a real TorchServe: it is noticed, killed, and started anew."""

import asyncio
import os
import resource
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import psutil
import pytest
import pytest_asyncio

from affect.archive import Operation, archive_of
from affect.protocol.messages import PredictRequest
from service.backend.interface import BackendError
from service.backend.process_states import STOPPED_SECONDS
from service.backend.torchserve_client import TorchServeBackend
from service.backend.torchserve_management import list_workers
from service.backend.torchserve_process import TorchServeProcess
from service.backend.watchdog import FAILURES, POLL_SECONDS, Watchdog
from tests.support.archives import altered_archive, copied
from tests.support.waiting import LIMIT_SECONDS

IDLE_SECONDS = 1.5  # of the watchdog here, so that a test need not wait for five
WATCHED: Sequence[Operation] = ("predict", "explain")  # two workers start sooner than three
pytestmark = [pytest.mark.processes, pytest.mark.asyncio(loop_scope="module")]
JOB, BIG = (PredictRequest(np.zeros((n, 32, 32, 3), dtype=np.uint8)) for n in (2, 1024))


@dataclass
class Live:
    server: TorchServeProcess
    backend: TorchServeBackend
    hang: Path  # while this file is there, predict waits for ever
    kills: list[tuple[str, str]] = field(default_factory=list)
    deaths: list[Operation] = field(default_factory=list)

    async def worker(self, operation: Operation = "predict") -> psutil.Process:
        async with self.server.management_session() as session:
            (worker,) = await list_workers(session, operation)
        return psutil.Process(worker.pid)

    async def ready(self) -> bool:
        return all((await self.backend.ready()).values())

    async def until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(LIMIT_SECONDS):
            while not await holds():
                await asyncio.sleep(0.05)

    async def killed(self) -> bool:
        return bool(self.kills)

    async def predict(self, job: PredictRequest = JOB) -> int:
        return len((await self.backend.predict(job, timeout_seconds=LIMIT_SECONDS)).read)


def hanging(models: Path, flag: Path) -> None:
    """Let the archive's predict wait while the file is there, as for a lock that is never freed."""

    def change(handler: bytes) -> bytes:
        before, call, after = handler.partition(b"        return RequestBatch.parse(")
        assert call
        wait = (
            "        import os, time\n"
            f'        while os.path.exists("{flag}"):\n'
            "            time.sleep(60)\n"
        )
        return before + wait.encode() + call + after

    altered_archive(archive_of(models, "predict"), "predict.py", change)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(models: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Live]:
    folder = copied(models, tmp_path_factory.mktemp("hanging"))
    hanging(folder, folder / "hang")
    async with (
        TorchServeProcess(folder, start_seconds=LIMIT_SECONDS, operations=WATCHED) as server,
        TorchServeBackend.from_folder(
            folder, server.inference, server.management, WATCHED
        ) as backend,
    ):
        backend.restart_seconds = LIMIT_SECONDS  # a busy machine restarts it in its own time
        live = Live(server, backend, folder / "hang")
        watchdog = Watchdog(
            server,
            backend,
            lambda what, reason: live.kills.append((what, reason)),
            live.deaths.append,
            idle_seconds=IDLE_SECONDS,
        )
        async with watchdog.watching():
            yield live


@pytest_asyncio.fixture(loop_scope="module")
async def live(running: Live) -> Live:
    running.hang.unlink(missing_ok=True)
    await running.until(running.ready)
    running.kills.clear()
    running.deaths.clear()
    return running


async def test_a_stopped_worker_is_noticed_and_replaced(live: Live) -> None:
    before = await live.worker("explain")
    before.send_signal(signal.SIGSTOP)
    await live.until(live.killed)
    await live.until(live.ready)
    assert live.kills == [("explain", "stopped")]
    assert (await live.worker("explain")).pid != before.pid


async def test_a_worker_that_dies_is_counted_and_said(
    live: Live, caplog: pytest.LogCaptureFixture
) -> None:
    (await live.worker("explain")).kill()

    async def counted() -> bool:
        return bool(live.deaths)

    await live.until(counted)
    await live.until(live.ready)
    assert live.deaths == ["explain"] and live.kills == []
    assert "a worker of explain of 1.0 ended" in caplog.text


async def test_a_death_is_counted_once_however_long_torchserve_lists_the_worker() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    deaths: list[Operation] = []
    server = cast(TorchServeProcess, SimpleNamespace(up=True))
    backend = cast(TorchServeBackend, SimpleNamespace(served=SimpleNamespace(version="1.0")))
    watchdog = Watchdog(server, backend, on_death=deaths.append)
    for listed in ({ended.pid: "explain"}, {ended.pid: "explain"}, {}, {}):
        watchdog._count_deaths(cast(dict[int, Operation], listed))
    assert deaths == ["explain"]


async def test_what_was_sent_before_the_first_worker_it_sees_may_be_lost() -> None:
    """The worker before may have ended before the watchdog looked for the first time."""
    marked: list[Operation] = []
    backend = SimpleNamespace(
        mark_suspect=lambda operation, *, before: marked.append(operation),
        consecutive_failures=lambda operation: 0,
        oldest_sent_at=lambda operation: None,
    )
    server = cast(TorchServeProcess, SimpleNamespace(up=True))
    watchdog = Watchdog(server, cast(TorchServeBackend, backend))
    for _ in range(2):
        watchdog._check_workers("predict", [os.getpid()], time.monotonic())
    assert marked == ["predict"]


async def test_a_stop_is_noticed_within_two_seconds() -> None:
    assert STOPPED_SECONDS + 2 * POLL_SECONDS <= 2


async def test_requests_of_a_stopped_worker_are_answered_by_the_next(live: Live) -> None:
    requests = [asyncio.create_task(live.predict()) for _ in range(20)]
    (await live.worker()).send_signal(signal.SIGSTOP)
    assert await asyncio.gather(*requests, live.predict()) == [2] * 21
    assert live.kills == [("predict", "stopped")]


async def test_a_worker_that_waits_for_ever_is_replaced_and_its_request_answered(
    live: Live,
) -> None:
    live.hang.touch()
    request = asyncio.create_task(live.predict())
    await live.until(live.killed)
    live.hang.unlink()
    assert live.kills == [("predict", "hung")]
    assert await request == 2


async def test_a_worker_that_fails_every_request_for_want_of_memory_is_replaced(
    live: Live,
) -> None:
    worker = await live.worker()
    room = worker.memory_info().vms + (1 << 20)
    worker.rlimit(resource.RLIMIT_AS, (room, room))
    for _ in range(FAILURES):
        with suppress(BackendError):
            await live.predict(BIG)
    assert await live.predict() == 2
    await live.until(live.ready)
    assert (await live.worker()).pid != worker.pid


async def test_a_stopped_front_end_is_noticed_and_replaced(live: Live) -> None:
    before = live.server.pid
    psutil.Process(before).send_signal(signal.SIGSTOP)
    await live.until(live.killed)
    assert await live.predict() == 2
    assert live.kills == [("front end", "stopped")] and live.server.pid != before


async def test_busy_workers_are_left_alone(live: Live) -> None:
    end = time.monotonic() + 2 * IDLE_SECONDS
    while time.monotonic() < end:
        await asyncio.gather(*(live.predict(BIG) for _ in range(4)))
    assert not live.kills and await live.ready()
