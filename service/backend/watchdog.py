"""Finds workers and front ends that run without progress, and kills them; new ones are then
started.

TorchServe itself restarts what has died, and a worker that keeps one batch longer than its
`responseTimeout`. It does not notice a worker that is stopped (SIGSTOP, a debugger, a frozen
cgroup), waits for something that never comes, or fails every request.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import aiohttp
import psutil

from affect.archive import Operation
from service.backend.process_states import STOPPED_SECONDS, is_gone, is_stopped
from service.backend.torchserve_client import TorchServeBackend
from service.backend.torchserve_management import Worker, list_workers
from service.backend.torchserve_process import TorchServeProcess

POLL_SECONDS = 0.5
IDLE_SECONDS = 5.0  # a request waits for this long and its worker has not used the processor
# Requests in a row that a living worker failed: it will not recover (no memory, a broken GPU).
FAILURES = 5
DEAF_SECONDS = 10.0  # for which the front end has not answered
# In these states a process only waits for a processor or for its pages.
WAITING_FOR_MACHINE = (psutil.STATUS_RUNNING, psutil.STATUS_DISK_SLEEP)

log = logging.getLogger(__name__)


@dataclass
class _Observation:
    """The observed state of a process. Times are those of time.monotonic: its start, its processor
    time, when that last grew, and since when it is stopped.
    """

    started: float = 0.0
    used_seconds: float = -1.0
    last_active: float = 0.0
    stopped_since: float | None = None

    def update(self, process: psutil.Process, now: float) -> None:
        """Raises psutil.Error when the process is gone."""
        self.started = now - (time.time() - process.create_time())
        used = sum(process.cpu_times()[:2])
        if not is_stopped(process.pid):
            self.stopped_since = None
        elif self.stopped_since is None or used != self.used_seconds:
            self.stopped_since = now
        if used != self.used_seconds or process.status() in WAITING_FOR_MACHINE:
            self.used_seconds, self.last_active = used, now

    def stopped_for(self, now: float) -> float:
        """Seconds."""
        return 0.0 if self.stopped_since is None else now - self.stopped_since


@dataclass
class Watchdog:
    """Of one TorchServe. `idle_seconds`: how long a worker may use no processor time while a
    request waits.

    `on_kill` is called with what was killed ("front end" or an operation) and the reason (stopped,
    hung, failing, deaf); `on_death` with the operation of each worker that ended, killed or not.
    """

    server: TorchServeProcess
    backend: TorchServeBackend
    on_kill: Callable[[str, str], None] = lambda what, reason: None
    on_death: Callable[[Operation], None] = lambda operation: None
    idle_seconds: float = IDLE_SECONDS
    _observations: dict[int, _Observation] = field(init=False, default_factory=dict)
    _known_pids: dict[Operation, set[int]] = field(init=False, default_factory=dict)
    _workers: dict[int, Operation] = field(init=False, default_factory=dict)
    _counted: set[int] = field(init=False, default_factory=set)
    _last_answer: float = field(init=False, default=0.0)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Inside, the watchdog runs."""
        task = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            async with self.server.management_session() as session:
                self._last_answer = time.monotonic()
                self._workers.clear()  # they end with their front end, which is counted itself
                while self.server.up:
                    await self._check_all(session)
                    await asyncio.sleep(POLL_SECONDS)
            await asyncio.sleep(POLL_SECONDS)

    async def _check_all(self, session: aiohttp.ClientSession) -> None:
        workers_by_operation = await asyncio.gather(
            *(list_workers(session, operation) for operation in self.backend.operations)
        )
        workers_of = dict(zip(self.backend.operations, workers_by_operation, strict=True))
        now = time.monotonic()
        if any(workers_by_operation):
            self._last_answer = now
        self._check_front_end(now)
        self._count_deaths(
            {
                worker.pid: operation
                for operation, workers in workers_of.items()
                for worker in workers
                if worker.pid > 0
            }
        )
        for operation, workers in workers_of.items():
            self._check_workers(operation, self._in_service(workers), now)
        living = {worker.pid for workers in workers_by_operation for worker in workers} | {
            self.server.pid
        }
        self.backend.killed_pids &= living
        self._observations = {
            pid: observation for pid, observation in self._observations.items() if pid in living
        }

    def _count_deaths(self, workers: dict[int, Operation]) -> None:
        self._workers |= workers
        if not self.server.up:
            return
        gone = {pid: self._workers.pop(pid) for pid in list(self._workers) if is_gone(pid)}
        version = self.backend.served.version
        for operation in [gone[pid] for pid in gone.keys() - self._counted]:
            log.error("a worker of %s of %s ended: TorchServe starts another", operation, version)
            self.on_death(operation)
        self._counted = gone.keys() & workers.keys()  # it lists a worker for a while after its end

    def _in_service(self, workers: list[Worker]) -> list[int]:
        """Process ids of the workers that TorchServe sends requests to and that were not killed
        here.
        """
        killed = self.backend.killed_pids
        return [one.pid for one in workers if one.status == "READY" and one.pid not in killed]

    def _check_front_end(self, now: float) -> None:
        observation = self._observe(self.server.pid, now)
        if observation is None or not self.server.up:
            return
        if observation.stopped_for(now) >= STOPPED_SECONDS:
            reason = "stopped"
        elif now - self._last_answer >= DEAF_SECONDS:
            reason = "deaf"
        else:
            return
        self._report("front end", reason)
        self.server.kill()

    def _check_workers(self, operation: Operation, pids: list[int], now: float) -> None:
        observed = {
            pid: observation for pid in pids if (observation := self._observe(pid, now)) is not None
        }
        stopped = [
            pid
            for pid, observation in observed.items()
            if observation.stopped_for(now) >= STOPPED_SECONDS
        ]
        for pid in stopped:
            self._kill(pid, operation, "stopped")
        if stopped or not observed:
            return
        for pid in set(observed) - self._known_pids.get(operation, set()):  # also the first seen
            self.backend.mark_suspect(operation, before=observed[pid].started)
        self._known_pids[operation] = set(observed)
        reason = self._fault_of(operation, list(observed.values()), now)
        if reason:
            for pid in observed:
                self._kill(pid, operation, reason)
            self.backend.reset_failures(operation)

    def _fault_of(
        self, operation: Operation, observed: list[_Observation], now: float
    ) -> str | None:
        """Why the workers of an operation must be killed: failing or hung; None: healthy."""
        if self.backend.consecutive_failures(operation) >= FAILURES:
            return "failing"
        sent = self.backend.oldest_sent_at(operation)
        active = any(now - one.last_active < self.idle_seconds for one in observed)
        if sent is None or now - sent < self.idle_seconds or active:
            return None
        lost = self.backend.resend_lost(operation, before=now)
        if lost:
            version = self.backend.served.version
            log.warning(
                "%d %s requests of %s were lost with a worker: sent again", lost, operation, version
            )
        return None if lost else "hung"

    def _observe(self, pid: int, now: float) -> _Observation | None:
        observation = self._observations.setdefault(pid, _Observation())
        try:
            observation.update(psutil.Process(pid), now)
        except psutil.Error:
            return None
        return observation

    def _kill(self, pid: int, operation: Operation, reason: str) -> None:
        self.backend.killed_pids.add(pid)
        self._report(operation, reason)
        with suppress(psutil.Error):
            psutil.Process(pid).kill()

    def _report(self, fault: str, reason: str) -> None:
        version = self.backend.served.version
        log.error("%s of %s is %s: killed, so that a new one is started", fault, version, reason)
        self.on_kill(fault, reason)
