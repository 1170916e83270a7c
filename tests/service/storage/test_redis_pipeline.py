"""Short commands to a real Redis share one connection: each has its own answer or error."""

import asyncio

import pytest

from service.observability.metrics import Metrics
from service.storage.redis import PAUSE_SECONDS, Redis, RedisUnavailable
from tests.support.redis_server import TIMEOUT, RedisServer, SlowProxy, failures
from tests.support.waiting import Clock

pytestmark = pytest.mark.processes


async def echoed(redis: Redis, *texts: str) -> list[bytes]:
    sent = [redis.send("ECHO", text) for text in texts]
    return [await redis.receive("test", one) for one in sent]


async def test_commands_sent_together_go_in_one_round_trip(redis_server: RedisServer) -> None:
    async with SlowProxy(redis_server.port) as proxy:
        redis = Redis(proxy.url, Metrics(), timeout_seconds=TIMEOUT)
        await echoed(redis, "connected")
        before, proxy.seconds = proxy.round_trips, 0.1
        first = asyncio.create_task(echoed(redis, "a", "b"))
        while proxy.round_trips == before:
            await asyncio.sleep(0)
        # While the first two are under way:
        others = await asyncio.gather(*(echoed(redis, str(number)) for number in range(50)))
        assert await first == [b"a", b"b"]
        assert others == [[str(number).encode()] for number in range(50)]
        assert proxy.round_trips == before + 2
        await redis.close()


async def test_what_redis_refuses_fails_alone(redis_server: RedisServer) -> None:
    redis = Redis(redis_server.url, metrics := Metrics(), timeout_seconds=TIMEOUT)
    sent = [redis.send("ECHO", "a"), redis.send("NONSENSE"), redis.send("ECHO", "b")]
    with pytest.raises(RedisUnavailable, match="refused the command"):
        await redis.receive("test", sent[1])
    assert [await redis.receive("test", one) for one in sent[::2]] == [b"a", b"b"] and failures(
        metrics, "refused"
    ) == 1
    await redis.close()


async def test_a_connection_that_redis_closed_meanwhile_is_no_failure(
    redis_server: RedisServer,
) -> None:
    redis = Redis(redis_server.url, metrics := Metrics(), timeout_seconds=TIMEOUT)
    await echoed(redis, "connected")
    await redis.execute(
        "test", lambda client: client.client_kill_filter(_type="normal", skipme=True)
    )
    await asyncio.sleep(0.1)
    assert await echoed(redis, "again") == [b"again"] and failures(metrics, "gone") == 0
    await redis.close()


async def test_a_frozen_redis_costs_everybody_one_timeout_and_its_late_answer_goes_to_nobody(
    redis_server: RedisServer,
) -> None:
    clock = Clock()
    redis = Redis(redis_server.url, metrics := Metrics(), timeout_seconds=0.2, clock=clock)
    await echoed(redis, "connected")
    redis_server.freeze()
    answers = await asyncio.gather(*(echoed(redis, text) for text in "abc"), return_exceptions=True)
    assert all(isinstance(answer, RedisUnavailable) for answer in answers)
    assert failures(metrics, "slow") == 3
    redis_server.thaw()
    clock.now, redis.timeout_seconds = PAUSE_SECONDS + 0.1, TIMEOUT
    assert await echoed(redis, "now") == [b"now"]
    await redis.close()


async def test_a_cancelled_command_leaves_the_others_on_the_connection_unchanged(
    redis_server: RedisServer,
) -> None:
    redis = Redis(redis_server.url, Metrics(), timeout_seconds=TIMEOUT)
    leaving, staying = redis.send("ECHO", "of one who left"), redis.send("ECHO", "mine")
    leaving.cancel()
    assert await redis.receive("test", staying) == b"mine" and await echoed(redis, "a", "b") == [
        b"a",
        b"b",
    ]
    await redis.close()
