"""`--runtime process`: the handlers of the archives in worker processes of ours, without TorchServe
and without Java.

Each worker is a pool of one process (pebble), which ends what takes too long and starts anew what
ended. The rest of what TorchServe does is here: requests of many clients in one batch, a bounded
queue, and a request whose worker died is tried once more, alone.
"""

import asyncio
import logging
import os
import shutil
import signal
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import yaml
from pebble import ProcessExpired, ProcessPool

from affect.archive import CONFIG_FILE, OPERATIONS, Operation, archive_of, digest_of
from affect.card import ModelCard
from affect.processes import preloaded_context
from service.backend import handler_process
from service.backend.interface import BackendOverloaded, BackendUnavailable
from service.backend.message_backend import MessageBackend, error_from_response
from service.backend.preflight import check_archive, check_space
from service.backend.process_states import STOPPED_SECONDS, is_gone, is_stopped

FOLDER_PREFIX = "affectgan-process-"
POLL_SECONDS = 0.25
NO_BATCHING: Mapping[str, Mapping[str, int]] = {}
RELOAD_SECONDS = 1.0  # between attempts to load a model again
IMPORTED_ONCE = ["service.backend.worker_imports"]
log = logging.getLogger(__name__)


class ModelError(ValueError):
    """A model does not load: the handler's error."""


@dataclass(eq=False)
class _QueuedRequest:
    """A request in the queue, and the future of its answer."""

    body: bytes
    answer: asyncio.Future[tuple[int, bytes]]


@dataclass(frozen=True)
class _Archive:
    """An archive, unpacked, and what its configuration says of batches."""

    folder: str
    operation: Operation
    config: dict[str, Any]
    gpu: int | None = None

    @property
    def arguments(self) -> tuple[Any, ...]:
        return self.folder, self.operation, self.config, self.gpu


class _Worker:
    """One process, which does one batch at a time."""

    def __init__(self, archive: _Archive, on_event: Callable[[str, Operation], None]) -> None:
        self.archive, self._on_event = archive, on_event
        self._pool = _pool()
        self.pid = -1
        self.ready = False

    async def load(self) -> None:
        """Raises ModelError."""
        limit = self.archive.config["startupTimeout"]
        try:
            self.pid = await self._call(handler_process.load, limit)
        except Exception as error:
            raise ModelError(f"{type(error).__name__}: {error}") from error
        self.ready = True

    async def run(self, bodies: list[bytes]) -> list[tuple[int, bytes]]:
        """Raises BackendUnavailable when the worker dies, fails, or takes too long."""
        limit = self.archive.config["responseTimeout"]
        try:
            answers: list[tuple[int, bytes]] = await self._call(handler_process.run, limit, bodies)
        except TimeoutError as error:
            self._on_event("hung", self.archive.operation)
            raise BackendUnavailable(f"the worker took more than {limit} s") from error
        except ProcessExpired as error:
            raise BackendUnavailable("the worker died") from error
        except Exception as error:
            raise BackendUnavailable(f"the worker failed: {type(error).__name__}") from error
        return answers

    async def watch(self) -> None:
        """Kill the process when it is stopped; load the model anew when it has ended."""
        stopped_since: float | None = None
        while True:
            await asyncio.sleep(POLL_SECONDS)
            now = time.monotonic()
            stopped_since = (stopped_since or now) if is_stopped(self.pid) else None
            if stopped_since is not None and now - stopped_since >= STOPPED_SECONDS:
                self._on_event("stopped", self.archive.operation)
                with suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGKILL)
            if is_gone(self.pid):
                self.ready = False
                self._on_event("ended", self.archive.operation)
                await self._load_anew()

    async def _load_anew(self) -> None:
        while not self.ready:
            try:
                await self.load()
            except ModelError as error:
                log.error("%s: %s", self.archive.operation, error)
                await asyncio.sleep(RELOAD_SECONDS)

    async def _call(self, function: Callable[..., Any], limit: float, *arguments: Any) -> Any:
        if not self._pool.active:  # its process ended while it had nothing to do
            self._pool = _pool()
        work = self._pool.schedule(function, [*self.archive.arguments, *arguments], timeout=limit)
        return await asyncio.wrap_future(work)

    async def close(self) -> None:
        """End the process; the gateway has drained before."""
        self._pool.stop()  # type: ignore[no-untyped-call]
        with suppress(ProcessLookupError):
            if self.pid > 0:
                os.kill(self.pid, signal.SIGKILL)  # also one that is stopped
        await asyncio.to_thread(self._pool.join)


def _pool() -> ProcessPool:
    return ProcessPool(max_workers=1, context=preloaded_context(IMPORTED_ONCE))


@dataclass
class _Queue:
    """The requests of one operation and its workers."""

    archive: _Archive
    workers: list[_Worker]
    waiting: asyncio.Queue[_QueuedRequest] = field(init=False)

    def __post_init__(self) -> None:
        self.waiting = asyncio.Queue(self.archive.config["jobQueueSize"])

    async def serve(self, worker: _Worker) -> None:
        """Batch after batch, for ever."""
        while True:
            batch = await self._next_batch()
            if not batch:
                continue
            try:
                answers = await worker.run([one.body for one in batch])
            except BackendUnavailable:
                await self._retry(worker, batch)
                continue
            for one, answer in zip(batch, answers, strict=True):
                _settle(one, answer)

    async def _next_batch(self) -> list[_QueuedRequest]:
        """Waiting requests, up to the batch's size; a batch waits for more only `maxBatchDelay`."""
        batch = [await self.waiting.get()]
        try:
            async with asyncio.timeout(self.archive.config["maxBatchDelay"] / 1000):
                while len(batch) < self.archive.config["batchSize"]:
                    batch.append(await self.waiting.get())
        except TimeoutError:
            pass
        return [one for one in batch if not one.answer.done()]  # whose client is still there

    async def _retry(self, worker: _Worker, batch: list[_QueuedRequest]) -> None:
        """Run each once more alone: the request that ended the worker fails alone."""
        for one in batch:
            try:
                (answer,) = await worker.run([one.body])
                _settle(one, answer)
            except BackendUnavailable as again:
                if not one.answer.done():
                    one.answer.set_exception(again)


def _settle(one: _QueuedRequest, answer: tuple[int, bytes]) -> None:
    if not one.answer.done():
        one.answer.set_result(answer)


class ProcessBackend(MessageBackend):
    """`async with ProcessBackend(folder)`: each of `operations` has a worker that is ready.

    `batching` goes before what the archive's model-config.yaml says of an operation; workers share
    the `gpus` in turn. `on_event` is called with "ended" for a worker that ended, "hung" or
    "stopped" for one that is killed. Raises ModelError.
    """

    def __init__(
        self,
        models: Path,
        on_event: Callable[[str, Operation], None] = lambda what, which: None,
        *,
        batching: Mapping[str, Mapping[str, int]] = NO_BATCHING,
        gpus: int = 0,
        operations: Sequence[Operation] = OPERATIONS,
    ) -> None:
        self.models, self._on_event, self.operations = models, on_event, operations
        self._batching, self._gpus = batching, gpus
        self.served, self.archives = ModelCard.load(models), digest_of(models)
        self._queues: dict[Operation, _Queue] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX))
        try:
            for operation in self.operations:
                archive = await asyncio.to_thread(self._unpack, operation)
                workers = archive.config["minWorkers"]
                started = [
                    _Worker(replace(archive, gpu=self._gpu(number)), self._on_event)
                    for number in range(workers)
                ]
                self._queues[operation] = _Queue(archive, started)
            await self._start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(worker.close() for worker in self._workers))
        shutil.rmtree(self.folder, ignore_errors=True)

    async def ready(self) -> dict[str, bool]:
        """A worker has its model."""
        return {
            operation: any(worker.ready for worker in queue.workers)
            for operation, queue in self._queues.items()
        }

    @property
    def _workers(self) -> list[_Worker]:
        return [worker for queue in self._queues.values() for worker in queue.workers]

    def workers(self, operation: Operation) -> list[_Worker]:
        """Of an operation."""
        return self._queues[operation].workers

    def pid(self, operation: Operation) -> int:
        """Of the first worker of an operation."""
        return self._queues[operation].workers[0].pid

    def _gpu(self, number: int) -> int | None:
        return number % self._gpus if self._gpus else None

    def _unpack(self, operation: Operation) -> _Archive:
        """Raises TorchServeError for an archive that is damaged, or no room."""
        source, folder = archive_of(self.models, operation), self.folder / operation
        check_space(self.folder, check_archive(source))
        with zipfile.ZipFile(source) as archive:
            archive.extractall(folder)
        config = yaml.safe_load((folder / CONFIG_FILE).read_text())
        config |= self._batching.get(operation, {})
        return _Archive(str(folder), operation, config)

    async def _start(self) -> None:
        try:
            await asyncio.gather(*(worker.load() for worker in self._workers))
        except ModelError as error:
            raise ModelError(f"a model of {self.models} does not load: {error}") from error
        for queue in self._queues.values():
            for worker in queue.workers:
                self._tasks += [
                    asyncio.create_task(queue.serve(worker)),
                    asyncio.create_task(worker.watch()),
                ]

    async def _send(self, operation: Operation, content: bytes) -> bytes:
        answer = asyncio.get_running_loop().create_future()
        try:
            self._queues[operation].waiting.put_nowait(_QueuedRequest(content, answer))
        except asyncio.QueueFull as error:
            raise BackendOverloaded(f"{operation}: the queue is full") from error
        try:
            status, body = await answer
        finally:
            answer.cancel()  # the caller cancelled: it is left out of the next batch
        if status != 200:
            raise error_from_response(operation, status, body)
        return bytes(body)
