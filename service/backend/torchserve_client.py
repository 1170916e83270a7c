"""What the gateway asks of a model server, and TorchServe behind it. Another runtime would be another class here."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Protocol, Self, TypeVar

import aiohttp
import orjson

from affect.archive import OPERATIONS, Operation, digest_of, model_name
from affect.card import ModelCard
from affect.protocol.messages import (
    MEDIA_TYPE,
    Answer,
    ExplainAnswer,
    ExplainRequest,
    GenerateAnswer,
    GenerateRequest,
    PredictAnswer,
    PredictRequest,
)
from affect.protocol.tensor_codec import Message, WireError
from service.backend.torchserve_process import connect, has_ready_worker

READY_SECONDS = 0.5  # how long an answer to `ready` is remembered
PATIENCE_SECONDS = 15.0  # how long a job waits for a front end that is being restarted
OVERTAKEN_SECONDS = 1.0  # the queue is in order, connections are not quite
FAILED = (503, 507)  # the handler raised; there was no memory
DIED = b"Worker died"  # whatever the status: the next job meets a new worker, which must not answer for the old one's jobs
A = TypeVar("A", bound=Answer)


class BackendError(Exception):
    """Base: the model server gave no answer. The text is for operators and holds nothing of the request."""


class BackendUnavailable(BackendError):
    """There is no server or no worker, or it failed on this job."""


class _NobodyListens(BackendUnavailable):
    """The server is not there; the job was not sent."""


class BackendTimeout(BackendError):
    """No answer within the time the caller gave."""


class BackendOverloaded(BackendError):
    """The operation's queue is full."""


class BackendRefused(BackendError):
    """The job does not fit the model that is served: names field, value and remedy."""

    def __init__(self, field: str, value: str, remedy: str) -> None:
        super().__init__(f"{field} is {value}; {remedy}")
        self.field, self.value, self.remedy = field, value, remedy


class Backend(Protocol):
    """One model, three operations. Every call raises BackendError."""

    async def card(self) -> ModelCard:
        """The card of the model that is served."""
        ...

    async def digest(self) -> str:
        """Identifies what is served, hexadecimal: code, weights and settings. The same digest gives the same answers."""
        ...

    async def predict(self, request: PredictRequest, *, timeout_seconds: float) -> PredictAnswer:
        """Read faces."""
        ...

    async def generate(self, request: GenerateRequest, *, timeout_seconds: float) -> GenerateAnswer:
        """Draw faces."""
        ...

    async def explain(self, request: ExplainRequest, *, timeout_seconds: float) -> ExplainAnswer:
        """Explain what was read off faces."""
        ...

    async def ready(self) -> dict[str, bool]:
        """For each operation whether a worker can serve it now; at most a second old."""
        ...


@dataclass
class _Job:
    """A job that waits for its answer. `doubtful`: a worker was replaced meanwhile, and TorchServe loses jobs then."""

    sent: float
    limit: asyncio.Timeout
    doubtful: bool = False

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
    condemned: set[int] = field(
        init=False, default_factory=set
    )  # workers that were killed and may not have noticed
    _jobs: aiohttp.ClientSession = field(init=False)
    _workers: aiohttp.ClientSession = field(init=False)
    _ready: dict[str, bool] = field(init=False, default_factory=dict)
    _asked: float = field(init=False, default=-READY_SECONDS)
    _out: dict[Operation, dict[int, _Job]] = field(
        init=False, default_factory=lambda: {operation: {} for operation in OPERATIONS}
    )
    _failures: Counter[Operation] = field(init=False, default_factory=Counter)
    _numbers: Iterator[int] = field(init=False, default_factory=count)

    @classmethod
    def of(cls, models: Path, inference: str, management: str) -> Self:
        """The backend for the archives of a folder, whose card lies beside them."""
        return cls(inference, management, ModelCard.load(models), digest_of(models))

    async def __aenter__(self) -> Self:
        self._jobs, self._workers = connect(self.inference), connect(self.management)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(self._jobs.close(), self._workers.close())

    async def card(self) -> ModelCard:
        """The card of the archives."""
        return self.served

    async def digest(self) -> str:
        """Of the three archives."""
        return self.archives

    async def predict(self, request: PredictRequest, *, timeout_seconds: float) -> PredictAnswer:
        """Read faces."""
        return await self._ask("predict", request, PredictAnswer, timeout_seconds)

    async def generate(self, request: GenerateRequest, *, timeout_seconds: float) -> GenerateAnswer:
        """Draw faces."""
        return await self._ask("generate", request, GenerateAnswer, timeout_seconds)

    async def explain(self, request: ExplainRequest, *, timeout_seconds: float) -> ExplainAnswer:
        """Explain what was read off faces."""
        return await self._ask("explain", request, ExplainAnswer, timeout_seconds)

    async def ready(self) -> dict[str, bool]:
        """Per operation: a worker is READY."""
        if time.monotonic() - self._asked > READY_SECONDS:
            states = await asyncio.gather(
                *(
                    has_ready_worker(self._workers, operation, but=self.condemned)
                    for operation in OPERATIONS
                )
            )
            self._ready, self._asked = dict(zip(OPERATIONS, states, strict=True)), time.monotonic()
        return self._ready

    def oldest(self, operation: Operation) -> float | None:
        """When the job was sent that has waited longest for its answer, by time.monotonic; none when none waits."""
        return next((job.sent for job in self._out[operation].values()), None)

    def doubt(self, operation: Operation, *, before: float) -> None:
        """A worker was replaced by one that started then: what was sent before may be lost. It is, once a later job is answered."""
        for job in self._out[operation].values():
            job.doubtful |= job.sent < before

    def send_again(self, operation: Operation, *, before: float) -> int:
        """Doubtful jobs sent before this time are lost: send them again. Returns how many."""
        lost = [job for job in self._out[operation].values() if job.doubtful and job.sent < before]
        for job in lost:
            job.give_up()
        return len(lost)

    def failed_in_a_row(self, operation: Operation) -> int:
        """Jobs that a worker answered with its own failure since it last answered well."""
        return self._failures[operation]

    def forget_failures(self, operation: Operation) -> None:
        """The worker is a new one."""
        self._failures[operation] = 0

    async def _ask(
        self, operation: Operation, request: Message, kind: type[A], timeout_seconds: float
    ) -> A:
        try:
            content = request.to_bytes(self.served)
        except WireError as error:
            raise BackendRefused(error.field, str(error.value), error.remedy) from error
        try:
            async with asyncio.timeout(timeout_seconds):
                return kind.from_bytes(await self._deliver(operation, content), self.served)
        except TimeoutError as error:
            raise BackendTimeout(f"{operation}: no answer within {timeout_seconds:g} s") from error
        except WireError as error:
            raise BackendUnavailable(f"{operation}: the answer cannot be read: {error}") from error

    async def _deliver(self, operation: Operation, content: bytes) -> bytes:
        """Send a job; again, once, when the worker died under it: inference changes nothing.

        While the connection breaks or nobody listens, because the front end is being restarted, wait for it a little.
        """
        patience, resent = time.monotonic() + PATIENCE_SECONDS, False
        while True:
            try:
                return await self._send(operation, content)
            except _NobodyListens:
                if time.monotonic() > patience:
                    raise
                await asyncio.sleep(0.1)
            except BackendUnavailable:
                if resent:
                    raise
                resent = True

    async def _send(self, operation: Operation, content: bytes) -> bytes:
        path, headers = f"/predictions/{model_name(operation)}", {"Content-Type": MEDIA_TYPE}
        number = next(self._numbers)
        try:
            async with asyncio.timeout(None) as limit:
                job = self._out[operation][number] = _Job(time.monotonic(), limit)
                async with self._jobs.post(path, data=content, headers=headers) as response:
                    body = await response.read()
        except TimeoutError as error:
            raise BackendUnavailable(
                f"{operation}: the job was lost when its worker was replaced"
            ) from error
        except aiohttp.ClientConnectorError as error:
            raise _NobodyListens(f"{operation}: {error}") from error
        except (
            aiohttp.ClientError
        ) as error:  # the front end died under the job: others are lost in the same moment
            raise _NobodyListens(f"{operation}: {type(error).__name__}: {error}") from error
        finally:
            self._out[operation].pop(number, None)
        if response.status == 200:
            self._failures[operation] = 0
            self.send_again(operation, before=job.sent - OVERTAKEN_SECONDS)
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
