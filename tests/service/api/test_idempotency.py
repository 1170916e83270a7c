"""`Idempotency-Key`: what is sent again is answered again, not done again. In this process, and
over a real Redis.
"""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

from service.api.idempotency import KeyClaim, MemoryIdempotencyStore, parse_idempotency_key
from service.problems import Problem
from service.settings import Settings
from tests.support.gateway import Gateway, Reply, open_gateway, serve
from tests.support.jobs import ASYNC, finished_job, redis_settings
from tests.support.pictures import FACE, FILE, FORM, PREDICT_BODY, encoded, form
from tests.support.redis_server import RedisServer
from tests.support.waiting import until

pytestmark = pytest.mark.processes

DRAWN: dict[str, Any] = {"items": [{}]}  # without a seed: each time it is done, it is another face


@pytest.fixture(params=["process", "redis"])
def gateway(request: pytest.FixtureRequest) -> Iterator[Gateway]:
    server = request.getfixturevalue("redis_server") if request.param == "redis" else None
    yield from serve(redis_settings(server) if server else Settings())


def send(
    gateway: Gateway, key: str, body: object = DRAWN, path: str = "/v1/generate", **headers: str
) -> Reply:
    return gateway.post(path, body, **{"Idempotency-Key": key, **headers})


def test_a_request_sent_again_has_the_same_answer(gateway: Gateway) -> None:
    first, again, other = send(gateway, "a"), send(gateway, "a"), send(gateway, "b")
    assert (
        first.body == again.body != other.body
        and first.headers["Content-Type"] == again.headers["Content-Type"]
    )
    assert (
        again.headers["Idempotency-Replayed"] == "true"
        and "Idempotency-Replayed" not in first.headers
    )


def test_a_picture_is_sent_again_with_its_headers(gateway: Gateway) -> None:
    first, again = (send(gateway, '"a quoted key"', Accept="image/png") for _ in range(2))
    assert (
        first.body == again.body
        and again.headers["Content-Type"] == "image/png"
        and again.headers["X-Seed"] == first.headers["X-Seed"]
    )
    assert first.headers["X-Request-ID"] != again.headers["X-Request-ID"]


def test_the_same_key_with_another_request_is_refused(gateway: Gateway) -> None:
    assert send(gateway, "a").status == 200
    reply = send(gateway, "a", {"items": [{"seed": 1}]})
    assert reply.status == 422 and reply.json["code"] == "key_reused"
    assert send(gateway, "a", PREDICT_BODY, "/v1/predict").status == 200  # another route


def test_a_request_that_still_runs_is_not_done_twice(gateway: Gateway) -> None:
    gateway.backend.delay_seconds = 1.0
    first: list[Reply] = []
    thread = threading.Thread(
        target=lambda: first.append(send(gateway, "a", PREDICT_BODY, "/v1/predict"))
    )
    thread.start()
    until(lambda: gateway.backend.predicted == [1])
    reply = send(gateway, "a", PREDICT_BODY, "/v1/predict")
    thread.join()
    assert (
        reply.status == 409
        and reply.headers["Retry-After"]
        and first[0].status == 200
        and gateway.backend.predicted == [1]
    )
    assert send(gateway, "a", PREDICT_BODY, "/v1/predict").body == first[0].body


def test_what_failed_may_be_tried_again(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(type(gateway.backend), "predict", None)
        assert send(gateway, "a", PREDICT_BODY, "/v1/predict").status == 500
    assert send(gateway, "a", {"items": [{"valence": 5}]}).status == 422
    assert (
        send(gateway, "a", PREDICT_BODY, "/v1/predict").status == send(gateway, "a").status == 200
    )


def test_a_cache_key_depends_on_the_content_of_a_request_and_not_on_its_form(
    gateway: Gateway,
) -> None:
    options = (b'name="options"', b'{"faces": "none"}')
    first = send(gateway, "a", form((FILE, encoded(FACE)), options), "/v1/predict", kind=FORM)
    other_edge = form((FILE, encoded(FACE)), options).replace(b"--edge", b"--other")
    again = send(gateway, "a", other_edge, "/v1/predict", kind=FORM.replace("edge", "other"))
    assert first.body == again.body and again.headers["Idempotency-Replayed"] == "true"


def test_a_job_is_accepted_once(gateway: Gateway) -> None:
    first, again = (send(gateway, "a", PREDICT_BODY, "/v1/predict", **ASYNC) for _ in range(2))
    assert (
        first.status == again.status == 202
        and first.headers["Location"] == again.headers["Location"]
    )
    assert finished_job(gateway, first.headers["Location"])[
        "status"
    ] == "done" and gateway.backend.predicted == [1]


@pytest.mark.parametrize("key", ["", " ", "é", "x" * 256, '""'])
def test_a_key_that_is_none_is_refused(key: str) -> None:
    with pytest.raises(Problem, match="give 1 to 255"):
        parse_idempotency_key(key)


def test_gateways_share_answers_that_nobody_can_read_in_redis(redis_server: RedisServer) -> None:
    settings = redis_settings(redis_server)
    with open_gateway(settings) as one, open_gateway(settings) as two:
        answer = send(one, "a", PREDICT_BODY, "/v1/predict")
        assert (
            send(two, "a", PREDICT_BODY, "/v1/predict").body == answer.body
            and two.backend.predicted == []
        )
    with Redis.from_url(redis_server.url) as client:
        (name,) = client.keys("affectgan:idempotency:*")
        values: list[bytes] = list(client.hgetall(name).values())
        assert b"valence" not in b"".join(values) and 0 < client.pttl(name) <= 86_400_000


def test_without_redis_requests_are_done_as_if_there_were_no_key(redis_server: RedisServer) -> None:
    with open_gateway(redis_settings(redis_server)) as gateway:
        redis_server.kill()
        first, again = send(gateway, "a"), send(gateway, "a")
        assert first.status == again.status == 200 and first.body != again.body


async def test_the_oldest_answers_go_first_and_all_expire() -> None:
    clock = [0.0]
    memory = MemoryIdempotencyStore(most_bytes=3000, clock=lambda: clock[0])
    first, second, third = (KeyClaim(name, b"print", b"token") for name in (b"1", b"2", b"3"))
    for claim in (first, second, third):
        await memory.claim(claim, 10)
        await memory.store(claim, bytes(1000), 10)
    assert await memory.claim(third, 10) == (b"print", bytes(1000))
    assert await memory.claim(first, 10) is None
    clock[0] = 11.0
    assert await memory.claim(third, 10) is None
