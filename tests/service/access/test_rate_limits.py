"""RateLimiter: exact by themselves, shared through a real Redis, and local again when Redis is of
no help.
"""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from service.access.authentication import Principal, Quota
from service.access.rate_limits import LimitRequest, LocalBuckets, RateLimiter, SharedBuckets
from service.observability.metrics import Metrics
from service.problems import Problem
from service.settings import Settings
from service.storage.redis import Redis
from tests.support.gateway import Gateway, open_gateway
from tests.support.keys import add_key, post_with_key
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.processes

ANN = Principal("key:ann", frozenset({"predict"}))
WAIT = 2.0  # for Redis on a busy machine


def asking() -> Any:
    return SimpleNamespace(scope={"state": {}})


async def taken(quotas: RateLimiter, images: int = 1, caller: Principal = ANN) -> bool:
    try:
        await quotas.take(caller, images, asking())
    except Problem as problem:
        return problem.status != 429
    return True


def test_a_bucket_gives_its_quota_and_refills_evenly() -> None:
    now = [100.0]
    buckets = LocalBuckets(lambda: now[0])
    one = [LimitRequest("requests", 6, 60, 1)]
    assert [buckets.take("ann", one)[0].wait_seconds for _ in range(6)] == [0.0] * 6
    assert buckets.take("ann", one)[0].wait_seconds == pytest.approx(10.0)
    assert buckets.take("bob", one)[0].wait_seconds == 0.0
    now[0] += 10.0
    assert [buckets.take("ann", one)[0].wait_seconds for _ in range(2)] == [
        0.0,
        pytest.approx(10.0),
    ]


async def test_nothing_is_taken_when_one_bucket_is_short() -> None:
    quotas = RateLimiter(Quota(requests=3, images=10), Metrics(), clock=lambda: 0.0)
    assert await taken(quotas, 8) and not await taken(quotas, 8) and not await taken(quotas, 8)
    assert await taken(quotas, 1) and await taken(quotas, 1) and not await taken(quotas, 0)


async def test_the_refusal_of_a_request_larger_than_the_quota_names_the_quota() -> None:
    with pytest.raises(Problem, match="your quota allows 10 in 60 s") as excinfo:
        await RateLimiter(Quota(images=10), Metrics()).take(ANN, 11, asking())
    assert excinfo.value.status == 413


async def test_redis_counts_as_the_gateway_does(redis_server: RedisServer) -> None:
    redis = Redis(redis_server.url, Metrics(), timeout_seconds=WAIT)
    shared, local = SharedBuckets(redis), LocalBuckets(lambda: 0.0)
    for cost in (3, 50, 1, 40, 20, 6, 1):
        demands = [LimitRequest("requests", 5, 3600, 1), LimitRequest("images", 100, 3600, cost)]
        for one, other in zip(
            await shared.take("ann", demands), local.take("ann", demands), strict=True
        ):
            assert one.wait_seconds == pytest.approx(other.wait_seconds, abs=5.0)
            assert one.full_seconds == pytest.approx(other.full_seconds, abs=5.0)
    await redis.close()


async def test_two_gateways_share_a_quota(redis_server: RedisServer) -> None:
    both = [Redis(redis_server.url, Metrics(), timeout_seconds=WAIT) for _ in range(2)]
    gateways = [RateLimiter(Quota(requests=6, seconds=3600), Metrics(), redis) for redis in both]
    assert sum([await taken(gateways[turn % 2]) for turn in range(10)]) == 6
    for redis in both:
        await redis.close()


@pytest.mark.parametrize("fault", ["gone", "frozen", "full", "lying", "restarted"])
async def test_without_redis_a_gateway_counts_by_itself(
    redis_server: RedisServer, fault: str
) -> None:
    metrics = Metrics()
    redis = Redis(redis_server.url, metrics, timeout_seconds=WAIT)
    quotas = RateLimiter(Quota(requests=4, seconds=3600), metrics, redis)
    assert await taken(quotas)
    key = "affectgan:quota:{key:ann}:requests:4:3600"
    if fault == "gone":
        redis_server.kill()
    elif fault == "frozen":
        redis.timeout_seconds = 0.1
        redis_server.freeze()
    elif fault == "full":
        await redis.client.config_set("maxmemory", "1")
    elif fault == "lying":
        await redis.client.delete(key)
        await redis.client.rpush(key, "not a number")
    else:
        await redis.client.script_flush()
        await redis.client.flushall()
    assert [await taken(quotas) for _ in range(5)] == [True] * 4 + [False]
    counted = metrics.registry.get_sample_value("affectgan_quota_local_total")
    assert counted == (0 if fault == "restarted" else 5)
    redis_server.thaw()
    await redis.close()


@pytest.fixture
def gateway(tmp_path: Path, redis_server: RedisServer) -> Iterator[Gateway]:
    self_limited = add_key(tmp_path / "keys.yaml", "few", "--requests", "2", "--seconds", "3600")
    settings = Settings(
        keys_file=tmp_path / "keys.yaml", redis_url=redis_server.url, redis_timeout_seconds=WAIT
    )
    with open_gateway(settings) as gateway:
        gateway.key = self_limited  # type: ignore[attr-defined]
        yield gateway


def test_answers_and_refusals_carry_the_draft_s_headers(gateway: Gateway) -> None:
    replies = [post_with_key(gateway, gateway.key) for _ in range(4)]  # type: ignore[attr-defined]
    assert [reply.status for reply in replies] == [200, 200, 429, 429]
    assert replies[0].headers["RateLimit-Policy"] == '"requests";q=2;w=3600'
    assert replies[0].headers["RateLimit"].startswith('"requests";r=1;t=')
    assert (
        replies[2].headers["RateLimit"].startswith('"requests";r=0;t=')
        and replies[2].json["code"] == "quota_exceeded"
    )
    assert 1700 < int(replies[2].headers["Retry-After"]) <= 1800
