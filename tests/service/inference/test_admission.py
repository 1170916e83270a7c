"""What is let in: by number, by the time the work would take as measured, and only while its client
is there.
"""

import http.client
import json
import socket
from collections.abc import Iterator

import pytest

from service.inference.admission import ConcurrencyLimiter
from service.observability.metrics import Metrics
from service.problems import Problem
from service.settings import Settings
from tests.support.gateway import Gateway, open_gateway
from tests.support.pictures import PREDICT_BODY
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
    with pytest.raises(Problem, match=r"about 12\.8 s and the deadline is 10 s") as excinfo:
        limiter.reserve(64, deadline_seconds=10)
    assert excinfo.value.headers == {"Retry-After": "5"}
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


def head_of(length: int, *more: str) -> bytes:
    """The head of a POST of JSON of this length."""
    lines = ("POST /v1/predict HTTP/1.1", "Host: x", "Content-Type: application/json", *more)
    return "\r\n".join((*lines, f"Content-Length: {length}", "", "")).encode()


def connect(gateway: Gateway) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(gateway.url.rsplit(":", 1)[1])), timeout=30)


def send_crop(client: socket.socket) -> None:
    """A whole request, without waiting for its answer."""
    body = json.dumps(PREDICT_BODY).encode()
    client.sendall(head_of(len(body)) + body)


def status_of(client: socket.socket) -> int:
    """Reads one response, and no further."""
    response = http.client.HTTPResponse(client)
    response.begin()
    response.read()
    return response.status


def in_flight(gateway: Gateway) -> float:
    return gateway.metric('affectgan_requests_in_flight{operation="predict"}')


@pytest.fixture
def full() -> Iterator[Gateway]:
    """A gateway that may have one request in flight, and has it."""
    with open_gateway(Settings(predict_capacity=1)) as gateway, connect(gateway) as inside:
        gateway.backend.delay_seconds = 60.0
        send_crop(inside)
        until(lambda: in_flight(gateway) == 1)
        yield gateway


def test_a_full_gateway_refuses_before_the_body_is_sent(full: Gateway) -> None:
    with connect(full) as outside:
        outside.sendall(head_of(100_000))  # and nothing after it
        assert outside.recv(4096).startswith(b"HTTP/1.1 503")


def test_a_refusal_does_not_wait_to_be_acknowledged_half_way(full: Gateway) -> None:
    """Its head and its body are two packets: with Nagle's algorithm the second comes when a
    client's delayed ACK has, after 40 ms."""
    with connect(full) as client:
        client.sendall(head_of(1) + b"x")
        assert status_of(client) == 503
        transports = [connection.transport for connection in full.server.server_state.connections]
        sockets = [transport.get_extra_info("socket") for transport in transports]
        options = [sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for sock in sockets]
    assert options and all(options)


def test_a_client_that_expects_100_continue_is_refused_before_it_sends_its_body(
    full: Gateway,
) -> None:
    with connect(full) as client:
        client.sendall(head_of(1_000_000, "Expect: 100-continue"))
        answer = client.recv(4096)
    assert answer.startswith(b"HTTP/1.1 503") and b"\r\nretry-after: 1\r\n" in answer


def test_a_connection_goes_on_after_a_refusal_that_came_before_the_body(full: Gateway) -> None:
    body = b"\xff" * 3_000_000  # more than the sockets hold: somebody has to take it
    with connect(full) as client:
        for _ in range(3):
            client.sendall(head_of(len(body)))
            assert status_of(client) == 503
            client.sendall(body)
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert status_of(client) == 200


def test_a_request_that_would_miss_its_deadline_is_refused_before_its_body_is_read(
    limiter: ConcurrencyLimiter,
) -> None:
    for _ in range(50):
        limiter.enter(30)
    with pytest.raises(Problem, match=r"about 5\.1 s and the deadline is 5 s"):
        limiter.check(5)
    limiter.check(30)


def test_a_small_request_waits_for_its_turns_and_not_for_all_that_others_sent(
    limiter: ConcurrencyLimiter,
) -> None:
    for caller in ("a", "b"):
        limiter.enter(30, caller)
        limiter.reserve(100, 30, caller)
    limiter.check(1, "c")  # a turn of each caller: 0.3 s
    limiter.check(1, "a")
    with pytest.raises(Problem, match=r"about 19\.2 s"):
        limiter.enter(5, "c")
        limiter.reserve(64, 5, "c")  # 64 turns of each


def test_a_caller_leaves_room_for_others(clock: Clock) -> None:
    limiter = ConcurrencyLimiter("predict", 4, Metrics(), clock, caller_share=0.75)
    for _ in range(3):
        limiter.enter(30, "a")
    with pytest.raises(Problem, match="3 predict requests of yours are in flight"):
        limiter.check(30, "a")
    limiter.enter(30, "b")
    limiter.leave(1, "a", done=True)
    limiter.check(30, "a")


def test_work_is_dropped_when_its_client_has_gone() -> None:
    metric = 'affectgan_requests_refused_total{operation="predict",reason="client_gone"}'
    with open_gateway(Settings()) as gateway:
        gateway.backend.delay_seconds = 60.0
        with connect(gateway) as client:
            send_crop(client)
            until(lambda: in_flight(gateway) == 1)
        until(lambda: gateway.metric(metric) == 1)
        assert in_flight(gateway) == 0
        gateway.backend.delay_seconds = 0.0
        assert gateway.post("/v1/predict", PREDICT_BODY).status == 200


def test_a_gateway_that_has_finished_nothing_reports_its_backlog_all_the_same() -> None:
    clock, metrics = Clock(), Metrics()
    limiter = ConcurrencyLimiter("explain", 8, metrics, clock)
    labels = {"operation": "explain"}

    def reported() -> float | None:
        return metrics.registry.get_sample_value("affectgan_backlog_seconds", labels)

    assert reported() == 0
    limiter.enter(60.0)
    limiter.enter(60.0)
    clock.now = 3.0
    assert reported() == 2 * 3.0
    limiter.leave(1, done=True)
    limiter.leave(1, done=True)
    assert reported() == 0
