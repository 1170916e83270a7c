"""Requests to one version's model server: together, through a circuit breaker, timed and traced."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Self, TypeVar

from prometheus_client import Histogram

from affect.archive import OPERATIONS, Operation
from affect.card import ModelCard
from affect.protocol.messages import WorkerRequest, WorkerResponse, WorkReport
from service.backend.circuit_breaker import CircuitBreaker, State
from service.backend.interface import BackendError
from service.inference.fair_slots import FairSlots
from service.observability.metrics import Metrics
from service.observability.tracing import backend_span, record_work, traceparent_of

R = TypeVar("R", bound=WorkerResponse)
# Of a face, until it is measured: of a small model on a processor.
FACE_SECONDS: dict[Operation, float] = {"predict": 0.01, "generate": 0.02, "explain": 0.25}
# Busy time of the faces sent to the model server at a time: a small request may wait for so long.
BUSY_SECONDS: dict[Operation, float] = {"predict": 0.3, "generate": 0.5, "explain": 2.0}
LEAST_FACES = 2


@dataclass(frozen=True)
class OperationMetrics:
    """The histograms of one operation: finding one by its label costs more than counting."""

    images: Histogram
    faces: Histogram
    wait_seconds: Histogram
    batch_jobs: Histogram
    batch_rows: Histogram

    @classmethod
    def of(cls, metrics: Metrics, operation: str) -> Self:
        """The metrics of an operation, looked up once."""
        return cls(
            **{part.name: getattr(metrics, part.name).labels(operation) for part in fields(cls)}
        )

    def observe_work(self, work: WorkReport, taken_seconds: float) -> None:
        """Observe a worker's report of a request that took `seconds` in all."""
        waited = taken_seconds - (work.end_seconds - work.start_seconds)
        self.wait_seconds.observe(max(0.0, waited))
        self.batch_jobs.observe(work.batch_jobs)
        self.batch_rows.observe(work.batch_rows)


class FacesInTurn:
    """Limits the faces that are at the model server at a time: its work cannot be interrupted, so a
    small request waits for all of it. The limit is the number that takes BUSY_SECONDS, as measured.
    """

    def __init__(self, operation: Operation) -> None:
        self._face_seconds, self._busy_seconds = FACE_SECONDS[operation], BUSY_SECONDS[operation]
        self.slots = FairSlots(self._capacity)

    @property
    def _capacity(self) -> int:
        return max(LEAST_FACES, round(self._busy_seconds / self._face_seconds))

    @property
    def most_together(self) -> int:
        """Faces of one request that are sent together: some wait while others are computed."""
        return max(1, self.slots.capacity // 2)

    def learn(self, work: WorkReport) -> None:
        """Update the rate from a worker's report of a batch."""
        if work.batch_rows:
            seconds = (work.end_seconds - work.start_seconds) / work.batch_rows
            self._face_seconds = 0.9 * self._face_seconds + 0.1 * max(seconds, 1e-6)
            self.slots.capacity = self._capacity


class Dispatcher:
    """Sends requests to the model server of one version; each operation has its own breaker."""

    def __init__(self, card: ModelCard, metrics: Metrics) -> None:
        self.card, self.metrics = card, metrics
        self.breakers = {
            operation: CircuitBreaker(self._state_gauge(operation)) for operation in OPERATIONS
        }
        self.operation_metrics = {
            operation: OperationMetrics.of(metrics, operation) for operation in OPERATIONS
        }
        self.turns = {operation: FacesInTurn(operation) for operation in OPERATIONS}

    def check(self, operation: Operation) -> None:
        """Raises CircuitOpen before anything costly is done for a request that would not be
        sent.
        """
        self.breakers[operation].check()

    async def send(
        self,
        operation: Operation,
        call: Callable[..., Awaitable[R]],
        requests: Sequence[WorkerRequest],
        seconds: float,
    ) -> list[R]:
        """The responses to all requests of one client, sent together. Raises BackendError."""
        if not requests:
            return []
        with self._timed(operation), self.breakers[operation].guard():
            sends = [self._send_one(operation, call, request, seconds) for request in requests]
            if len(sends) == 1:  # most have one: no task for it
                return [await sends[0]]
            return await asyncio.gather(*sends)

    async def _send_one(
        self,
        operation: Operation,
        call: Callable[..., Awaitable[R]],
        request: WorkerRequest,
        seconds: float,
    ) -> R:
        turns = self.turns[operation]
        async with turns.slots.turn(len(request)):
            start = time.perf_counter()
            with backend_span(operation, self.card) as span:
                traced = replace(request, traceparent=traceparent_of(span))
                response = await call(traced, timeout_seconds=seconds)
                if response.work is not None:
                    record_work(span, response.work)
                    elapsed = time.perf_counter() - start
                    self.operation_metrics[operation].observe_work(response.work, elapsed)
                    turns.learn(response.work)
            return response

    @contextmanager
    def _timed(self, operation: Operation) -> Iterator[None]:
        start, outcome = time.perf_counter(), "error"
        try:
            yield
            outcome = "ok"
        except BackendError as error:
            outcome = error.outcome
            self.metrics.refused.labels(operation, outcome).inc()
            raise
        finally:
            names = operation, self.card.name, self.card.version, outcome
            self.metrics.backend_seconds.labels(*names).observe(time.perf_counter() - start)

    def _state_gauge(self, operation: Operation) -> Callable[[State], None]:
        gauge = self.metrics.breaker.labels(operation, self.card.name, self.card.version)
        return lambda state: gauge.set(("closed", "half-open", "open").index(state))
