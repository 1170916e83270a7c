"""A Redis that lies, forgets or starts again costs jobs, never a worker that takes them."""

from collections.abc import Callable

import pytest
from pydantic import SecretStr
from redis import Redis

from service.settings import Settings
from tests.support.gateway import Gateway, open_gateway
from tests.support.jobs import (
    ASYNC,
    FIVE_PICTURES,
    JOBS_KEY,
    finished_job,
    redis_settings,
    start_job,
)
from tests.support.redis_server import RedisServer, lying_proxy
from tests.support.waiting import until

pytestmark = pytest.mark.processes

LIES = [
    b":1\r\n",
    b"$-1\r\n",
    b"*0\r\n",
    b"*3\r\n$3\r\n0-0\r\n*1\r\n*2\r\n$3\r\n1-1\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n*0\r\n",
    b"*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n1-1\r\n*-1\r\n",
    b"-NOGROUP no such group\r\n",
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    b"*99999999999999999999\r\n",
]
# What a stream or a hash may hold that no gateway wrote.
DAMAGE: list[Callable[["Redis"], object]] = [
    lambda redis: redis.flushall(),
    lambda redis: redis.delete("affectgan:{jobs}:stream"),
    lambda redis: redis.xgroup_destroy("affectgan:{jobs}:stream", "gateways"),
    lambda redis: redis.xadd("affectgan:{jobs}:stream", {"other": "x"}),
    lambda redis: redis.xadd("affectgan:{jobs}:stream", {"id": b"\xff\xfe"}),
    lambda redis: _put(redis, fixed=b"[]"),
    lambda redis: _put(redis, fixed=b"{}"),
    lambda redis: _put(redis, fixed=b"{not JSON"),
    lambda redis: _put(redis, expires=b"soon"),
    lambda redis: _put(redis, done=b"much"),
    lambda redis: (
        redis.set("affectgan:{jobs}:job:x", "text")
        and redis.xadd("affectgan:{jobs}:stream", {"id": "x"})
    ),
]


def _put(redis: "Redis", **fields: bytes) -> None:
    """A job that is none, in the queue."""
    whole = {"status": b"queued", "webhook_status": b"none", "fixed": b"{}", "expires": b"9e9"}
    whole |= fields
    for name, value in whole.items():
        redis.hset("affectgan:{jobs}:job:x", name, value)
    redis.set("affectgan:{jobs}:call:x", "no request")
    redis.xadd("affectgan:{jobs}:stream", {"id": "x"})


def job_is_done(gateway: Gateway) -> bool:
    """Whether a request became a job that was done. Over a Redis that failed a moment ago it may
    be answered at once, or refused.
    """
    reply = gateway.post("/v1/predict", FIVE_PICTURES, **ASYNC)
    assert reply.status in (200, 202, 503)
    return (
        reply.status == 202 and finished_job(gateway, reply.headers["Location"])["status"] == "done"
    )


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: repr(lie[:12]))
def test_whatever_redis_answers_no_request_fails_and_a_worker_takes_the_next_job(
    redis_server: RedisServer, lie: bytes
) -> None:
    settings = Settings(
        jobs_key=JOBS_KEY, cache_bytes=2**20, cache_secret="x" * 32, quota_requests=10_000
    )
    with (
        lying_proxy(redis_server.port) as proxy,
        open_gateway(settings.model_copy(update={"redis_url": SecretStr(proxy.url)})) as gateway,
    ):
        proxy.lie = lie
        until(lambda: proxy.lies > 2)
        for headers in ({}, {"Idempotency-Key": "one"}, {"Idempotency-Key": "two", **ASYNC}):
            assert gateway.post("/v1/predict", FIVE_PICTURES, **headers).status in (200, 202, 503)
        assert gateway.get("/v1/jobs/x").status in (404, 503)
        proxy.lie = b""
        until(lambda: job_is_done(gateway))
        assert gateway.get("/readyz").status == 200


@pytest.mark.parametrize("damage", DAMAGE)
def test_whatever_redis_holds_a_worker_takes_the_next_job(
    redis_server: RedisServer, damage: Callable[["Redis"], object]
) -> None:
    with open_gateway(redis_settings(redis_server, job_lease_seconds=0.3)) as gateway:
        assert job_is_done(gateway)
        with Redis.from_url(redis_server.url) as redis:
            damage(redis)
        until(lambda: job_is_done(gateway))
        assert job_is_done(gateway)
        assert gateway.get("/v1/jobs/x").status in (404, 503)
        assert gateway.get("/readyz").status == 200


def test_a_redis_that_restarts_empty_while_a_job_runs_loses_that_job_alone(
    redis_server: RedisServer,
) -> None:
    with open_gateway(redis_settings(redis_server, job_lease_seconds=0.6)) as gateway:
        gateway.backend.delay_seconds = 0.3
        path = start_job(gateway)
        until(lambda: gateway.get(path).json["status"] == "running")
        redis_server.kill()
        redis_server.start()
        until(lambda: gateway.get(path).status == 404)
        gateway.backend.delay_seconds = 0.0
        assert finished_job(gateway, start_job(gateway))["status"] == "done"


def test_readiness_sees_a_worker_that_ended() -> None:
    with open_gateway(Settings()) as gateway:
        assert gateway.get("/readyz").status == 200
        for worker in list(gateway.state.jobs._workers):
            worker.get_loop().call_soon_threadsafe(worker.cancel)
        until(lambda: gateway.get("/readyz").status == 503)
