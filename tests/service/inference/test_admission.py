"""What is let in: by number, by the time the work would take as measured, and only while its client is there."""

import http.client
import json
import socket
import statistics
import time
from collections.abc import Iterator

import pytest

from service.inference.admission import ConcurrencyLimiter
from service.observability.metrics import Metrics
from service.problems import Problem
from service.settings import Settings
from tests.support.gateway import Gateway, serve
from tests.support.pictures import CROPS, FACE, encoded, packed
from tests.support.waiting import Clock, until


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limiter(clock: Clock) -> ConcurrencyLimiter:
    """It has found out that a picture takes a tenth of a second."""
    limiter = ConcurrencyLimiter("predict", 100, Metrics(), clock)
    limiter.enter(30)
    limiter.reserve(20, deadline_seconds=30)
    clock.now += 2
    limiter.leave(20, done=True)
    return limiter


def test_the_rate_is_the_busy_time_of_a_picture(limiter: ConcurrencyLimiter, clock: Clock) -> None:
    clock.now += 1000  # idle time does not count
    limiter.enter(30)
    clock.now += 0.1
    limiter.leave(1, done=True)
    assert limiter.rate.seconds_per_image == pytest.approx(0.1, rel=1e-3)


def test_work_that_would_not_be_done_in_time_is_refused_with_the_time_to_wait(
    limiter: ConcurrencyLimiter,
) -> None:
    limiter.enter(30)
    limiter.reserve(64, deadline_seconds=10)
    limiter.enter(30)
    with pytest.raises(Problem, match=r"about 12\.8 s and the deadline is 10 s") as refused:
        limiter.reserve(64, deadline_seconds=10)
    assert refused.value.headers == {"Retry-After": "5"}
    limiter.reserve(64, deadline_seconds=30)  # whoever has more time is let in


def test_a_request_that_is_alone_is_let_in_however_slow_the_model_was(
    limiter: ConcurrencyLimiter,
) -> None:
    limiter.enter(30)
    limiter.reserve(1000, deadline_seconds=1)
    assert limiter.images == 1000


def test_the_rate_falls_while_nothing_is_finished(
    limiter: ConcurrencyLimiter, clock: Clock
) -> None:
    limiter.enter(30)
    clock.now += 5
    limiter.leave(1, done=False)
    assert limiter.rate.seconds_per_image > 0.3 and limiter.requests == limiter.images == 0


def test_more_requests_than_the_capacity_are_refused(clock: Clock) -> None:
    limiter = ConcurrencyLimiter("predict", 1, Metrics(), clock)
    limiter.enter(30)
    with pytest.raises(Problem, match="1 predict requests are in flight"):
        limiter.enter(30)


def head_of(length: int, more: str = "") -> bytes:
    told = f"Host: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{more}"
    return f"POST /v1/predict HTTP/1.1\r\n{told}\r\n".encode()


def address_of(gateway: Gateway) -> tuple[str, int]:
    return "127.0.0.1", int(gateway.url.rsplit(":", 1)[1])


def status_of(client: socket.socket) -> int:
    """Reads one response, and no further."""
    response = http.client.HTTPResponse(client)
    response.begin()
    response.read()
    return response.status


@pytest.fixture
def full() -> Iterator[Gateway]:
    """A gateway that holds one request, and has it."""
    for gateway in serve(Settings(predict_capacity=1)):
        gateway.backend.delay_seconds = 30.0
        body = json.dumps({"images": packed(encoded(FACE)), "options": CROPS}).encode()
        with socket.create_connection(address_of(gateway)) as inside:
            inside.sendall(head_of(len(body)) + body)
            until(
                lambda gateway=gateway: (
                    'in_flight{operation="predict"} 1.0' in gateway.get("/metrics").body.decode()
                )
            )
            yield gateway


def test_a_full_gateway_refuses_before_the_body_is_sent(full: Gateway) -> None:
    with socket.create_connection(address_of(full), timeout=5) as outside:
        outside.sendall(head_of(100_000))  # and nothing after it
        assert outside.recv(4096).startswith(b"HTTP/1.1 503")


def test_a_refusal_does_not_wait_to_be_acknowledged_half_way(full: Gateway) -> None:
    """Its head and its body are two packets: with Nagle's algorithm the second comes when a client's delayed ACK has, after 40 ms."""
    seconds = []
    with socket.create_connection(address_of(full), timeout=5) as client:
        for _ in range(40):
            client.sendall(head_of(1) + b"x")
            start = time.perf_counter()
            assert status_of(client) == 503
            seconds.append(time.perf_counter() - start)
    assert statistics.median(seconds) < 0.03


def test_a_client_that_waits_before_it_sends_is_refused_without_being_asked_for_its_body(
    full: Gateway,
) -> None:
    with socket.create_connection(address_of(full), timeout=5) as client:
        client.sendall(head_of(1_000_000, "Expect: 100-continue\r\n"))
        said = client.recv(4096)
    assert said.startswith(b"HTTP/1.1 503") and b"\r\nretry-after: 1\r\n" in said


def test_a_connection_goes_on_after_a_refusal_that_came_before_the_body(full: Gateway) -> None:
    body = b"\xff" * 3_000_000  # more than the sockets hold: somebody has to take it
    with socket.create_connection(address_of(full), timeout=5) as client:
        for _ in range(3):
            client.sendall(head_of(len(body)))
            assert status_of(client) == 503
            client.sendall(body)
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert status_of(client) == 200


def test_whoever_could_not_be_served_in_time_is_refused_before_its_body_is_read(
    limiter: ConcurrencyLimiter,
) -> None:
    limiter.enter(30)
    limiter.reserve(100, deadline_seconds=30)
    with pytest.raises(Problem, match="the deadline is 5 s"):
        limiter.enter(5)
    limiter.enter(30)


def test_work_is_dropped_when_its_client_has_gone() -> None:
    running = serve(Settings())
    gateway = next(running)
    gateway.backend.delay_seconds = 30.0
    body = json.dumps({"images": packed(encoded(FACE)), "options": CROPS}).encode()
    head = f"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", int(gateway.url.rsplit(":", 1)[1]))) as client:
        client.sendall(head.encode() + body)
        until(lambda: 'in_flight{operation="predict"} 1.0' in gateway.get("/metrics").body.decode())
    until(
        lambda: (
            'refused_total{operation="predict",reason="client_gone"} 1.0'
            in gateway.get("/metrics").body.decode()
        )
    )
    assert 'in_flight{operation="predict"} 0.0' in gateway.get("/metrics").body.decode()
    gateway.backend.delay_seconds = 0.0
    assert (
        gateway.post("/v1/predict", {"images": packed(encoded(FACE)), "options": CROPS}).status
        == 200
    )
    running.close()
