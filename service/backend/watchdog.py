"""Finds workers and front ends that live but do nothing, and kills them; TorchServe or its supervisor then starts new ones.

TorchServe itself restarts what has died, and a worker that keeps one batch longer than its `responseTimeout`. It does not see a
worker that is stopped (SIGSTOP, a debugger, a frozen cgroup), waits for something that never comes, or fails every job.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import aiohttp
import psutil

from affect.archive import OPERATIONS, Operation
from service.backend.torchserve_client import TorchServeBackend
from service.backend.torchserve_process import TorchServe, Worker, stopped, workers

LOOK_SECONDS = 0.5
STOPPED_SECONDS = 1.0  # stopped for this long
IDLE_SECONDS = 5.0  # a job is out for this long and its worker has not used the processor
FAILURES = 5  # jobs in a row that a living worker failed: it will not recover by itself (a broken GPU context, no memory)
DEAF_SECONDS = 10.0  # the front end has answered nothing
WANTS = (
    psutil.STATUS_RUNNING,
    psutil.STATUS_DISK_SLEEP,
)  # it would go on, had it a processor or its pages

log = logging.getLogger(__name__)


@dataclass
class _Sight:
    """What was seen of a process: when it started, the processor time it had used, when that last grew, since when it is stopped.

    Times are those of time.monotonic.
    """

    started: float = 0.0
    used_seconds: float = -1.0
    moved: float = 0.0
    stopped: float | None = None

    def look(self, process: psutil.Process, now: float) -> None:
        self.started = now - (time.time() - process.create_time())
        used = sum(process.cpu_times()[:2])
        self.stopped = (
            None
            if not stopped(process.pid)
            else now
            if self.stopped is None or used != self.used_seconds
            else self.stopped
        )
        if used != self.used_seconds or process.status() in WANTS:
            self.used_seconds, self.moved = used, now

    def stopped_for(self, now: float) -> float:
        return 0.0 if self.stopped is None else now - self.stopped


@dataclass
class Watchdog:
    """Of one TorchServe. `told` hears of every kill: of what ("front end" or an operation) and why (stopped, hung, failing, deaf)."""

    server: TorchServe
    backend: TorchServeBackend
    told: Callable[[str, str], None] = lambda what, why: None
    _sights: dict[int, _Sight] = field(init=False, default_factory=dict)
    _known: dict[Operation, set[int]] = field(init=False, default_factory=dict)
    _heard: float = field(init=False, default=0.0)

    async def watch(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            async with self.server.management_session() as session:
                self._heard = time.monotonic()
                while self.server.up:
                    await self._look(session)
                    await asyncio.sleep(LOOK_SECONDS)
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self, session: aiohttp.ClientSession) -> None:
        found = await asyncio.gather(*(workers(session, operation) for operation in OPERATIONS))
        now = time.monotonic()
        if any(found):
            self._heard = now
        self._judge_front_end(now)
        for operation, there in zip(OPERATIONS, found, strict=True):
            self._judge(
                operation,
                [
                    worker
                    for worker in there
                    if worker.status == "READY" and worker.pid not in self.backend.killed_pids
                ],
                now,
            )
        living = {worker.pid for there in found for worker in there} | {self.server.pid}
        self.backend.killed_pids &= living
        self._sights = {pid: sight for pid, sight in self._sights.items() if pid in living}

    def _judge_front_end(self, now: float) -> None:
        sight = self._seen(self.server.pid, now)
        if sight is None or not self.server.up:
            return
        why = (
            "stopped"
            if sight.stopped_for(now) >= STOPPED_SECONDS
            else "deaf"
            if now - self._heard >= DEAF_SECONDS
            else None
        )
        if why:
            self._tell("front end", why)
            self.server.kill()

    def _judge(self, operation: Operation, there: list[Worker], now: float) -> None:
        sights = {
            worker.pid: sight
            for worker in there
            if (sight := self._seen(worker.pid, now)) is not None
        }
        dead = [pid for pid, sight in sights.items() if sight.stopped_for(now) >= STOPPED_SECONDS]
        for pid in dead:
            self._kill(pid, operation, "stopped")
        if dead or not sights:
            return
        for pid in set(sights) - self._known.get(operation, set(sights)):
            self.backend.mark_suspect(operation, before=sights[pid].started)
        self._known[operation] = set(sights)
        why = self._complaint(operation, list(sights.values()), now)
        if why:
            for pid in sights:
                self._kill(pid, operation, why)
            self.backend.reset_failures(operation)

    def _complaint(self, operation: Operation, sights: list[_Sight], now: float) -> str | None:
        if self.backend.consecutive_failures(operation) >= FAILURES:
            return "failing"
        sent = self.backend.oldest_sent_at(operation)
        if (
            sent is None
            or now - sent < IDLE_SECONDS
            or any(now - sight.moved < IDLE_SECONDS for sight in sights)
        ):
            return None
        lost = self.backend.resend_lost(operation, before=now)
        if lost:
            log.warning(
                "%d %s jobs of %s were lost with a worker: sent again",
                lost,
                operation,
                self.backend.served.version,
            )
        return None if lost else "hung"

    def _seen(self, pid: int, now: float) -> _Sight | None:
        sight = self._sights.setdefault(pid, _Sight())
        try:
            sight.look(psutil.Process(pid), now)
        except psutil.Error:
            return None
        return sight

    def _kill(self, pid: int, operation: Operation, why: str) -> None:
        self.backend.killed_pids.add(pid)
        self._tell(operation, why)
        with suppress(psutil.Error):
            psutil.Process(pid).kill()

    def _tell(self, what: str, why: str) -> None:
        log.error(
            "%s of %s is %s: killed, so that a new one is started",
            what,
            self.backend.served.version,
            why,
        )
        self.told(what, why)


@asynccontextmanager
async def watched(watchdog: Watchdog) -> AsyncIterator[None]:
    """Within, it watches."""
    task = asyncio.create_task(watchdog.watch())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
