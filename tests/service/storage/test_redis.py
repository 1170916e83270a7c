"""A Redis that is gone, slow, full or refuses costs a moment and a counter."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from redis.asyncio import Redis as Client

from service.observability.metrics import Metrics
from service.storage.redis import PAUSE_SECONDS, Redis, RedisUnavailable
from tests.support.redis_server import TIMEOUT, RedisServer, SlowProxy, failures
from tests.support.waiting import Clock

pytestmark = pytest.mark.processes


async def ping(client: Client) -> bool:
    return bool(await client.ping())


def echo(text: str) -> Callable[[Client], Awaitable[bytes | str]]:
    return lambda client: client.echo(text)


def setting(name: str) -> Callable[[Client], Awaitable[object]]:
    return lambda client: client.set(name, b"x" * 100_000)


async def refused(redis: Redis) -> str:
    with pytest.raises(RedisUnavailable) as failed:
        await redis.execute("test", ping)
    return failed.value.reason


async def test_a_redis_that_is_there_answers(redis_server: RedisServer) -> None:
    redis = Redis(redis_server.url, Metrics(), timeout_seconds=TIMEOUT)
    assert await redis.execute("test", ping)
    await redis.close()


async def test_a_redis_that_is_gone_is_left_alone_for_a_moment_and_found_again(
    redis_server: RedisServer,
) -> None:
    metrics, clock = Metrics(), Clock()
    redis = Redis(redis_server.url, metrics, timeout_seconds=TIMEOUT, clock=clock)
    assert await redis.execute("test", ping)
    redis_server.kill()
    assert await refused(redis) == "gone" and await refused(redis) == "resting"
    redis_server.start()
    assert await refused(redis) == "resting"
    clock.now += PAUSE_SECONDS + 0.1
    assert await redis.execute("test", ping)
    assert failures(metrics, "gone") == 1 and failures(metrics, "resting") == 2
    await redis.close()


async def test_a_frozen_redis_costs_one_timeout(redis_server: RedisServer) -> None:
    redis = Redis(redis_server.url, metrics := Metrics(), timeout_seconds=0.1)
    redis_server.freeze()
    assert await refused(redis) == "slow" and await refused(redis) == "resting"
    assert failures(metrics, "slow") == 1
    redis_server.thaw()
    await redis.close()


async def test_an_answer_that_comes_late_is_not_taken_for_the_next_one(
    redis_server: RedisServer,
) -> None:
    clock = Clock()
    async with SlowProxy(redis_server.port) as proxy:
        redis = Redis(proxy.url, Metrics(), timeout_seconds=TIMEOUT, clock=clock)
        assert await redis.execute("test", ping)
        # It stops waiting; the answer comes, to nobody.
        redis.timeout_seconds, proxy.seconds = 0.1, 0.5
        assert await refused(redis) == "slow"
        redis.timeout_seconds, proxy.seconds = TIMEOUT, 0.0
        clock.now += PAUSE_SECONDS + 0.1
        assert await redis.execute("test", lambda client: client.echo("now")) == b"now"
        await redis.close()


async def test_a_client_that_leaves_does_not_spoil_the_connection(
    redis_server: RedisServer,
) -> None:
    redis = Redis(redis_server.url, Metrics(), timeout_seconds=TIMEOUT)
    assert await redis.execute("test", ping)
    reply = asyncio.create_task(
        redis.execute("test", lambda client: client.echo("of one who left"))
    )
    await asyncio.sleep(0)
    reply.cancel()
    answers = await asyncio.gather(
        *(redis.execute("test", echo(str(number))) for number in range(50))
    )
    assert answers == [str(n).encode() for n in range(50)]
    assert (await redis.execute("test", lambda client: client.info("clients")))[
        "connected_clients"
    ] <= 16
    await redis.close()


async def test_a_full_redis_refuses_writes_and_goes_on_reading(redis_server: RedisServer) -> None:
    redis_server.kill()
    redis_server.start("--maxmemory", "1mb", "--maxmemory-policy", "noeviction")
    redis = Redis(redis_server.url, metrics := Metrics(), timeout_seconds=TIMEOUT)
    with pytest.raises(RedisUnavailable, match="memory is full"):
        for number in range(200):
            await redis.execute("test", setting(str(number)))
    assert await redis.execute("test", lambda client: client.get("no such key")) is None
    assert failures(metrics, "full") == 1
    await redis.close()


@pytest.mark.parametrize(
    "reply",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", b":nine\r\n", b"$3\r\nabcdefgh\r\n", b"\xff\x00\xfe\r\n"],
)
async def test_a_server_that_is_no_redis_counts_as_unavailable(reply: bytes) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            writer.write(reply)
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    redis = Redis(
        f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", Metrics(), timeout_seconds=0.3
    )
    with pytest.raises(RedisUnavailable):
        await redis.execute("test", lambda client: client.get("a"))
    await redis.close()
    server.close()
