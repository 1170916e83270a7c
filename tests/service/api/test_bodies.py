"""Bodies: read in time and within bounds, whole, packed or not; slow clients keep nobody out."""

import gzip
import json
import socket
import threading
from contextlib import ExitStack

import pytest

from service.api.bodies import LOOP_MOST_BYTES, off_the_loop
from service.settings import Settings
from tests.support.gateway import Gateway, open_gateway
from tests.support.pictures import CROPS, FACE, FILE, FORM, PREDICT_BODY, encoded, form
from tests.support.waiting import until


def connect(gateway: Gateway) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(gateway.url.rsplit(":", 1)[1])), timeout=30)


def head(length: int, *more: str) -> bytes:
    lines = ("POST /v1/predict HTTP/1.1", "Host: x", "Content-Type: application/json", *more)
    return "\r\n".join((*lines, f"Content-Length: {length}", "", "")).encode()


def test_bodies_on_their_way_take_no_room_from_requests_that_are_whole() -> None:
    with open_gateway(Settings(predict_capacity=1)) as gateway, ExitStack() as stack:
        for _ in range(5):
            slow = stack.enter_context(connect(gateway))
            slow.sendall(head(1000) + b"{")
        assert [gateway.post("/v1/predict", PREDICT_BODY).status for _ in range(5)] == [200] * 5


def test_a_body_that_does_not_come_in_time_is_refused_and_its_connection_closed() -> None:
    with open_gateway(Settings(body_seconds=0.2)) as gateway, connect(gateway) as slow:
        slow.sendall(head(1000) + b"{")
        answer = slow.makefile("rb").read()  # to its end: it is closed
    assert answer.startswith(b"HTTP/1.1 408") and b'"code":"body_too_slow"' in answer


def test_a_caller_sends_so_many_bodies_at_a_time() -> None:
    held = "affectgan_request_bodies_bytes"
    with open_gateway(Settings(caller_uploads=3)) as gateway:
        with ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(connect(gateway)).sendall(head(1000) + b"{")
            until(lambda: gateway.metric(held) == 3)
            assert gateway.post("/v1/predict", PREDICT_BODY).status == 429
        until(lambda: gateway.metric(held) == 0)
        assert gateway.post("/v1/predict", PREDICT_BODY).status == 200


def test_bodies_that_hold_too_much_together_are_refused() -> None:
    settings = Settings(bodies_bytes=4_000_000, max_body_bytes=2_000_000)
    with open_gateway(settings) as gateway, ExitStack() as stack:
        for _ in range(2):
            sending = stack.enter_context(connect(gateway))
            sending.sendall(head(1_500_000) + b" " * 1_400_000)
        until(lambda: gateway.metric("affectgan_request_bodies_bytes") == 2_800_000)
        body = json.dumps(PREDICT_BODY).encode() + b" " * 1_000_000
        assert gateway.post("/v1/predict", body).status == 503
        assert gateway.post("/v1/predict", PREDICT_BODY).status == 200  # there is room for it


def test_a_client_that_leaves_during_its_upload_is_one_line_and_no_fault_of_ours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    metric = 'affectgan_request_seconds_count{method="POST",route="/v1/predict",status="499"}'
    with open_gateway(Settings()) as gateway:
        with connect(gateway) as client:
            client.sendall(head(1000) + b"{")
        until(lambda: gateway.metric(metric) == 1)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("size", [1, 500_000])
def test_a_packed_body_is_unpacked(gateway: Gateway, size: int) -> None:
    body = gzip.compress(json.dumps(PREDICT_BODY).encode() + b" " * size)
    reply = gateway.post("/v1/predict", body, **{"Content-Encoding": "gzip"})
    assert reply.status == 200 and reply.json["results"][0]["status"] == "ok"


@pytest.mark.parametrize(
    ("encoding", "body", "status", "words"),
    [
        ("br", b"x", 415, "gzip"),
        ("gzip", b"nothing of it", 400, "no gzip"),
        ("gzip", gzip.compress(b"{}", mtime=0)[:-9], 400, "ends before"),
        ("gzip", gzip.compress(b" " * 70_000_000), 413, "unpacked"),
    ],
)
def test_what_is_packed_otherwise_or_badly_is_refused(
    gateway: Gateway, encoding: str, body: bytes, status: int, words: str
) -> None:
    reply = gateway.post("/v1/predict", body, **{"Content-Encoding": encoding})
    assert reply.status == status and words in reply.json["detail"]


PICTURE = (FILE + b"\r\nContent-Type: image/png", encoded(FACE))
OPTIONS = (b'name="options"', json.dumps(CROPS).encode())


def test_a_form_that_was_cut_is_no_form(gateway: Gateway) -> None:
    whole = form(PICTURE, PICTURE, OPTIONS)
    places = (len(whole) - 4, len(whole) - 30, len(form(PICTURE)) - 8, 40)
    for place in places:
        reply = gateway.post("/v1/predict", whole[:place], kind=FORM)
        assert reply.status == 400 and "form" in reply.json["detail"], place
    assert gateway.post("/v1/predict", whole, kind=FORM).status == 200
    assert gateway.post("/v1/predict", whole + b"an epilogue", kind=FORM).status == 200


@pytest.mark.parametrize("charset", ["undefined", "punycode", "utf-16", "idna", "rot13", "nothing"])
def test_the_charset_of_a_form_means_nothing(gateway: Gateway, charset: str) -> None:
    kind = f"{FORM}; charset={charset}"
    named = (b'name="caf\xc3\xa9"', b"x")
    assert gateway.post("/v1/predict", form(PICTURE, OPTIONS), kind=kind).status == 200
    assert gateway.post("/v1/predict", form(PICTURE, named), kind=kind).status == 422


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("multipart/form-data", b"x", 400),
        (FORM, b"", 400),
        (FORM, b"--edge\r\n" * 2000, 400),
        (FORM, b"--edge\r\n" + b"A" * 50_000, 400),
        (FORM, form(*[(b'name="images"; filename="a"', b"")] * 1100), 400),
        (FORM, form((b'name="images"', b"x")), 422),
        (FORM, form(PICTURE, OPTIONS, OPTIONS), 422),
        (FORM, form(PICTURE, (b'name="options"', b"[" * 100_000)), 413),
    ],
)
def test_a_form_that_is_none_is_refused(
    gateway: Gateway, kind: str, body: bytes, status: int
) -> None:
    assert gateway.post("/v1/predict", body, kind=kind).status == status


def test_a_broken_form_writes_nothing_to_the_log(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    for body in (b"--other--", form(PICTURE).replace(b"\r\n", b"\n"), b"--edge\r\n" * 2000):
        assert gateway.post("/v1/predict", body, kind=FORM).status == 400
    assert [record for record in caplog.records if record.levelno > 20] == []


def test_an_empty_content_encoding_is_none(gateway: Gateway) -> None:
    body = json.dumps(PREDICT_BODY).encode()
    assert gateway.post("/v1/predict", body, **{"Content-Encoding": ""}).status == 200


async def test_large_bodies_are_read_beside_the_event_loop() -> None:
    here = threading.get_ident()
    assert await off_the_loop(b"", threading.get_ident) == here
    assert await off_the_loop(bytes(LOOP_MOST_BYTES + 1), threading.get_ident) != here
