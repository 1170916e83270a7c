"""Jobs have the answer that the request would have had, in memory and over a real Redis."""

import asyncio
import base64
import signal
import threading
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from PIL import Image
from redis import Redis

from service.api.app import create_app
from service.cli.server import GatewayServer, listen
from service.inference.inference_request import InferenceRequest
from service.jobs.jobs import Job, Lease
from service.jobs.redis_store import RedisJobStore
from service.schemas import PredictBody
from service.settings import Settings
from service.storage.encryption import Cipher
from tests.support.gateway import Gateway, local_backend, open_gateway, serve
from tests.support.jobs import (
    ASYNC,
    FIVE_PICTURES,
    JOBS_KEY,
    finished_job,
    redis_settings,
    start_job,
)
from tests.support.keys import add_key
from tests.support.pictures import CROPS, FACE, encoded, packed
from tests.support.redis_server import RedisServer
from tests.support.waiting import until

pytestmark = pytest.mark.processes


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    yield from serve(Settings(job_slice_images=1))


@pytest.fixture(params=["memory", "redis"])
def place(request: pytest.FixtureRequest) -> Iterator[Gateway]:
    """A gateway with jobs in memory, and one with jobs in Redis."""
    server = request.getfixturevalue("redis_server") if request.param == "redis" else None
    yield from serve(redis_settings(server) if server else Settings(job_slice_images=1))


def test_a_job_has_the_answer_that_the_request_would_have_had(place: Gateway) -> None:
    accepted = place.post("/v1/predict", FIVE_PICTURES, **ASYNC)
    assert (
        accepted.status == 202
        and accepted.headers["Preference-Applied"] == "respond-async"
        and accepted.headers["Retry-After"]
    )
    document = finished_job(place, accepted.headers["Location"])
    assert (
        document["status"] == "done"
        and document["progress"] == {"done": 5, "of": 5}
        and place.backend.predicted == [1] * 5
    )
    answer, direct = place.get(document["result"]["href"]), place.post("/v1/predict", FIVE_PICTURES)
    assert answer.json == direct.json and answer.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            "/v1/generate",
            {
                "items": [
                    {"seed": 1},
                    {"seed": 2, "reference": packed(b"broken")[0]},
                    {"seed": 3, "aus": {"AU12": 0.9}},
                ]
            },
        ),
        (
            "/v1/explain",
            {
                "images": packed(encoded(FACE), b"broken"),
                "options": {**CROPS, "question": {"valence": 0.9}},
            },
        ),
    ],
)
def test_every_operation_may_be_a_job(place: Gateway, path: str, body: Any) -> None:
    document = finished_job(place, start_job(place, path, body))
    results = place.get(document["result"]["href"]).json["results"]
    direct = place.post(path, body)
    assert direct.status == 200, direct.body
    assert [(row["index"], row["status"]) for row in results] == [
        (row["index"], row["status"]) for row in direct.json["results"]
    ]


def _pixels(png: bytes) -> bytes:
    return Image.open(BytesIO(png)).tobytes()


def test_with_accept_image_the_answer_is_the_picture_itself(place: Gateway) -> None:
    document = finished_job(
        place, start_job(place, "/v1/generate", {"items": [{"seed": 7}]}, Accept="image/png")
    )
    answer = place.get(document["result"]["href"])
    direct = place.post("/v1/generate", {"items": [{"seed": 7}]}, Accept="image/png")
    assert (
        _pixels(answer.body) == _pixels(direct.body)  # signatures differ from one to the next
        and answer.headers["Content-Type"] == "image/png"
        and answer.headers["X-Seed"] == "7"
    )


def test_the_document_says_where_a_job_is_stored(place: Gateway) -> None:
    document = place.get(start_job(place)).json
    lost = "lost when that gateway stops" in document["note"]
    assert (document["kept_in"], lost) in (("memory", True), ("redis", False))


def test_progress_moves_and_a_cancelled_job_ends(place: Gateway) -> None:
    place.backend.delay_seconds = 0.2
    path = start_job(place)
    until(lambda: 0 < place.get(path).json["progress"]["done"] < 5)
    early = place.get(f"{path}/result")
    assert (
        early.status == 409
        and early.headers["Retry-After"]
        and place.get(path).headers["Retry-After"]
    )
    assert place.delete(path).json["status"] == "cancelled"
    begun = len(place.backend.predicted)
    place.backend.delay_seconds = 0.0
    for _ in range(2):  # whatever the worker still did of the first, it is past it then
        assert finished_job(place, start_job(place))["status"] == "done"
    assert len(place.backend.predicted) <= begun + 1 + 10
    assert place.get(path).json["status"] == "cancelled"
    assert place.get(f"{path}/result").status == 410


def test_an_answer_may_be_deleted(place: Gateway) -> None:
    path = start_job(place)
    assert finished_job(place, path)["status"] == "done"
    assert (
        place.delete(path).json["status"] == "expired"
        and place.get(f"{path}/result").json["code"] == "job_gone"
    )


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/v1/generate", {"items": [{"aus": {"AU99": 0.5}}]}, "items[0].aus.AU99"),
        (
            "/v1/predict",
            {"images": packed(b"x"), "options": {"version": "9"}},
            "options.version is 9",
        ),
        (
            "/v1/explain",
            {"images": packed(b"x"), "options": {"question": {"au": "AU99"}}},
            "options.question.au",
        ),
    ],
)
def test_what_would_fail_at_once_is_refused_at_once(
    gateway: Gateway, path: str, body: Any, words: str
) -> None:
    reply = gateway.post(path, body, **ASYNC)
    assert reply.status == 422 and words in reply.json["detail"]


def test_a_job_that_fails_says_why(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(gateway.backend, "predict", broken)
    path = start_job(gateway)
    document = finished_job(gateway, path)
    assert (
        document["status"] == "failed"
        and document["error"]["code"] == "internal"
        and "secret" not in str(document)
    )
    assert gateway.get(f"{path}/result").status == 500


def test_nobody_finds_a_job_by_guessing(gateway: Gateway) -> None:
    path = start_job(gateway)
    assert len(path.rsplit("/", 1)[1]) == 32 and gateway.get(path[:-1] + "_").status == 404
    assert gateway.get("/v1/jobs/x/result").status == gateway.delete("/v1/jobs/x").status == 404


def test_jobs_expire() -> None:
    running = serve(Settings(job_seconds=0.5))
    gateway = next(running)
    path = start_job(gateway)
    until(lambda: gateway.get(path).json["status"] == "expired")
    assert gateway.get(f"{path}/result").status == 410
    until(lambda: gateway.get(path).status == 404)
    running.close()


def test_more_jobs_than_may_wait_are_refused() -> None:
    running = serve(Settings(job_capacity=1, job_workers=0))
    gateway = next(running)
    start_job(gateway)
    reply = gateway.post("/v1/predict", FIVE_PICTURES, **ASYNC)
    assert reply.status == 503 and reply.headers["Retry-After"] == "30"
    running.close()


def test_a_running_job_does_not_block_a_synchronous_request(gateway: Gateway) -> None:
    gateway.backend.delay_seconds = 1000.0  # more than any request waits
    path = start_job(gateway)
    until(lambda: gateway.backend.predicted == [1])
    gateway.backend.delay_seconds = 0.0
    assert gateway.post("/v1/predict", FIVE_PICTURES).status == 200
    assert gateway.get(path).json["status"] == "running"
    gateway.delete(path)


# -- Redis -----------------------------------------------------------------------------------------


def stream(server: RedisServer) -> RedisJobStore:
    return RedisJobStore(server.url, Cipher.from_base64(JOBS_KEY), capacity=10, lease_seconds=0.3)


async def taken(server: RedisServer) -> Lease:
    """A job of one picture that a gateway took, and then no more was heard of it."""
    call, store, now = (
        InferenceRequest(
            "predict",
            PredictBody.model_validate({**FIVE_PICTURES, "images": packed(encoded(FACE))}),
        ),
        stream(server),
        time.time(),
    )
    await store.add(Job("a-job", "", "predict", 1, now, now + 60), call.to_bytes())
    lease = await store.take()
    assert lease is not None
    await store.client.aclose()
    return lease


async def finished(server: RedisServer, lease: Lease) -> bool:
    store = stream(server)
    written = await store.finish(lease, "done", b"another answer", time.time() + 60)
    await store.client.aclose()
    return written


def test_one_gateway_does_what_another_accepted(redis_server: RedisServer) -> None:
    first, second = (
        serve(redis_settings(redis_server, job_workers=0)),
        serve(redis_settings(redis_server)),
    )
    accepting, working = next(first), next(second)
    path = start_job(accepting)
    assert (
        finished_job(accepting, path)["status"] == "done"
        and working.backend.predicted == [1] * 5
        and accepting.backend.predicted == []
    )
    assert accepting.get(f"{path}/result").json == working.get(f"{path}/result").json
    first.close()
    second.close()


def test_no_picture_lies_in_redis_in_clear_and_none_when_the_job_is_done(
    redis_server: RedisServer,
) -> None:
    running = serve(redis_settings(redis_server, job_workers=0))
    picture = encoded(FACE)
    path = start_job(next(running), body={"images": packed(picture), "options": CROPS})
    with Redis.from_url(redis_server.url) as client:
        (call,) = client.keys("affectgan:{jobs}:call:*")
        held = b"".join(_value(client, key) for key in client.scan_iter())
        assert (
            len(held) > len(picture)
            and picture[:64] not in held
            and base64.b64encode(picture)[8:72] not in held
        )
        assert 0 < client.pttl(call) <= 3_600_000 and all(
            client.pttl(key) > 0 for key in client.keys("affectgan:{jobs}:[jca]*:*")
        )
    other = serve(redis_settings(redis_server))
    assert finished_job(next(other), path)["status"] == "done"
    with Redis.from_url(redis_server.url) as client:
        assert (
            not client.keys("affectgan:{jobs}:call:*")
            and client.xlen("affectgan:{jobs}:stream") == 0
        )
    other.close()
    running.close()


def _value(client: Any, key: bytes) -> bytes:
    kind = client.type(key)
    if kind == b"stream":
        return repr(client.xrange(key)).encode()
    value = b"".join(client.hgetall(key).values()) if kind == b"hash" else client.get(key)
    return bytes(value)


def test_a_job_whose_gateway_died_is_done_by_another_and_the_dead_changes_nothing(
    redis_server: RedisServer,
) -> None:
    lease = asyncio.run(taken(redis_server))
    running = serve(redis_settings(redis_server, job_lease_seconds=0.3))
    gateway = next(running)
    document = finished_job(gateway, lease.job.path)
    assert document["status"] == "done" and document["attempts"] == 2
    assert not asyncio.run(finished(redis_server, lease))
    assert gateway.get(f"{lease.job.path}/result").json["results"][0]["status"] == "ok"
    running.close()


def test_a_closing_gateway_requeues_its_job(redis_server: RedisServer) -> None:
    first = serve(redis_settings(redis_server))
    closing = next(first)
    closing.backend.delay_seconds = 30.0
    path = start_job(closing)
    until(lambda: closing.get(path).json["status"] == "running")
    first.close()
    second = serve(redis_settings(redis_server))
    document = finished_job(next(second), path)
    assert document["status"] == "done" and document["attempts"] == 1
    second.close()


def test_without_redis_a_request_that_prefers_to_be_a_job_is_answered_at_once(
    redis_server: RedisServer,
) -> None:
    running = serve(redis_settings(redis_server))
    gateway = next(running)
    path = start_job(gateway)
    assert finished_job(gateway, path)["status"] == "done"
    redis_server.kill()
    reply = gateway.post("/v1/predict", FIVE_PICTURES, **ASYNC)
    assert (
        reply.status == 200
        and "Preference-Applied" not in reply.headers
        and len(reply.json["results"]) == 5
    )
    assert gateway.get(path).json["code"] == "jobs_unavailable"
    redis_server.start()
    until(lambda: gateway.post("/v1/predict", FIVE_PICTURES, **ASYNC).status == 202)
    assert finished_job(gateway, start_job(gateway))["status"] == "done"
    running.close()


def test_a_redis_without_a_key_to_encrypt_with_gets_no_jobs(redis_server: RedisServer) -> None:
    running = serve(Settings(redis_url=redis_server.url))
    gateway = next(running)
    assert gateway.get(start_job(gateway)).json["kept_in"] == "memory"
    running.close()


# -- owners ----------------------------------------------------------------------------------------


def test_a_job_is_its_key_s_alone(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    mine, theirs = ({"X-API-Key": add_key(file, name)} for name in ("mine", "theirs"))
    running = serve(Settings(keys_file=file))
    gateway = next(running)
    path = start_job(gateway, **mine)
    until(lambda: gateway.get(path, **mine).json["status"] == "done")
    assert (
        gateway.get(path, **theirs).status
        == gateway.get(f"{path}/result", **theirs).status
        == gateway.delete(path, **theirs).status
        == 404
    )
    assert gateway.get(path).status == 401 and gateway.get(f"{path}/result", **mine).status == 200
    running.close()


# -- the end of a gateway --------------------------------------------------------------------------


def stopping(settings: Settings) -> tuple[Gateway, threading.Thread, Callable[[], None]]:
    """A gateway as `affectgan serve` runs it, and what SIGTERM does to it."""
    backend, listening = local_backend(), listen("127.0.0.1", 0)
    server = GatewayServer(
        uvicorn.Config(create_app(settings, backends=[backend]), log_level="warning"), 0.0
    )
    loop = asyncio.new_event_loop()
    thread = threading.Thread(
        target=lambda: loop.run_until_complete(server.serve(sockets=[listening])), daemon=True
    )
    thread.start()
    until(lambda: server.started)
    gateway = Gateway(f"http://127.0.0.1:{listening.getsockname()[1]}", backend, server)

    def terminate() -> None:
        loop.call_soon_threadsafe(server.handle_exit, signal.SIGTERM, None)

    return gateway, thread, terminate


def test_a_stopped_gateway_finishes_its_jobs_and_hands_them_out_before_it_closes() -> None:
    gateway, thread, terminate = stopping(Settings(job_slice_images=1))
    gateway.backend.delay_seconds = 0.2
    path = start_job(gateway)
    terminate()
    until(lambda: gateway.get("/readyz").status == 503)
    assert gateway.post("/v1/predict", FIVE_PICTURES, **ASYNC).json["code"] == "draining"
    assert finished_job(gateway, path)["status"] == "done" and thread.is_alive()
    assert len(gateway.get(f"{path}/result").json["results"]) == 5
    thread.join(10)
    assert not thread.is_alive()


def test_a_job_that_a_stopped_gateway_cannot_finish_is_reported_as_lost() -> None:
    gateway, thread, terminate = stopping(Settings(job_drain_seconds=0.3))
    gateway.backend.delay_seconds = 60.0
    running, waiting = start_job(gateway), start_job(gateway)
    terminate()
    for path in (running, waiting):
        document = finished_job(gateway, path)
        assert document["status"] == "failed" and document["error"]["code"] == "job_lost"
    thread.join(10)
    assert not thread.is_alive()


def test_jobs_that_a_restart_of_redis_forgets_are_counted_as_lost(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    with open_gateway(redis_settings(redis_server, job_workers=0)) as gateway:
        for _ in range(4):
            start_job(gateway)
        redis_server.kill()  # it kept nothing on disk
        redis_server.start()
        until(
            lambda: gateway.metric('affectgan_jobs_total{operation="predict",outcome="lost"') == 4
        )
    assert "is lost: the store knows it no more" in caplog.text


@pytest.mark.parametrize("where", ["memory", "redis"])
def test_jobs_that_wait_are_counted_with_the_age_of_the_oldest(
    redis_server: RedisServer, where: str
) -> None:
    settings = redis_settings(redis_server, job_workers=0)
    with open_gateway(settings if where == "redis" else Settings(job_workers=0)) as gateway:
        start_job(gateway)
        until(lambda: gateway.metric("affectgan_jobs_oldest_seconds") > 0)
        start_job(gateway)
        until(lambda: gateway.metric("affectgan_jobs_waiting") == 2)
