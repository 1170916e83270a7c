"""TorchServe as a model server (`service.backend.interface`): requests over its sockets, each sent again when it was lost."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Self, TypeVar

import aiohttp
import orjson

from affect.archive import OPERATIONS, Operation, digest_of, model_name
from affect.card import ModelCard
from affect.protocol.messages import (
    MEDIA_TYPE,
    ExplainRequest,
    ExplainResponse,
    GenerateRequest,
    GenerateResponse,
    PredictRequest,
    PredictResponse,
    WorkerResponse,
)
from affect.protocol.tensor_codec import Message, ProtocolError
from service.backend.interface import (
    BackendError,
    BackendOverloaded,
    BackendRefused,
    BackendTimeout,
    BackendUnavailable,
)
from service.backend.torchserve_process import connect, has_ready_worker

READY_SECONDS = 0.5  # how long an answer to `ready` is remembered
PATIENCE_SECONDS = 15.0  # how long a job waits for a front end that is being restarted
OVERTAKEN_SECONDS = 1.0  # the queue is in order, connections are not quite
FAILED = (503, 507)  # the handler raised; there was no memory
DIED = b"Worker died"  # whatever the status: the next job meets a new worker, which must not answer for the old one's jobs
A = TypeVar("A", bound=WorkerResponse)


class _ConnectionFailed(BackendUnavailable):
    """The server is not there; the job was not sent."""


@dataclass
class _PendingRequest:
    """A job that waits for its answer. `suspect`: a worker was replaced meanwhile, and TorchServe loses jobs then."""

    sent: float
    limit: asyncio.Timeout
    suspect: bool = False

    def give_up(self) -> None:
        """It will not be answered: its sender goes on."""
        self.limit.reschedule(asyncio.get_running_loop().time())


@dataclass
class TorchServeBackend:
    """`async with TorchServeBackend(server.inference, server.management, card) as backend`. Addresses as in `connect`."""

    inference: str
    management: str
    served: ModelCard
    archives: str = ""
    killed_pids: set[int] = field(
        init=False, default_factory=set
    )  # workers that were killed and may not have noticed
    _inference_session: aiohttp.ClientSession = field(init=False)
    _management_session: aiohttp.ClientSession = field(init=False)
    _ready: dict[str, bool] = field(init=False, default_factory=dict)
    _asked: float = field(init=False, default=-READY_SECONDS)
    _pending: dict[Operation, dict[int, _PendingRequest]] = field(
        init=False, default_factory=lambda: {operation: {} for operation in OPERATIONS}
    )
    _failures: Counter[Operation] = field(init=False, default_factory=Counter)
    _numbers: Iterator[int] = field(init=False, default_factory=count)

    @classmethod
    def from_folder(cls, models: Path, inference: str, management: str) -> Self:
        """The backend for the archives of a folder, whose card lies beside them."""
        return cls(inference, management, ModelCard.load(models), digest_of(models))

    async def __aenter__(self) -> Self:
        self._inference_session, self._management_session = (
            connect(self.inference),
            connect(self.management),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(self._inference_session.close(), self._management_session.close())

    async def card(self) -> ModelCard:
        """The card of the archives."""
        return self.served

    async def digest(self) -> str:
        """Of the three archives."""
        return self.archives

    async def predict(self, request: PredictRequest, *, timeout_seconds: float) -> PredictResponse:
        """Read faces."""
        return await self._infer("predict", request, PredictResponse, timeout_seconds)

    async def generate(
        self, request: GenerateRequest, *, timeout_seconds: float
    ) -> GenerateResponse:
        """Draw faces."""
        return await self._infer("generate", request, GenerateResponse, timeout_seconds)

    async def explain(self, request: ExplainRequest, *, timeout_seconds: float) -> ExplainResponse:
        """Explain what was read off faces."""
        return await self._infer("explain", request, ExplainResponse, timeout_seconds)

    async def ready(self) -> dict[str, bool]:
        """Per operation: a worker is READY."""
        if time.monotonic() - self._asked > READY_SECONDS:
            states = await asyncio.gather(
                *(
                    has_ready_worker(self._management_session, operation, but=self.killed_pids)
                    for operation in OPERATIONS
                )
            )
            self._ready, self._asked = dict(zip(OPERATIONS, states, strict=True)), time.monotonic()
        return self._ready

    def oldest_sent_at(self, operation: Operation) -> float | None:
        """When the job was sent that has waited longest for its answer, by time.monotonic; none when none waits."""
        return next((job.sent for job in self._pending[operation].values()), None)

    def mark_suspect(self, operation: Operation, *, before: float) -> None:
        """A worker was replaced by one that started then: what was sent before may be lost. It is, once a later job is answered."""
        for job in self._pending[operation].values():
            job.suspect |= job.sent < before

    def resend_lost(self, operation: Operation, *, before: float) -> int:
        """Doubtful jobs sent before this time are lost: send them again. Returns how many."""
        lost = [
            job for job in self._pending[operation].values() if job.suspect and job.sent < before
        ]
        for job in lost:
            job.give_up()
        return len(lost)

    def consecutive_failures(self, operation: Operation) -> int:
        """Jobs that a worker answered with its own failure since it last answered well."""
        return self._failures[operation]

    def reset_failures(self, operation: Operation) -> None:
        """The worker is a new one."""
        self._failures[operation] = 0

    async def _infer(
        self, operation: Operation, request: Message, kind: type[A], timeout_seconds: float
    ) -> A:
        try:
            content = request.to_bytes(self.served)
        except ProtocolError as error:
            raise BackendRefused(error.field, str(error.value), error.remedy) from error
        try:
            async with asyncio.timeout(timeout_seconds):
                return kind.from_bytes(await self._send_with_retry(operation, content), self.served)
        except TimeoutError as error:
            raise BackendTimeout(f"{operation}: no answer within {timeout_seconds:g} s") from error
        except ProtocolError as error:
            raise BackendUnavailable(f"{operation}: the answer cannot be read: {error}") from error

    async def _send_with_retry(self, operation: Operation, content: bytes) -> bytes:
        """Send a job; again, once, when the worker died under it: inference changes nothing.

        While the connection breaks or nobody listens, because the front end is being restarted, wait for it a little.
        """
        patience, resent = time.monotonic() + PATIENCE_SECONDS, False
        while True:
            try:
                return await self._post(operation, content)
            except _ConnectionFailed:
                if time.monotonic() > patience:
                    raise
                await asyncio.sleep(0.1)
            except BackendUnavailable:
                if resent:
                    raise
                resent = True

    async def _post(self, operation: Operation, content: bytes) -> bytes:
        path, headers = f"/predictions/{model_name(operation)}", {"Content-Type": MEDIA_TYPE}
        number = next(self._numbers)
        try:
            async with asyncio.timeout(None) as limit:
                job = self._pending[operation][number] = _PendingRequest(time.monotonic(), limit)
                async with self._inference_session.post(
                    path, data=content, headers=headers
                ) as response:
                    body = await response.read()
        except TimeoutError as error:
            raise BackendUnavailable(
                f"{operation}: the job was lost when its worker was replaced"
            ) from error
        except aiohttp.ClientConnectorError as error:
            raise _ConnectionFailed(f"{operation}: {error}") from error
        except (
            aiohttp.ClientError
        ) as error:  # the front end died under the job: others are lost in the same moment
            raise _ConnectionFailed(f"{operation}: {type(error).__name__}: {error}") from error
        finally:
            self._pending[operation].pop(number, None)
        if response.status == 200:
            self._failures[operation] = 0
            self.resend_lost(operation, before=job.sent - OVERTAKEN_SECONDS)
            return body
        failure = _error(operation, response.status, body)
        if (
            response.status in FAILED
            and DIED not in body
            and isinstance(failure, BackendUnavailable)
        ):
            self._failures[operation] += 1
        raise failure


def _error(operation: Operation, status: int, body: bytes) -> BackendError:
    """TorchServe's errors and our handlers' refusals, in the gateway's terms."""
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        said = {}
    if status == 400 and "remedy" in said:
        return BackendRefused(said["field"], said["value"], said["remedy"])
    if status == 413:
        return BackendRefused("job", "too large", "send fewer faces in one request")
    message = f"{operation}: {status} {said.get('message', 'without a message')}"
    return (
        BackendOverloaded(message)
        if status == 503 and "no worker" in message
        else BackendUnavailable(message)
    )
