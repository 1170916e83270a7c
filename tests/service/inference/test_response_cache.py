"""Known answers: what is one, what is not, whom they are for, and a real Redis through all its
faults.
"""

import asyncio
import base64
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from redis import Redis as SyncClient

from affect.answers import RowProblem
from affect.protocol.messages import Predictions
from affect.protocol.tensor_codec import zero_tensors
from service import schemas
from service.access.authentication import Principal
from service.api.json_answers import render_json
from service.backend.interface import BackendTimeout
from service.inference.inference_request import InferenceRequest
from service.inference.model_registry import Version
from service.inference.response_cache import CacheKey, ResponseCache, etag_matches
from service.inference.results import GenerationResult, InferenceResult, PredictionResult
from service.observability.metrics import Metrics
from service.settings import Settings
from service.storage.redis import PAUSE_SECONDS, Redis
from tests.support.gateway import Gateway, Reply, open_gateway, serve
from tests.support.pictures import encoded
from tests.support.redis_server import TIMEOUT, RedisServer, SlowProxy, failures
from tests.support.tiny import tiny_card
from tests.support.waiting import Clock, until

pytestmark = pytest.mark.processes

ANN, BOB = (Principal(name, frozenset({"predict"})) for name in ("ann", "bob"))
SECRET = "of all gateways of this test"
CARD = tiny_card()


def version(digest: str = "d") -> Version:
    return Version(CARD, digest, None, None)  # type: ignore[arg-type]


def reading(picture: bytes = b"picture", **options: Any) -> InferenceRequest:
    image = schemas.ImageContent.model_construct(content=picture)
    chosen = schemas.PredictOptions(**options)
    body = schemas.PredictBody.model_construct(images=[image], options=chosen)
    return InferenceRequest("predict", body)


def drawing(*items: dict[str, Any], **body: Any) -> InferenceRequest:
    return InferenceRequest(
        "generate", schemas.GenerateBody.model_validate({"items": list(items), **body})
    )


def readings(faces: int) -> Predictions:
    tensors = zero_tensors(Predictions, CARD, N=faces)
    tensors["probability"][:] = np.random.default_rng(faces).random((faces, len(CARD.vocabulary)))
    return Predictions(**tensors)


def one_face() -> PredictionResult:
    return PredictionResult(CARD, (range(1),), readings(1), (None,))


def failed(status: int) -> PredictionResult:
    problem = RowProblem(type="t", title="t", status=status, detail="d", code="c")
    return PredictionResult(CARD, (problem,), readings(0), ())


def one_picture(image: bytes) -> GenerationResult:
    requested = np.full((1, len(CARD.vocabulary) + 2), np.nan, np.float32)
    seeds = np.array([2**62], np.int64)
    return GenerationResult(CARD, (range(1),), readings(1), (image,), "image/png", seeds, requested)


@dataclass
class Work:
    """Counts how often it is begun and done; it waits for `gate`, when there is one."""

    result: InferenceResult = field(default_factory=one_face)
    gate: asyncio.Event | None = None
    begun: int = 0
    done: int = 0

    async def __call__(self) -> InferenceResult:
        self.begun += 1
        if self.gate is not None:
            await self.gate.wait()
        self.done += 1
        return self.result


async def key_of(
    cache: ResponseCache, request: InferenceRequest, principal: Principal = ANN, digest: str = "d"
) -> CacheKey:
    key = await cache.key_for(request, version(digest), principal=principal, headers={})
    assert key is not None
    return key


async def find(cache: ResponseCache, key: CacheKey) -> InferenceResult | None:
    result = cache.get_local(key)
    fetch = cache.start_fetch(key) if result is None else None
    return await cache.finish_fetch(key, fetch) if fetch is not None else result


def local(cache_bytes: int = 1 << 20, clock: Clock | None = None) -> ResponseCache:
    return ResponseCache(Settings(cache_bytes=cache_bytes), Metrics(), clock=clock or Clock())


async def test_a_result_is_known_until_its_time_is_over() -> None:
    clock, work = Clock(), Work()
    cache = local(clock=clock)
    key = await key_of(cache, reading())
    assert await find(cache, key) is None
    result, first = await cache.get_or_compute(key, work)
    assert first and await find(cache, key) is result and work.done == 1
    clock.now += cache.seconds + 1
    assert await find(cache, key) is None


async def test_a_cache_key_is_of_request_model_and_caller() -> None:
    cache = local()
    different = [
        await key_of(cache, reading()),
        await key_of(cache, reading(b"another")),
        await key_of(cache, reading(faces="all")),
        await key_of(cache, reading(), BOB),
        await key_of(cache, reading(), digest="e"),
        await key_of(cache, drawing({"seed": 1})),
        await key_of(cache, drawing({"seed": 2})),
        await key_of(cache, drawing({"seed": 1}, format="jpeg")),
        await key_of(cache, drawing({"seed": 1}, face=1)),
        await key_of(cache, drawing({"seed": 1, "reference": {"content": ""}})),
        await key_of(local(), reading()),
    ]
    assert len({key.digest for key in different}) == len(different)


async def test_the_same_request_in_other_words_has_the_same_key() -> None:
    cache = local()
    same = [
        drawing({"seed": 1, "aus": {"AU1": 0.5, "AU2": 1}}),
        drawing({"aus": {"AU2": 1.0, "AU1": 0.50}, "seed": 1}, version="1.0"),
    ]
    assert len({(await key_of(cache, request)).digest for request in same}) == 1


@pytest.mark.parametrize(
    ("request_", "headers", "cache_bytes"),
    [
        (drawing({"seed": 1}, {}), {}, 1 << 20),
        (reading(), {"cache-control": "no-store"}, 1 << 20),
        (reading(), {}, 0),
    ],
)
async def test_what_would_be_another_answer_has_no_key(
    request_: InferenceRequest, headers: dict[str, str], cache_bytes: int
) -> None:
    cache = local(cache_bytes)
    assert await cache.key_for(request_, version(), principal=ANN, headers=headers) is None


@pytest.mark.parametrize(("status", "is_cached"), [(503, False), (422, True)])
async def test_a_fault_of_ours_is_not_cached_and_one_of_the_picture_is(
    status: int, is_cached: bool
) -> None:
    cache = local()
    key = await key_of(cache, reading())
    await cache.get_or_compute(key, Work(failed(status)))
    assert (await find(cache, key) is not None) == is_cached


async def test_memory_is_bounded_and_the_least_used_goes_first() -> None:
    cache = local(100_000)
    keys = [await key_of(cache, drawing({"seed": number})) for number in range(20)]
    for key in keys:
        await cache.get_or_compute(key, Work(one_picture(bytes(8_000))))
        assert await find(cache, keys[0]) is not None
    assert cache._local.currsize <= 100_000 and await find(cache, keys[1]) is None
    await cache.get_or_compute(keys[2], Work(one_picture(bytes(50_000))))
    assert await find(cache, keys[2]) is None and await find(cache, keys[0]) is not None


async def test_identical_requests_under_way_are_one() -> None:
    cache, work = local(), Work(gate=asyncio.Event())
    key = await key_of(cache, reading())
    clients = [asyncio.create_task(cache.get_or_compute(key, work)) for _ in range(20)]
    await all_begun(work, 1)
    assert work.gate is not None
    work.gate.set()
    answers = await asyncio.gather(*clients)
    assert work.done == 1 and [first for _, first in answers].count(True) == 1
    assert {id(result) for result, _ in answers} == {id(work.result)}


async def test_the_first_client_may_leave_and_the_others_get_the_result() -> None:
    cache, work = local(), Work(gate=asyncio.Event())
    key = await key_of(cache, reading())
    first, second = (asyncio.create_task(cache.get_or_compute(key, work)) for _ in range(2))
    await all_begun(work, 1)
    first.cancel()
    assert work.gate is not None
    work.gate.set()
    assert (await second)[0] is work.result and work.done == 1


async def test_the_computation_ends_when_its_last_waiter_leaves() -> None:
    cache, work = local(), Work(gate=asyncio.Event())
    alone = asyncio.create_task(cache.get_or_compute(await key_of(cache, reading()), work))
    await all_begun(work, 1)
    (in_flight,) = cache._in_flight.values()
    alone.cancel()
    await asyncio.wait([alone, in_flight.task])
    assert in_flight.task.cancelled() and not cache._in_flight


async def test_the_deadline_of_the_first_is_not_that_of_the_others() -> None:
    gate = asyncio.Event()

    async def too_late() -> InferenceResult:
        await gate.wait()
        raise BackendTimeout("predict")

    cache, work = local(), Work()
    key = await key_of(cache, reading())
    first = asyncio.create_task(cache.get_or_compute(key, too_late))
    await asyncio.sleep(0)
    second = asyncio.create_task(cache.get_or_compute(key, work))
    await asyncio.sleep(0)
    gate.set()
    with pytest.raises(BackendTimeout):
        await first
    assert await second == (work.result, True)


async def all_begun(work: Work, times: int) -> None:
    """Lets other tasks run until the work was begun so often."""
    while work.begun < times:
        await asyncio.sleep(0)
    await asyncio.sleep(0)


def test_an_etag_matches_as_http_says() -> None:
    assert etag_matches('W/"a"', 'W/"b", "a"') and etag_matches('W/"a"', 'W/"a"')
    assert (
        not etag_matches('W/"a"', '"b"')
        and not etag_matches('W/"a"', None)
        and not etag_matches('W/"a"', "*")
    )


# -- Redis -----------------------------------------------------------------------------------------


@dataclass
class Shared:
    """A gateway's cache behind Redis, with a clock to end its rest."""

    cache: ResponseCache
    redis: Redis
    metrics: Metrics
    clock: Clock

    async def compute(self, request: InferenceRequest, work: Work | None = None) -> InferenceResult:
        """Its result, which Redis has then, too."""
        work = work or Work()
        result, _ = await self.cache.get_or_compute(await key_of(self.cache, request), work)
        await self.cache.close()
        return result

    async def find(self, request: InferenceRequest) -> InferenceResult | None:
        return await find(self.cache, await key_of(self.cache, request))

    def failures(self, reason: str) -> float:
        return failures(self.metrics, reason, purpose="cache")


def shared(url: str, secret: str = SECRET) -> Shared:
    metrics, clock = Metrics(), Clock()
    redis = Redis(url, metrics, timeout_seconds=TIMEOUT, clock=clock)
    settings = Settings(cache_bytes=1 << 20, cache_secret=secret)
    return Shared(ResponseCache(settings, metrics, redis), redis, metrics, clock)


async def test_gateways_with_the_same_secret_share_results(redis_server: RedisServer) -> None:
    one, two = shared(redis_server.url), shared(redis_server.url)
    stranger = shared(redis_server.url, "a different secret")
    result = await one.compute(reading())
    fetched = await two.find(reading())
    assert fetched is not None and render_json(fetched) == render_json(result)
    assert np.array_equal(fetched.read.probability, result.read.probability)  # every digit
    assert await stranger.find(reading()) is None
    await asyncio.gather(*(each.redis.close() for each in (one, two, stranger)))


async def test_a_drawn_picture_comes_from_redis_as_it_went(redis_server: RedisServer) -> None:
    one, two = shared(redis_server.url), shared(redis_server.url)
    work = Work(one_picture(bytes(range(256))))
    result = await one.compute(drawing({"seed": 1}), work)
    fetched = await two.find(drawing({"seed": 1}))
    assert fetched is not None and render_json(fetched) == render_json(result)
    await asyncio.gather(one.redis.close(), two.redis.close())


async def test_redis_sees_neither_pictures_nor_readings_and_forgets(
    redis_server: RedisServer,
) -> None:
    gateway = shared(redis_server.url)
    await gateway.compute(reading(b"the picture"), Work(failed(422)))
    name = (await key_of(gateway.cache, reading(b"the picture"))).redis_name
    value = await raw_value(gateway.redis, name)
    assert await gateway.redis.client.keys("*") == [name.encode()] and "picture" not in name
    assert b"picture" not in value and b"status" not in value
    assert 0 < await gateway.redis.client.pttl(name) <= 600_000
    await gateway.redis.close()


@pytest.mark.parametrize("operation", ["explain", "generate"])
async def test_pictures_of_a_person_stay_in_the_process(
    redis_server: RedisServer, operation: str
) -> None:
    gateway = shared(redis_server.url)
    body = schemas.ExplainBody.model_construct(
        images=[schemas.ImageContent.model_construct(content=b"picture")],
        options=schemas.ExplainOptions(),
    )
    request = (
        InferenceRequest("explain", body)
        if operation == "explain"
        else drawing({"seed": 1, "reference": {"content": "YWJj"}})
    )
    assert await gateway.find(request) is None
    assert await gateway.compute(request) is await gateway.find(request)
    assert await gateway.redis.client.dbsize() == 0
    await gateway.redis.close()


@pytest.mark.parametrize("fault", ["gone", "slow", "full"])
async def test_a_redis_at_fault_is_a_miss_and_a_counter_and_heals(
    redis_server: RedisServer, fault: str
) -> None:
    one, two = shared(redis_server.url), shared(redis_server.url)
    await one.compute(reading())
    if fault == "gone":
        redis_server.kill()
    elif fault == "slow":
        one.redis.timeout_seconds = two.redis.timeout_seconds = 0.1
        redis_server.freeze()
    else:
        await one.redis.client.config_set("maxmemory", "1")
    assert await one.find(reading(b"unheard of")) is None
    cached = await two.find(reading())
    assert (cached is not None) == (fault == "full")  # a full one goes on reading
    assert await two.compute(reading(b"new")) and two.failures(fault) == 1
    redis_server.thaw()
    if fault == "gone":
        redis_server.start()
    elif fault == "full":
        await one.redis.client.config_set("maxmemory", "0")
    for each in (one, two):
        each.redis.timeout_seconds = TIMEOUT
        each.clock.now += PAUSE_SECONDS + 0.1
    await two.compute(reading(b"newer"))
    assert await one.find(reading(b"newer")) is not None
    await asyncio.gather(one.redis.close(), two.redis.close())


async def raw_value(redis: Redis, name: Any) -> bytes:
    value = await redis.client.get(name)
    assert isinstance(value, bytes)
    return value


LIES: dict[str, Callable[[bytes, bytes], bytes]] = {
    "nothing": lambda value, other: b"",
    "garbage": lambda value, other: os.urandom(500),
    "changed": lambda value, other: value[:-1] + bytes([value[-1] ^ 1]),
    "moved": lambda value, other: other,
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_lying_redis_is_a_miss_and_a_counter(redis_server: RedisServer, lie: str) -> None:
    one, two = shared(redis_server.url), shared(redis_server.url)
    await one.compute(reading())
    (name,) = await one.redis.client.keys("*")
    value = await raw_value(one.redis, name)
    await one.compute(reading(b"other"))
    (other,) = set(await one.redis.client.keys("*")) - {name}
    await one.redis.client.set(name, LIES[lie](value, await raw_value(one.redis, other)))
    assert await two.find(reading()) is None and two.failures("garbled") == 1
    await asyncio.gather(one.redis.close(), two.redis.close())


async def test_a_list_in_the_place_of_a_result_is_a_miss(redis_server: RedisServer) -> None:
    gateway = shared(redis_server.url)
    key = await key_of(gateway.cache, reading())
    await gateway.redis.client.rpush(key.redis_name, "a result")
    assert await gateway.find(reading()) is None and gateway.failures("refused") == 1
    await gateway.redis.close()


async def test_quota_and_cached_response_are_fetched_in_one_round_trip(
    redis_server: RedisServer,
) -> None:
    async with SlowProxy(redis_server.port) as proxy:
        settings = Settings(
            redis_url=proxy.url,
            redis_timeout_seconds=TIMEOUT,
            cache_bytes=1 << 20,
            cache_secret=SECRET,
            quota_requests=100,
        )
        questions = await asyncio.to_thread(round_trips_of_requests, settings, redis_server, proxy)
        assert questions[1:] == [2, 2]  # the first connects


def round_trips_of_requests(settings: Settings, server: RedisServer, proxy: SlowProxy) -> list[int]:
    """How often Redis is asked for each of three different requests, and their answers stored."""
    questions = []
    with SyncClient.from_url(server.url) as client, open_gateway(settings) as gateway:
        for shade in range(3):
            before = proxy.round_trips
            reply = gateway.post("/v1/predict", crop(shade))
            assert status(reply) == "AffectGAN; fwd=miss" and reply.headers["RateLimit"]
            # The answer is written afterwards, when nobody waits for it.
            until(lambda: len(client.keys("affectgan:cache:*")) > shade)  # noqa: B023
            questions.append(proxy.round_trips - before)
    return questions


# -- over HTTP -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    yield from serve(Settings(cache_bytes=1 << 24))


def crop(shade: int) -> dict[str, Any]:
    picture = encoded(np.full((40, 40, 3), shade, np.uint8))
    return {
        "images": [{"content": base64.b64encode(picture).decode()}],
        "options": {"faces": "none"},
    }


def status(reply: Reply) -> str:
    return reply.headers["Cache-Status"]


def test_the_same_request_is_computed_once(gateway: Gateway) -> None:
    before = len(gateway.backend.predicted)
    first, second = (gateway.post("/v1/predict", crop(1)) for _ in range(2))
    assert (status(first), status(second)) == ("AffectGAN; fwd=miss", "AffectGAN; hit")
    assert (
        first.body == second.body
        and first.headers["ETag"] == second.headers["ETag"]
        and len(gateway.backend.predicted) == before + 1
    )
    again = gateway.post("/v1/predict", crop(1), **{"If-None-Match": first.headers["ETag"]})
    assert (
        again.status == 304 and again.body == b"" and again.headers["ETag"] == first.headers["ETag"]
    )
    assert (
        status(gateway.post("/v1/predict", crop(1), **{"Cache-Control": "no-store"}))
        == "AffectGAN; fwd=bypass"
    )


def test_equal_requests_at_once_are_computed_once(gateway: Gateway) -> None:
    before, gateway.backend.delay_seconds = len(gateway.backend.predicted), 0.5
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: gateway.post("/v1/predict", crop(2)), range(8)))
    gateway.backend.delay_seconds = 0.0
    assert (
        len({reply.body for reply in replies}) == 1 and len(gateway.backend.predicted) == before + 1
    )
    assert {status(reply) for reply in replies} <= {
        "AffectGAN; fwd=miss",
        "AffectGAN; fwd=miss; collapsed",
        "AffectGAN; hit",
    }


def test_a_picture_is_the_same_from_the_cache(gateway: Gateway) -> None:
    body = {"items": [{"aus": {"AU12": 0.5}, "seed": 5}]}
    first, second = (gateway.post("/v1/generate", body, Accept="image/png") for _ in range(2))
    assert (
        status(second) == "AffectGAN; hit"
        and first.body == second.body
        and second.headers["Content-Type"] == "image/png"
    )
    assert second.headers["X-Seed"] == "5"
    assert status(gateway.post("/v1/generate", {"items": [{}]})) == "AffectGAN; fwd=bypass"


def test_json_and_the_picture_itself_have_different_etags(gateway: Gateway) -> None:
    body = {"items": [{"seed": 6}]}
    as_json, as_picture = (
        gateway.post("/v1/generate", body),
        gateway.post("/v1/generate", body, Accept="image/png"),
    )
    assert as_json.headers["ETag"] != as_picture.headers["ETag"]
    assert (
        gateway.post(
            "/v1/generate", body, Accept="image/png", **{"If-None-Match": as_json.headers["ETag"]}
        ).status
        == 200
    )
    assert (
        gateway.post(
            "/v1/generate",
            body,
            Accept="image/png",
            **{"If-None-Match": as_picture.headers["ETag"]},
        ).status
        == 304
    )
