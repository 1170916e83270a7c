"""Admission control: as much work as can be done before its deadline, by the measured rate. The
rest is refused at once.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import Request

from affect.archive import OPERATIONS
from service.observability.metrics import Metrics
from service.problems import Problem, invalid
from service.settings import Settings

DEADLINE_HEADER = "X-Deadline-Seconds"
# Of busy time, after which a measurement counts for a third: traffic changes, and portraits take
# ten times as long as crops.
MEMORY_SECONDS = 5.0
PATIENCE = 0.8  # share of its deadline that a request may expect to spend waiting and being served


class ServiceRateEstimator:
    """Busy seconds per image: elapsed while anything was in flight, over what was finished
    meanwhile.

    So it counts everything that slows: workers, threads, neighbours. While nothing is finished it
    grows.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._busy_seconds, self._images, self._since = clock, 0.0, 0.0, clock()

    def resume(self) -> None:
        """Start counting busy time: the first request is in flight."""
        self._since = self._clock()

    def finish(self, images: int) -> None:
        """Count finished images; 0 when a request failed."""
        now = self._clock()
        elapsed, self._since = now - self._since, now
        weight = math.exp(-elapsed / MEMORY_SECONDS)
        self._busy_seconds = self._busy_seconds * weight + elapsed
        self._images = self._images * weight + images

    @property
    def seconds_per_image(self) -> float:
        """0 while nothing was ever finished."""
        return self._busy_seconds / self._images if self._images else 0.0

    @property
    def least_seconds_per_image(self) -> float:
        """Likewise, but while nothing was ever finished: for how long something has been tried."""
        return self.seconds_per_image or self._busy_seconds + self._clock() - self._since


@dataclass
class _Load:
    """What is in flight."""

    requests: int = 0
    images: int = 0


class ConcurrencyLimiter:
    """The requests of one operation that are in flight, and their images: of all, and by caller.

    All on the event loop, so plain integers do. Work is done in turns, between callers and between
    the requests of a caller (service/inference/fair_slots.py): the time of many large requests of
    others does not say how long a small one waits.
    """

    def __init__(
        self,
        operation: str,
        capacity: int,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        *,
        caller_share: float = 1.0,
    ) -> None:
        self.operation, self.capacity, self.metrics = operation, capacity, metrics
        self.caller_capacity = math.ceil(caller_share * capacity)
        self.rate = ServiceRateEstimator(clock)
        self._all = _Load()
        self._callers: dict[str, _Load] = {}
        metrics.in_flight.labels(operation).set_function(lambda: self.requests)
        # Read at each scrape: it grows while nothing is finished.
        metrics.expected.labels(operation).set_function(lambda: self.backlog_seconds)

    @property
    def requests(self) -> int:
        """In flight."""
        return self._all.requests

    @property
    def images(self) -> int:
        """In flight."""
        return self._all.images

    @property
    def expected_seconds(self) -> float:
        """Until what is in flight is done."""
        return self.images * self.rate.seconds_per_image

    @property
    def backlog_seconds(self) -> float:
        """That the images in flight will take; of a gateway that has never finished one, at
        least.
        """
        return self.images * self.rate.least_seconds_per_image if self.images else 0.0

    def check(self, deadline_seconds: float, caller: str = "") -> None:
        """Raises Problem when one request more would find no room, or not be done in time."""
        caller_load = self._callers.get(caller, _Load())
        if self.requests >= self.capacity:
            detail = f"{self.requests} {self.operation} requests are in flight"
            raise self._overloaded(detail, self.expected_seconds / 2)
        if caller_load.requests >= self.caller_capacity:
            detail = f"{caller_load.requests} {self.operation} requests of yours are in flight"
            raise self._overloaded(detail, caller_load.images * self.rate.seconds_per_image / 2)
        if self.requests:
            self._check_time(1, deadline_seconds, caller, is_new=True)

    def enter(self, deadline_seconds: float, caller: str = "") -> None:
        """Count one more request, of at least one image. Raises Problem as `check` does."""
        self.check(deadline_seconds, caller)
        if not self.requests:
            self.rate.resume()
        self._count(caller, 1, 1)

    def reserve(self, images: int, deadline_seconds: float, caller: str = "") -> None:
        """Count the images of a request that entered. Raises Problem when they would not be done in
        time. A request without others in flight is always admitted, so that an outdated slow rate
        is corrected.
        """
        if self.requests > 1:
            self._check_time(images, deadline_seconds, caller)
        self._count(caller, 0, images - 1)

    def leave(self, images: int, caller: str = "", *, done: bool, computed: bool = True) -> None:
        """The request is over.

        One that was not `computed` but cached does not count towards the rate.
        """
        if computed:
            self.rate.finish(images if done else 0)
        self._count(caller, -1, -images)

    @contextmanager
    def background(self, images: int, deadline_seconds: float) -> Iterator[None]:
        """Inside, a slice of a job counts as a request. Raises Problem when interactive requests
        leave no room.
        """
        self.enter(deadline_seconds)
        reserved, done = 1, False
        try:
            self.reserve(images, deadline_seconds)
            reserved = images
            yield
            done = True
        finally:
            self.leave(reserved, done=done)

    def _count(self, caller: str, requests: int, images: int) -> None:
        caller_load = self._callers.setdefault(caller, _Load())
        for load in (self._all, caller_load):
            load.requests += requests
            load.images += images
        if not caller_load.requests:
            del self._callers[caller]

    def _check_time(
        self, images: int, deadline_seconds: float, caller: str, *, is_new: bool = False
    ) -> None:
        """Whether a request of so many images, of which one is counted unless it `is_new`, is done
        in time.

        In turns: while its images are done, every other request and caller has as many done.
        """
        caller_load, images_ahead = self._callers.get(caller, _Load()), images - 1 + is_new
        turns = min(caller_load.images + images_ahead, (caller_load.requests + is_new) * images)
        callers = len(self._callers.keys() | {caller})
        expected = min(self.images + images_ahead, callers * turns) * self.rate.seconds_per_image
        excess = expected - PATIENCE * deadline_seconds
        if excess > 0:
            detail = (
                f"it would take about {expected:.1f} s and the deadline is {deadline_seconds:g} s"
            )
            raise self._overloaded(detail, excess)

    def _overloaded(self, detail: str, seconds: float) -> Problem:
        self.metrics.refused.labels(self.operation, "overloaded").inc()
        return Problem("overloaded", f"{detail}; try again", retry_seconds=seconds)


@dataclass
class AdmissionPermit:
    """A request that is in flight: the seconds it has in all, and its images (1 until they are
    counted).

    `computed` is False when its answer came from the cache.
    """

    deadline_seconds: float
    limiter: ConcurrencyLimiter
    request: Request[Any]
    caller: str = ""
    images: int = 1
    computed: bool = True
    watch: asyncio.Task[None] | None = None
    client_gone: bool = False

    def reserve(self, images: int) -> None:
        """Its body is read: count its images. Raises Problem when they would not be done in time.

        From here on the work is cancelled when the client disconnects.
        """
        self.limiter.reserve(images, self.deadline_seconds, self.caller)
        self.images = images
        task = asyncio.current_task()
        assert task is not None
        self.watch = asyncio.create_task(self._cancel_when_gone(task))

    async def _cancel_when_gone(self, task: asyncio.Task[object]) -> None:
        while (await self.request.receive())["type"] != "http.disconnect":
            pass
        self.client_gone = True
        task.cancel()


class Admission:
    """The limiters of all operations."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings, self.metrics = settings, metrics
        self.limiters: dict[str, ConcurrencyLimiter] = {
            operation: ConcurrencyLimiter(
                operation,
                settings.capacity(operation),
                metrics,
                caller_share=settings.caller_share,
            )
            for operation in OPERATIONS
        }
        self.draining = False

    def check(self, operation: str, request: Request[Any], caller: str) -> None:
        """Raises Problem when there is no room now: checked before a body is read."""
        self.limiters[operation].check(self._deadline_seconds(request), caller)

    @asynccontextmanager
    async def admit(
        self, operation: str, request: Request[Any], caller: str
    ) -> AsyncIterator[AdmissionPermit]:
        """Inside, the request counts as in flight, ends with 504 at its deadline, and ends when its
        client disconnects.
        """
        limiter = self.limiters[operation]
        permit = AdmissionPermit(self._deadline_seconds(request), limiter, request, caller)
        limiter.enter(permit.deadline_seconds, caller)
        done = False
        try:
            async with asyncio.timeout(permit.deadline_seconds):
                yield permit
            done = True
        except TimeoutError as error:
            raise self._ended(
                operation,
                "deadline",
                f"not done within {permit.deadline_seconds:g} s; "
                f"send fewer pictures or a larger {DEADLINE_HEADER}",
            ) from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not permit.client_gone or task is None or task.uncancel():  # or by somebody else
                raise
            reason = "the client closed the connection before the answer"
            raise self._ended(operation, "client_gone", reason) from None
        finally:
            if permit.watch is not None:
                permit.watch.cancel()
            limiter.leave(permit.images, caller, done=done, computed=permit.computed)

    def _ended(self, operation: str, code: str, detail: str) -> Problem:
        self.metrics.refused.labels(operation, code).inc()
        return Problem(code, detail)

    def _deadline_seconds(self, request: Request[Any]) -> float:
        text = request.headers.get(DEADLINE_HEADER)
        if text is None:
            return self.settings.deadline_seconds
        try:
            seconds = float(text)
        except ValueError:
            seconds = 0.0
        limit = self.settings.max_deadline_seconds
        if not 0 < seconds <= limit:
            raise invalid(DEADLINE_HEADER, text, f"give seconds above 0 and up to {limit:g}")
        return seconds
