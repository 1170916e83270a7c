"""So much at a time, in turns: every caller gets its share, and of that every one of its requests.

Start-time fair queueing (Goyal, Vin & Cheng, SIGCOMM 1996) on two levels. What was used is known
when it is over, so a turn is charged what turns take on average, and corrected at its end.
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
MEMORY = 0.9  # of the mean: what it keeps of itself at each turn
BACKGROUND_WEIGHT = 0.25  # of work that nobody waits for


@dataclass(frozen=True)
class Flow:
    """For whom something is done: a caller, and one of its requests. A caller of twice the weight
    has twice the share.
    """

    caller: str = ""
    weight: float = 1.0
    request: int = field(default_factory=lambda: next(_numbers))


NOBODY = Flow()
# Of the request that is being served: it goes with its tasks.
current_flow: ContextVar[Flow] = ContextVar("current_flow", default=NOBODY)


@dataclass
class _WaitingTurn:
    """One turn that is waited for."""

    size: int
    granted: asyncio.Future[None]


@dataclass
class _RequestTurns:
    """A request of a caller: what it had so far, in seconds, and the turns that it waits for."""

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
    """`async with slots.turn(size):` holds so many of `capacity` slots within.

    What is larger than all of them is let in when there is nothing else. All on one event loop.
    """

    def __init__(self, capacity: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.capacity, self.in_use, self._clock = capacity, 0, clock
        self._callers: dict[str, _Caller] = {}
        self._now = 0.0  # what the caller had whose turn came last
        self._mean_seconds = 0.0  # of a slot
        self._waiting = 0  # turns

    @asynccontextmanager
    async def turn(self, size: int = 1) -> AsyncIterator[None]:
        """Within, it is the turn of the flow that this task belongs to."""
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
        """Give slots to whoever had least."""
        while self._waiting:
            callers = [caller for caller in self._callers.values() if caller.waiting]
            caller = min(callers, key=lambda one: one.served)
            request = min(caller.waiting, key=lambda one: one.served)
            if request.turns[0].granted.cancelled():  # its task has not come to know yet
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
        """Where a request begins that comes new: it has no claim on the time before."""
        return min((one.served for one in caller.requests.values()), default=0.0)

    def _forget(self, flow: Flow, caller: _Caller, request: _RequestTurns) -> None:
        if not request.active:
            caller.requests.pop(flow.request, None)
        if not caller.requests:
            self._callers.pop(flow.caller, None)
