"""A breaker opens on failures in a row, lets one trial through, and closes when it succeeds."""

import asyncio

import pytest

from service.backend.circuit_breaker import (
    FAILURES,
    LONGEST_PAUSE_SECONDS,
    PAUSE_SECONDS,
    STALL_SECONDS,
    CircuitBreaker,
    CircuitOpen,
)
from service.backend.interface import BackendRefused, BackendTimeout, BackendUnavailable
from service.settings import Settings
from tests.support.gateway import serve
from tests.support.pictures import CROPS, FACE, encoded, packed
from tests.support.waiting import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


def state(breaker: CircuitBreaker) -> str:
    return breaker.state


def fail(breaker: CircuitBreaker, error: BaseException, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(type(error)), breaker.guard():
            raise error


def opened(clock: Clock) -> CircuitBreaker:
    breaker = CircuitBreaker(clock=clock)
    fail(breaker, BackendUnavailable("down"), FAILURES)
    return breaker


def test_failures_in_a_row_open_it_and_a_success_between_does_not(clock: Clock) -> None:
    breaker = CircuitBreaker(clock=clock)
    fail(breaker, BackendUnavailable("down"), FAILURES - 1)
    with breaker.guard():
        pass
    fail(breaker, BackendUnavailable("down"), FAILURES - 1)
    assert state(breaker) == "closed"
    fail(breaker, BackendUnavailable("down"))
    assert state(breaker) == "open"
    fail(breaker, CircuitOpen(1.0))  # nothing is sent


def test_after_a_pause_one_request_tries_and_closes_it(clock: Clock) -> None:
    breaker = opened(clock)
    clock.now += PAUSE_SECONDS
    with breaker.guard(), pytest.raises(CircuitOpen):
        breaker.check()  # the others wait for the trial
    assert state(breaker) == "closed"


def test_each_failed_trial_doubles_the_pause(clock: Clock) -> None:
    breaker = opened(clock)
    for pause in (1, 2, 4, 8, LONGEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS):
        clock.now += pause - 0.01
        assert state(breaker) == "open"
        clock.now += 0.01
        fail(breaker, BackendUnavailable("down"))


def test_a_trial_whose_client_leaves_decides_nothing(clock: Clock) -> None:
    breaker = opened(clock)
    clock.now += PAUSE_SECONDS
    fail(breaker, asyncio.CancelledError())
    assert state(breaker) == "half-open"


def test_neither_a_refusal_nor_a_short_deadline_is_a_failure(clock: Clock) -> None:
    breaker = CircuitBreaker(clock=clock)
    fail(breaker, BackendTimeout("late"), 2 * FAILURES)
    fail(breaker, BackendRefused("aus", "x", "y"), 2 * FAILURES)
    assert state(breaker) == "closed"


def test_long_timeouts_open_it_unless_other_requests_are_answered(
    clock: Clock,
) -> None:
    def stall(breaker: CircuitBreaker, *, meanwhile: bool) -> None:
        with pytest.raises(BackendTimeout), breaker.guard():
            clock.now += STALL_SECONDS
            if meanwhile:
                with breaker.guard():
                    pass
            raise BackendTimeout("late")

    breaker = CircuitBreaker(clock=clock)
    for _ in range(2 * FAILURES):
        stall(breaker, meanwhile=True)
    assert state(breaker) == "closed"
    for _ in range(FAILURES):
        stall(breaker, meanwhile=False)
    assert state(breaker) == "open"


def test_clients_are_refused_at_once_and_other_operations_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running = serve(Settings())
    gateway = next(running)

    async def down(*_: object, **__: object) -> None:
        raise BackendUnavailable("no worker")

    monkeypatch.setattr(gateway.backend, "predict", down)
    body = {"images": packed(encoded(FACE)), "options": CROPS}
    replies = [gateway.post("/v1/predict", body) for _ in range(FAILURES + 1)]
    assert [reply.status for reply in replies] == [503] * (FAILURES + 1)
    assert [reply.headers["Retry-After"] for reply in replies] == ["3"] * FAILURES + ["1"]
    assert "next trial" in replies[-1].json["detail"]
    assert (
        'breaker_state{model="affectgan",operation="predict",version="1.0"} 2.0'
        in gateway.get("/metrics").body.decode()
    )
    assert gateway.post("/v1/generate", {"items": [{}]}).status == 200
    running.close()
