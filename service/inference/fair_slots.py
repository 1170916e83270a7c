"""Concurrency slots shared fairly between callers, and between the requests of a caller.

Start-time fair queueing (Goyal, Vin & Cheng, SIGCOMM 1996) on two levels. The cost of a turn is
known only at its end, so a turn is charged the average cost at its start and corrected at its end.
"""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

_numbers = itertools.count()
MEMORY = 0.9  # decay of the mean at each turn
BACKGROUND_WEIGHT = 0.25  # of background work


@dataclass(frozen=True)
class Flow:
    """A caller, and one of its requests. A caller of twice the weight has twice the share."""

    caller: str = ""
    weight: float = 1.0
    request: int = field(default_factory=lambda: next(_numbers))


NOBODY = Flow()
# Of the request that is being served: a context variable, inherited by its tasks.
current_flow: ContextVar[Flow] = ContextVar("current_flow", default=NOBODY)


@dataclass
class _WaitingTurn:
    """A pending turn."""

    size: int
    granted: asyncio.Future[None]


@dataclass
class _RequestTurns:
    """A request of a caller: the seconds charged so far, and its pending turns."""

    served: float
    turns: deque[_WaitingTurn] = field(default_factory=deque)
    active: int = 0


@dataclass
class _Caller:
    """The same of a caller."""

    served: float
    requests: dict[int, _RequestTurns] = field(default_factory=dict)

    @property
    def waiting(self) -> list[_RequestTurns]:
        """Its requests that wait for a turn."""
        return [request for request in self.requests.values() if request.turns]


class FairSlots:
    """`async with slots.turn(size):` holds `size` of `capacity` slots inside. A turn larger than
    all of them runs alone. All on one event loop.
    """

    def __init__(self, capacity: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.capacity, self.in_use, self._clock = capacity, 0, clock
        self._callers: dict[str, _Caller] = {}
        self._now = 0.0  # seconds charged to the caller whose turn came last
        self._mean_seconds = 0.0  # of a slot
        self._waiting = 0  # turns

    @asynccontextmanager
    async def turn(self, size: int = 1) -> AsyncIterator[None]:
        """Inside, slots are held for the flow that this task belongs to."""
        flow = current_flow.get()
        caller = self._callers.setdefault(flow.caller, _Caller(self._now))
        request = caller.requests.setdefault(flow.request, _RequestTurns(self._least(caller)))
        request.active += 1
        try:
            await self._wait(caller, request, size)
            charged, start = self._mean_seconds * size, self._clock()
            self._charge(caller, request, charged / flow.weight)
            try:
                yield
            finally:
                self.in_use -= size
                seconds = self._clock() - start
                self._charge(caller, request, (seconds - charged) / flow.weight)
                mean = self._mean_seconds
                self._mean_seconds = MEMORY * mean + (1 - MEMORY) * seconds / size
        finally:
            request.active -= 1
            self._forget(flow, caller, request)
            self._grant()

    async def _wait(self, caller: _Caller, request: _RequestTurns, size: int) -> None:
        if not self._waiting and self._has_room(size):
            self._take(caller, size)
            return
        waiting = _WaitingTurn(size, asyncio.get_running_loop().create_future())
        request.turns.append(waiting)
        self._waiting += 1
        self._grant()
        try:
            await waiting.granted
        except asyncio.CancelledError:
            if waiting.granted.done() and not waiting.granted.cancelled():
                self.in_use -= size
            elif waiting in request.turns:
                request.turns.remove(waiting)
                self._waiting -= 1
            raise

    def _grant(self) -> None:
        """Grant slots to the flow that was charged least."""
        while self._waiting:
            callers = [caller for caller in self._callers.values() if caller.waiting]
            caller = min(callers, key=lambda one: one.served)
            request = min(caller.waiting, key=lambda one: one.served)
            if request.turns[0].granted.cancelled():  # its task has not resumed yet
                request.turns.popleft()
                self._waiting -= 1
                continue
            size = request.turns[0].size
            if not self._has_room(size):
                return
            self._take(caller, size)
            self._waiting -= 1
            request.turns.popleft().granted.set_result(None)

    def _has_room(self, size: int) -> bool:
        return not self.in_use or self.in_use + size <= self.capacity

    def _take(self, caller: _Caller, size: int) -> None:
        self.in_use += size
        self._now = max(self._now, caller.served)

    def _charge(self, caller: _Caller, request: _RequestTurns, seconds: float) -> None:
        caller.served += seconds
        request.served += seconds

    def _least(self, caller: _Caller) -> float:
        """The start tag of a new flow: it has no claim on the time before."""
        return min((one.served for one in caller.requests.values()), default=0.0)

    def _forget(self, flow: Flow, caller: _Caller, request: _RequestTurns) -> None:
        if not request.active:
            caller.requests.pop(flow.request, None)
        if not caller.requests:
            self._callers.pop(flow.caller, None)
