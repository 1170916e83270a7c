"""A model server that takes and gives the messages of affect/protocol as bytes."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypeVar

import orjson

from affect.archive import OPERATIONS, Operation
from affect.card import ModelCard
from affect.protocol.messages import (
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

R = TypeVar("R", bound=WorkerResponse)


class MessageBackend(ABC):
    """A `Backend` without its transport: subclasses define `_send` and `ready`."""

    served: ModelCard
    archives: str
    operations: Sequence[Operation] = OPERATIONS  # those that have workers here

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

    @abstractmethod
    async def ready(self) -> dict[str, bool]:
        """For each of `operations` whether a worker can serve it now."""

    @abstractmethod
    async def _send(self, operation: Operation, content: bytes) -> bytes:
        """The answer to a request. Raises BackendError."""

    async def _infer(
        self, operation: Operation, request: Message, kind: type[R], timeout_seconds: float
    ) -> R:
        if operation not in self.operations:
            raise BackendUnavailable(f"{operation} has no workers here (AFFECTGAN_OPERATIONS)")
        try:
            content = request.to_bytes(self.served)
        except ProtocolError as error:
            raise BackendRefused(error.field, str(error.value), error.remedy) from error
        try:
            async with asyncio.timeout(timeout_seconds):
                return kind.from_bytes(await self._send(operation, content), self.served)
        except TimeoutError as error:
            raise BackendTimeout(f"{operation}: no answer within {timeout_seconds:g} s") from error
        except ProtocolError as error:
            raise BackendUnavailable(f"{operation}: the answer cannot be read: {error}") from error


def error_from_response(operation: Operation, status: int, body: bytes) -> BackendError:
    """TorchServe's errors and our handlers' refusals, in the gateway's terms."""
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError:
        payload = {}
    if status == 400 and "remedy" in payload:
        return BackendRefused(payload["field"], payload["value"], payload["remedy"])
    if status == 413:
        return BackendRefused("request", "too large", "send fewer faces in one request")
    message = f"{operation}: {status} {payload.get('message', 'without a message')}"
    overloaded = status == 503 and "no worker" in message
    return BackendOverloaded(message) if overloaded else BackendUnavailable(message)
