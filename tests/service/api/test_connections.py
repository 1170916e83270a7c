"""Connections that only take up room give it to others."""

import logging
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from service.api.connections import (
    LONGEST_HEAD_BYTES,
    QUIET_SECONDS,
    Connections,
    InvalidRequestFilter,
    RateLimitedLog,
)
from service.cli.server import listen, url_of
from service.settings import Settings
from tests.support.gateway import Gateway, open_gateway
from tests.support.waiting import Clock, until


@contextmanager
def connect(gateway: Gateway) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", int(gateway.url.rsplit(":", 1)[1])), 30) as sock:
        yield sock


def test_a_head_that_does_not_come_in_time_ends_its_connection() -> None:
    with open_gateway(Settings(head_seconds=0.2)) as gateway:
        for begun in (b"", b"GET /healthz HTT", b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: "):
            with connect(gateway) as slow:
                slow.sendall(begun)
                with pytest.raises((ConnectionResetError, EOFError)):
                    if not slow.recv(1):
                        raise EOFError


def test_the_next_request_of_a_connection_has_its_own_time_for_its_head() -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with open_gateway(Settings(head_seconds=0.2)) as gateway, connect(gateway) as client:
        client.sendall(request)
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
        client.sendall(request[:9])
        with pytest.raises((ConnectionResetError, EOFError)):
            while client.recv(4096):
                pass
            raise EOFError


def test_a_head_without_end_is_not_taken(gateway: Gateway) -> None:
    with connect(gateway) as client, pytest.raises((ConnectionError, EOFError)):
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
        for number in range(100):
            client.sendall(b"X-%d: " % number + b"a" * 2000 + b"\r\n")
        if not client.recv(1):
            raise EOFError
    assert 2 * LONGEST_HEAD_BYTES < 100 * 2000


def test_the_longest_idle_connection_makes_room_for_a_new_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with open_gateway(Settings(connections=5)) as gateway, ExitStack() as stack:
        idle = [stack.enter_context(connect(gateway)) for _ in range(30)]
        for half in idle[::2]:
            half.sendall(b"GET /hea")
        assert [gateway.get("/healthz").status for _ in range(5)] == [200] * 5
    lines = [record for record in caplog.records if "longest idle" in record.getMessage()]
    assert len(lines) == 1


def test_a_connection_with_a_request_under_way_is_not_idle() -> None:
    with open_gateway(Settings(connections=2, body_seconds=60)) as gateway, ExitStack() as stack:
        busy = stack.enter_context(connect(gateway))
        busy.sendall(
            b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 2\r\n\r\n{"
        )
        until(lambda: gateway.metric("affectgan_request_bodies_bytes") == 1)
        for _ in range(10):
            stack.enter_context(connect(gateway))
        assert gateway.get("/healthz").status == 200
        busy.sendall(b"}")
        assert busy.recv(4096).startswith(b"HTTP/1.1 422")


def test_there_are_fewer_connections_than_descriptors() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert Connections.from_settings(Settings(connections=10**9)).limit < hard
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard


def test_many_events_of_a_kind_are_one_line(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    line = RateLimitedLog("something about %s", clock)
    for _ in range(1000):
        line.write("it")
    clock.now += QUIET_SECONDS
    line.write("it")
    assert [record.getMessage() for record in caplog.records] == [
        "something about it (1 since the last such line)",
        "something about it (1000 since the last such line)",
    ]


def test_lines_about_what_is_no_http_are_rare_and_others_stay() -> None:
    def passes(text: str) -> bool:
        record = logging.LogRecord("uvicorn.error", logging.WARNING, "", 0, text, None, None)
        return bool(rare.filter(record))

    rare = InvalidRequestFilter()
    passed = [passes("Invalid HTTP request received.") for _ in range(9)]
    assert passed == [True] + [False] * 8 and passes("another line")


def test_an_ipv6_address_is_bracketed() -> None:
    with listen("::1", 0) as six, listen("127.0.0.1", 0) as four:
        assert url_of(six) == f"http://[::1]:{six.getsockname()[1]}"
        assert url_of(four) == f"http://127.0.0.1:{four.getsockname()[1]}"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/v1/models", "/v2/health/live", "/"])
def test_head_is_get_without_a_body(gateway: Gateway, path: str) -> None:
    with connect(gateway) as client:
        client.sendall(f"HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = client.makefile("rb").read()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200") and not body and b"content-length: 0" not in head


@pytest.mark.parametrize("path", ["/healthz/", "/v1/models/", "/v1/models//"])
def test_a_slash_at_the_end_means_nothing(gateway: Gateway, path: str) -> None:
    assert gateway.get(path).status == 200
    assert gateway.post("/v1/predict/", {"images": []}).status == 422
