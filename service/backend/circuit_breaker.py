"""A circuit breaker: after enough failures in a row nothing is sent for a while. Then one trial
request is sent, while the others are refused at once.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from service.backend.interface import (
    BackendError,
    BackendOverloaded,
    BackendRefused,
    BackendUnavailable,
)

FAILURES = 5  # in a row
PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 15.0  # doubled by each trial that fails
# A request given up after this long is a failure, if no other was answered meanwhile: deadlines
# may be shorter than what the server needs.
STALL_SECONDS = 5.0
State = Literal["closed", "half-open", "open"]


class CircuitOpen(BackendUnavailable):
    """Not sent, since the requests before it failed. `retry_seconds` until a trial."""

    outcome = "broken"

    def __init__(self, retry_seconds: float) -> None:
        super().__init__(f"the requests before failed; the next trial is in {retry_seconds:.1f} s")
        self.retry_seconds = retry_seconds


class CircuitBreaker:
    """Of one operation of one version. `on_state_change` is called with every new state."""

    def __init__(
        self,
        on_state_change: Callable[[State], None] = lambda state: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_state_change, self._clock = on_state_change, clock
        self.failures = 0
        self._pause_seconds, self._open_until = PAUSE_SECONDS, 0.0
        self._trying, self._last_success = False, clock()
        on_state_change("closed")

    @property
    def state(self) -> State:
        """Open: nothing is sent. Half-open: one request may try."""
        if self.failures < FAILURES:
            return "closed"
        return "open" if self._clock() < self._open_until or self._trying else "half-open"

    def check(self) -> None:
        """Raises CircuitOpen while open."""
        if self.state == "open":
            raise CircuitOpen(max(self._open_until - self._clock(), PAUSE_SECONDS))

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Around a request: refuses it while open, and records its outcome."""
        self.check()
        trial, sent = self.state == "half-open", self._clock()
        if trial:
            self._trying = True
            self._on_state_change("half-open")
        try:
            yield
            self._succeeded()
        except BackendRefused:  # the server works, and refuses this request only
            self._succeeded()
            raise
        except BackendOverloaded:
            raise
        except BackendUnavailable:
            self._failed()
            raise
        except (BackendError, asyncio.CancelledError, TimeoutError):
            if self._clock() - sent >= STALL_SECONDS and self._last_success <= sent:
                self._failed()
            raise
        finally:
            if trial:
                self._trying = False

    def _succeeded(self) -> None:
        self._last_success = self._clock()
        if self.failures >= FAILURES:
            self._on_state_change("closed")
        self.failures, self._pause_seconds = 0, PAUSE_SECONDS

    def _failed(self) -> None:
        self.failures += 1
        if self.failures == FAILURES or (self.failures > FAILURES and self._trying):
            self._open_until = self._clock() + self._pause_seconds
            self._pause_seconds = min(2 * self._pause_seconds, LONGEST_PAUSE_SECONDS)
            self._on_state_change("open")
