"""Who gets in: as much work as can be done before its deadline, measured as it goes. A full house says so at once."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from fastapi import Request

from affect.archive import OPERATIONS
from service.observability.metrics import Metrics
from service.problems import Problem, invalid
from service.settings import Settings

DEADLINE_HEADER = "X-Deadline-Seconds"
MEMORY_SECONDS = 5.0  # of busy time, after which a measurement counts for a third: traffic changes, portraits take ten times as long as crops
PATIENCE = 0.8  # share of its deadline that a request may expect to spend waiting and being served


class ServiceRateEstimator:
    """Seconds of a busy house per picture: elapsed while anything was in flight, over what was finished meanwhile.

    So it counts everything that slows: workers, threads, neighbours. A house that finishes nothing gets slower and slower.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._busy_seconds, self._done, self._since = clock, 0.0, 0.0, clock()

    def begin(self) -> None:
        """The house was empty until now."""
        self._since = self._clock()

    def finish(self, pictures: int) -> None:
        """So many pictures are done; 0 when a request failed."""
        now = self._clock()
        elapsed, self._since = now - self._since, now
        kept = math.exp(-elapsed / MEMORY_SECONDS)
        self._busy_seconds, self._done = (
            self._busy_seconds * kept + elapsed,
            self._done * kept + pictures,
        )

    @property
    def seconds(self) -> float:
        """Seconds per picture; 0 while nothing was ever finished."""
        return self._busy_seconds / self._done if self._done else 0.0


class ConcurrencyLimiter:
    """The requests of one operation: how many, and how many pictures they hold. All on the event loop, so plain integers do."""

    def __init__(
        self,
        operation: str,
        most: int,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.operation, self.most, self.metrics, self.pace = (
            operation,
            most,
            metrics,
            ServiceRateEstimator(clock),
        )
        self.requests = self.pictures = 0
        self._in_flight, self._expected = (
            metrics.in_flight.labels(operation),
            metrics.expected.labels(operation),
        )  # looked up once

    def enter(self, seconds: float) -> None:
        """One request more, of at least one picture: said before its body is read. Raises Problem when it would not be done in time."""
        if self.requests >= self.most:
            raise self._full(
                f"{self.requests} {self.operation} requests are in flight",
                self.pictures * self.pace.seconds / 2,
            )
        if self.requests:
            self._check(self.pictures, seconds)
        if not self.requests:
            self.pace.begin()
        self._count(1, 1)

    def hold(self, pictures: int, seconds: float) -> None:
        """The request that entered turns out to hold so many. Raises Problem when they would not be done in time.

        Whoever is alone is let in, so that a house that was slow finds out when it no longer is.
        """
        if self.requests > 1:
            self._check(self.pictures + pictures - 1, seconds)
        self._count(0, pictures - 1)

    def leave(self, pictures: int, *, done: bool, worked: bool = True) -> None:
        """The request is over. One whose answer was known (not `worked`) says nothing about the pace."""
        if worked:
            self.pace.finish(pictures if done else 0)
        self._count(-1, -pictures)

    @contextmanager
    def work(self, pictures: int, seconds: float) -> Iterator[None]:
        """Within, a part of a job that nobody waits for counts as a request. Raises Problem when those who wait fill the house."""
        self.enter(seconds)
        held, done = 1, False
        try:
            self.hold(pictures, seconds)
            held = pictures
            yield
            done = True
        finally:
            self.leave(held, done=done)

    def _count(self, requests: int, pictures: int) -> None:
        self.requests, self.pictures = self.requests + requests, self.pictures + pictures
        self._in_flight.set(self.requests)
        self._expected.set(self.pictures * self.pace.seconds)

    def _check(self, pictures: int, seconds: float) -> None:
        expected = pictures * self.pace.seconds
        if expected > PATIENCE * seconds:
            raise self._full(
                f"it would take about {expected:.1f} s and the deadline is {seconds:g} s",
                expected - PATIENCE * seconds,
            )

    def _full(self, why: str, seconds: float) -> Problem:
        self.metrics.refused.labels(self.operation, "overloaded").inc()
        return Problem(
            "overloaded",
            f"{why}; try again",
            headers={"Retry-After": str(max(1, math.ceil(seconds)))},
        )


@dataclass
class AdmissionPermit:
    """A request that is in: the seconds it has in all, and the pictures it holds (1 until they are counted)."""

    seconds: float
    house: ConcurrencyLimiter
    request: Request
    pictures: int = 1
    worked: bool = True  # for its answer, rather than finding it known
    watch: asyncio.Task[None] | None = None
    gone: bool = False

    def hold(self, pictures: int) -> None:
        """Its body is read: so many pictures. Raises Problem when they would not be done in time.

        From here on the work is dropped when the client goes.
        """
        self.house.hold(pictures, self.seconds)
        self.pictures = pictures
        task = asyncio.current_task()
        assert task is not None
        self.watch = asyncio.create_task(self._cancel_when_gone(task))

    async def _cancel_when_gone(self, task: asyncio.Task[object]) -> None:
        while (await self.request.receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        task.cancel()


class Admission:
    """The houses of all operations."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings, self.metrics = settings, metrics
        self.limiters: dict[str, ConcurrencyLimiter] = {
            operation: ConcurrencyLimiter(operation, settings.capacity(operation), metrics)
            for operation in OPERATIONS
        }
        self.draining = False

    @asynccontextmanager
    async def admit(self, operation: str, request: Request) -> AsyncIterator[AdmissionPermit]:
        """Within, the request counts as in flight, ends with 504 at its deadline, and ends when its client goes."""
        house = self.limiters[operation]
        ticket = AdmissionPermit(self._seconds(request), house, request)
        house.enter(ticket.seconds)
        done = False
        try:
            async with asyncio.timeout(ticket.seconds):
                yield ticket
            done = True
        except TimeoutError as error:
            self.metrics.refused.labels(operation, "deadline").inc()
            raise Problem(
                "deadline",
                f"not done within {ticket.seconds:g} s; send fewer pictures or a larger {DEADLINE_HEADER}",
            ) from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not ticket.gone or task is None or task.uncancel():  # somebody else cancelled too
                raise
            self.metrics.refused.labels(operation, "client_gone").inc()
            raise Problem(
                "client_gone", "the client closed the connection before the answer"
            ) from None
        finally:
            if ticket.watch is not None:
                ticket.watch.cancel()
            house.leave(ticket.pictures, done=done, worked=ticket.worked)

    def _seconds(self, request: Request) -> float:
        text = request.headers.get(DEADLINE_HEADER)
        if text is None:
            return self.settings.deadline_seconds
        try:
            seconds = float(text)
        except ValueError:
            seconds = 0.0
        if not 0 < seconds <= self.settings.max_deadline_seconds:
            raise invalid(
                DEADLINE_HEADER,
                text,
                f"give seconds above 0 and up to {self.settings.max_deadline_seconds:g}",
            )
        return seconds
