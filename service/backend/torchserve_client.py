"""TorchServe as a model server (`service.backend.interface`).

A request goes over its sockets, and again when it was lost: TorchServe loses the requests of a
worker that dies, and does not answer while its front end restarts.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Self

import aiohttp

from affect.archive import OPERATIONS, Operation, digest_of, model_name
from affect.card import ModelCard
from affect.protocol.messages import MEDIA_TYPE
from service.backend.interface import BackendError, BackendUnavailable
from service.backend.message_backend import MessageBackend, error_from_response
from service.backend.torchserve_management import connect, has_ready_worker

READY_SECONDS = 0.5  # for which an answer to `ready` is cached
RESTART_SECONDS = 15.0  # for which a request waits for a front end that is being restarted
RETRY_SECONDS = 0.1
REORDERED_SECONDS = 1.0  # requests sent this close together may be reordered between connections
FAILED = (503, 507)  # the handler raised; there was no memory
# Whatever the status: the next request goes to a new worker, and the failure of the old one must
# not count against it.
DIED = b"Worker died"


class _ConnectionFailed(BackendUnavailable):
    """The front end is not running, or ended before it answered."""


class _RequestLost(BackendUnavailable):
    """No worker has the request: it was sent to a worker that was replaced."""


@dataclass
class _PendingRequest:
    """A request that waits for its answer. `sent` is a time of time.monotonic.

    `suspect`: a worker was replaced meanwhile, so that it may have been lost.
    """

    sent: float
    limit: asyncio.Timeout
    suspect: bool = False

    def give_up(self) -> None:
        """End the wait: the sender sends the request again. Does nothing when it was just answered
        or given up: an expired timeout cannot be rescheduled.
        """
        with suppress(RuntimeError):
            self.limit.reschedule(asyncio.get_running_loop().time())


@dataclass
class TorchServeBackend(MessageBackend):
    """`async with TorchServeBackend(server.inference, server.management, card) as backend`.

    Addresses as `service.backend.torchserve_management.connect` takes them. `restart_seconds`: how
    long a request waits for a front end that is being restarted. `killed_pids` are workers that
    were killed and that TorchServe may still list.
    """

    inference: str
    management: str
    served: ModelCard
    archives: str = ""
    restart_seconds: float = RESTART_SECONDS
    operations: Sequence[Operation] = OPERATIONS
    killed_pids: set[int] = field(init=False, default_factory=set)
    _inference_session: aiohttp.ClientSession = field(init=False)
    _management_session: aiohttp.ClientSession = field(init=False)
    _ready: dict[str, bool] = field(init=False, default_factory=dict)
    _ready_at: float = field(init=False, default=-READY_SECONDS)
    _pending: dict[Operation, dict[int, _PendingRequest]] = field(
        init=False, default_factory=lambda: {operation: {} for operation in OPERATIONS}
    )
    _failures: Counter[Operation] = field(init=False, default_factory=Counter)
    _numbers: Iterator[int] = field(init=False, default_factory=count)

    @classmethod
    def from_folder(
        cls,
        models: Path,
        inference: str,
        management: str,
        operations: Sequence[Operation] = OPERATIONS,
    ) -> Self:
        """The backend for the archives of a folder, whose card lies beside them."""
        card, archives = ModelCard.load(models), digest_of(models)
        return cls(inference, management, card, archives, operations=operations)

    async def __aenter__(self) -> Self:
        self._inference_session = connect(self.inference)
        self._management_session = connect(self.management)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(self._inference_session.close(), self._management_session.close())

    # -- Backend ---------------------------------------------------------------------------------

    async def ready(self) -> dict[str, bool]:
        """Per operation: a worker is READY, and not one that was killed."""
        if time.monotonic() - self._ready_at > READY_SECONDS:
            session, killed = self._management_session, self.killed_pids
            states = await asyncio.gather(
                *(has_ready_worker(session, one, excluding=killed) for one in self.operations)
            )
            self._ready = dict(zip(self.operations, states, strict=True))
            self._ready_at = time.monotonic()
        return self._ready

    # -- for the watchdog --------------------------------------------------------

    def oldest_sent_at(self, operation: Operation) -> float | None:
        """The time (time.monotonic) when the longest waiting request was sent; None without one."""
        return next((request.sent for request in self._pending[operation].values()), None)

    def mark_suspect(self, operation: Operation, *, before: float) -> None:
        """A worker was replaced by one that started then: what was sent before may be lost.

        It is, once a later request is answered.
        """
        for request in self._pending[operation].values():
            request.suspect |= request.sent < before

    def resend_lost(self, operation: Operation, *, before: float) -> int:
        """Suspect requests sent before this time are lost: send them again. Returns how many."""
        pending = self._pending[operation].values()
        lost = [request for request in pending if request.suspect and request.sent < before]
        for request in lost:
            request.give_up()
        return len(lost)

    def consecutive_failures(self, operation: Operation) -> int:
        """Requests that a worker answered with its own failure since it last answered well."""
        return self._failures[operation]

    def reset_failures(self, operation: Operation) -> None:
        """Count failures from 0 for a new worker."""
        self._failures[operation] = 0

    # -- sending ---------------------------------------------------------------------------------

    async def _send(self, operation: Operation, content: bytes) -> bytes:
        """Post a request; again when it was lost, and once when the worker died under it: inference
        changes nothing, but may be what the worker died of.

        While nobody listens, because the front end is being restarted, wait for it a little.
        """
        restarted_by, worker_died = time.monotonic() + self.restart_seconds, False
        while True:
            try:
                return await self._post(operation, content)
            except _ConnectionFailed:
                if time.monotonic() > restarted_by:
                    raise
                await asyncio.sleep(RETRY_SECONDS)
            except _RequestLost:
                continue  # not the fault of this request: until the sender's deadline
            except BackendUnavailable:
                if worker_died:
                    raise
                worker_died = True

    async def _post(self, operation: Operation, content: bytes) -> bytes:
        number = next(self._numbers)
        try:
            async with asyncio.timeout(None) as limit:
                request = _PendingRequest(time.monotonic(), limit)
                self._pending[operation][number] = request
                status, body = await self._exchange(operation, content)
        except TimeoutError as error:
            raise _RequestLost(
                f"{operation}: the request was lost when its worker was replaced"
            ) from error
        finally:
            self._pending[operation].pop(number, None)
        if status != 200:
            raise self._failure(operation, status, body)
        self._failures[operation] = 0
        self.resend_lost(operation, before=request.sent - REORDERED_SECONDS)
        return body

    async def _exchange(self, operation: Operation, content: bytes) -> tuple[int, bytes]:
        """Status and body of the answer to one POST. Raises _ConnectionFailed."""
        path, headers = f"/predictions/{model_name(operation)}", {"Content-Type": MEDIA_TYPE}
        try:
            async with self._inference_session.post(
                path, data=content, headers=headers
            ) as response:
                return response.status, await response.read()
        except aiohttp.ClientError as error:
            raise _ConnectionFailed(f"{operation}: {type(error).__name__}: {error}") from error

    def _failure(self, operation: Operation, status: int, body: bytes) -> BackendError:
        """The error of an answer that is none, counted when it is the worker's own."""
        error = error_from_response(operation, status, body)
        is_workers = status in FAILED and DIED not in body and isinstance(error, BackendUnavailable)
        self._failures[operation] += is_workers
        return error
