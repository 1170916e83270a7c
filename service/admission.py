"""Who gets in: a bounded number of requests per operation, each with a deadline. A full house says so at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request

from affect.archive import OPERATIONS
from service.metrics import Metrics
from service.problems import Problem, invalid
from service.settings import Settings

DEADLINE_HEADER = "X-Deadline-Seconds"


class Admission:
    """Counts what is in flight. All on the event loop, so plain integers do."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings, self.metrics = settings, metrics
        self.in_flight: dict[str, int] = dict.fromkeys(OPERATIONS, 0)
        self.draining = False

    @asynccontextmanager
    async def admit(self, operation: str, request: Request) -> AsyncIterator[float]:
        """Within, the request counts as in flight and ends with 504 at its deadline; yields the seconds it has."""
        seconds = self._seconds(request)
        if self.in_flight[operation] >= self.settings.capacity(operation):
            self.metrics.refused.labels(operation, "overloaded").inc()
            raise Problem(
                "overloaded", f"{self.in_flight[operation]} {operation} requests are in flight; try again", headers={"Retry-After": "1"}
            )
        self.in_flight[operation] += 1
        self.metrics.in_flight.labels(operation).set(self.in_flight[operation])
        try:
            async with asyncio.timeout(seconds):
                yield seconds
        except TimeoutError as error:
            self.metrics.refused.labels(operation, "deadline").inc()
            raise Problem("deadline", f"not done within {seconds:g} s; send fewer pictures or a larger {DEADLINE_HEADER}") from error
        finally:
            self.in_flight[operation] -= 1
            self.metrics.in_flight.labels(operation).set(self.in_flight[operation])

    def _seconds(self, request: Request) -> float:
        text = request.headers.get(DEADLINE_HEADER)
        if text is None:
            return self.settings.deadline_seconds
        try:
            seconds = float(text)
        except ValueError:
            seconds = 0.0
        if not 0 < seconds <= self.settings.max_deadline_seconds:
            raise invalid(DEADLINE_HEADER, text, f"give seconds above 0 and up to {self.settings.max_deadline_seconds:g}")
        return seconds
