"""Known answers: what is one, what is not, whom they are for, and a real Redis through all its faults."""

import asyncio
import base64
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from affect.card import ModelCard
from service import schemas
from service.access.authentication import Principal
from service.backend.interface import BackendTimeout
from service.inference.inference_request import InferenceRequest
from service.inference.model_registry import Version
from service.inference.response_cache import CacheKey, ResponseCache, matches
from service.observability.metrics import Metrics
from service.settings import Settings
from service.storage.redis import REST_SECONDS, Redis
from tests.support.gateway import Gateway, Reply, serve
from tests.support.pictures import encoded
from tests.support.redis_server import RedisServer, SlowLine
from tests.support.tiny import tiny_card

ANN, BOB = (Principal(name, frozenset({"predict"})) for name in ("ann", "bob"))
SECRET = "of all gateways of this test"
WAIT = 2.0
ANSWER = {"results": [{"status": "ok", "faces": []}]}


def version(digest: str = "d") -> Version:
    card: ModelCard = tiny_card()
    return Version(card, digest, None, None)  # type: ignore[arg-type]


def reading(picture: bytes = b"picture", **options: Any) -> InferenceRequest:
    image = schemas.ImageContent.model_construct(content=picture)
    return InferenceRequest(
        "predict",
        schemas.PredictBody.model_construct(
            images=[image], options=schemas.PredictOptions(**options)
        ),
    )


def drawing(*items: dict[str, Any], **body: Any) -> InferenceRequest:
    return InferenceRequest(
        "generate", schemas.GenerateBody.model_validate({"items": list(items), **body})
    )


@dataclass
class Work:
    """Counts how often it is done."""

    answer: dict[str, Any] = field(default_factory=lambda: ANSWER)
    seconds: float = 0.0
    done: int = 0

    async def __call__(self) -> dict[str, Any]:
        self.done += 1
        await asyncio.sleep(self.seconds)
        return self.answer


async def place_of(
    cache: ResponseCache,
    call: InferenceRequest,
    caller: Principal = ANN,
    digest: str = "d",
    **headers: str,
) -> CacheKey:
    place = await cache.key_for(caller, call, version(digest), headers)
    assert place is not None
    return place


async def find(cache: ResponseCache, place: CacheKey) -> bytes | None:
    known = cache.get_local(place)
    asked = cache.start_fetch(place) if known is None else None
    return await cache.finish_fetch(place, asked) if asked is not None else known


def local() -> ResponseCache:
    return ResponseCache(Settings(cache_bytes=1 << 20), Metrics())


async def test_an_answer_is_known_until_its_time_is_over() -> None:
    cache, work = ResponseCache(Settings(cache_bytes=1 << 20, cache_seconds=0.3), Metrics()), Work()
    place = await place_of(cache, reading())
    assert await find(cache, place) is None
    answer, here = await cache.get_or_compute(place, work)
    assert here and await find(cache, place) == answer and work.done == 1
    await asyncio.sleep(0.4)
    assert await find(cache, place) is None


async def test_a_place_is_the_question_the_model_and_who_asks() -> None:
    cache = local()
    different = [
        await place_of(cache, reading()),
        await place_of(cache, reading(b"another")),
        await place_of(cache, reading(faces="all")),
        await place_of(cache, reading(), BOB),
        await place_of(cache, reading(), digest="e"),
        await place_of(cache, drawing({"seed": 1})),
        await place_of(cache, drawing({"seed": 2})),
        await place_of(cache, drawing({"seed": 1}, format="jpeg")),
        await place_of(cache, drawing({"seed": 1, "reference": {"content": ""}})),
        await place_of(local(), reading()),
    ]
    assert len({place.key for place in different}) == len(different)
    same = [
        drawing({"seed": 1, "aus": {"AU1": 0.5, "AU2": 1}}),
        drawing({"aus": {"AU2": 1.0, "AU1": 0.50}, "seed": 1}, version="1.0"),
    ]
    assert len({(await place_of(cache, call)).key for call in same}) == 1


async def test_what_would_be_another_answer_has_no_place() -> None:
    cache = local()
    assert await cache.key_for(ANN, drawing({"seed": 1}, {}), version(), {}) is None
    assert await cache.key_for(ANN, reading(), version(), {"cache-control": "no-store"}) is None
    assert (
        await ResponseCache(Settings(cache_bytes=0), Metrics()).key_for(
            ANN, reading(), version(), {}
        )
        is None
    )


async def test_a_fault_of_ours_is_not_kept_and_one_of_the_picture_is() -> None:
    cache = local()
    for status, kept in ((503, False), (422, True)):
        place = await place_of(cache, reading(str(status).encode()))
        await cache.get_or_compute(
            place, Work({"results": [{"status": "error", "error": {"status": status}}]})
        )
        assert (await find(cache, place) is not None) == kept


async def test_memory_is_bounded_and_the_least_used_goes_first() -> None:
    cache = ResponseCache(Settings(cache_bytes=20_000), Metrics())
    places = [await place_of(cache, reading(bytes([number]))) for number in range(20)]
    for place in places:
        await cache.get_or_compute(place, Work({"results": [], "more": "x" * 1500}))
        assert await find(cache, places[0]) is not None
    assert cache._known.currsize <= 20_000 and await find(cache, places[1]) is None
    await cache.get_or_compute(places[2], Work({"results": [], "more": "x" * 9000}))
    assert await find(cache, places[2]) is None and await find(cache, places[0]) is not None


async def test_identical_requests_under_way_are_one() -> None:
    cache, work = local(), Work(seconds=0.05)
    place = await place_of(cache, reading())
    answers = await asyncio.gather(*(cache.get_or_compute(place, work) for _ in range(20)))
    assert (
        work.done == 1
        and [here for _, here in answers].count(True) == 1
        and len({answer for answer, _ in answers}) == 1
    )


async def test_who_asked_first_may_leave_and_the_last_one_ends_the_work() -> None:
    cache, work = local(), Work(seconds=0.2)
    place = await place_of(cache, reading())
    first, second = (asyncio.create_task(cache.get_or_compute(place, work)) for _ in range(2))
    await asyncio.sleep(0.05)
    first.cancel()
    assert (await second)[0] and work.done == 1
    alone = asyncio.create_task(
        cache.get_or_compute(await place_of(cache, reading(b"other")), Work(seconds=60))
    )
    await asyncio.sleep(0.05)
    (flight,) = cache._flights.values()
    alone.cancel()
    await asyncio.wait([alone, flight.task], timeout=5)
    assert flight.task.cancelled() and not cache._flights


async def test_the_deadline_of_the_first_is_not_that_of_the_others() -> None:
    async def too_late() -> dict[str, Any]:
        await asyncio.sleep(0.05)
        raise BackendTimeout("predict")

    cache, place = local(), await place_of(local(), reading())
    first = asyncio.create_task(cache.get_or_compute(place, too_late))
    await asyncio.sleep(0.01)
    second = asyncio.create_task(cache.get_or_compute(place, Work()))
    with pytest.raises(BackendTimeout):
        await first
    assert (await second)[1]


def test_an_etag_matches_as_http_says() -> None:
    assert matches('W/"a"', 'W/"b", "a"') and matches('W/"a"', 'W/"a"')
    assert not matches('W/"a"', '"b"') and not matches('W/"a"', None) and not matches('W/"a"', "*")


# -- Redis -------------------------------------------------------------------------------------------------------


@dataclass
class Shared:
    """A gateway's cache behind Redis, with a clock to end its rest."""

    cache: ResponseCache
    redis: Redis
    metrics: Metrics
    now: list[float]

    def failures(self, reason: str) -> float:
        return (
            self.metrics.registry.get_sample_value(
                "affectgan_redis_failures_total", {"purpose": "cache", "reason": reason}
            )
            or 0.0
        )


def shared(url: str, secret: str = SECRET) -> Shared:
    metrics, now = Metrics(), [0.0]
    redis = Redis(url, metrics, timeout_seconds=WAIT, clock=lambda: now[0])
    return Shared(
        ResponseCache(Settings(cache_bytes=1 << 20, cache_secret=secret), metrics, redis),
        redis,
        metrics,
        now,
    )


async def kept(here: Shared, call: InferenceRequest) -> bytes:
    answer, _ = await here.cache.get_or_compute(await place_of(here.cache, call), Work())
    await here.cache.close()
    return answer


async def found(there: Shared, call: InferenceRequest) -> bytes | None:
    return await find(there.cache, await place_of(there.cache, call))


async def test_gateways_with_the_same_secret_share_answers(redis_server: RedisServer) -> None:
    one, two, stranger = (
        shared(redis_server.url),
        shared(redis_server.url),
        shared(redis_server.url, "a different secret"),
    )
    answer = await kept(one, reading())
    assert await found(two, reading()) == answer and await found(stranger, reading()) is None
    await asyncio.gather(*(each.redis.close() for each in (one, two, stranger)))


async def test_redis_sees_neither_pictures_nor_readings_and_forgets(
    redis_server: RedisServer,
) -> None:
    here = shared(redis_server.url)
    await here.cache.get_or_compute(
        await place_of(here.cache, reading(b"the picture")),
        Work({"results": [], "model": "readable"}),
    )
    await here.cache.close()
    (name,) = await here.redis.client.keys("*")
    value = await here.redis.client.get(name)
    assert (
        b"picture" not in name + value
        and b"readable" not in value
        and 0 < await here.redis.client.pttl(name) <= 600_000
    )
    await here.redis.close()


@pytest.mark.parametrize("kind", ["explain", "reference"])
async def test_pictures_of_a_person_stay_in_the_process(
    redis_server: RedisServer, kind: str
) -> None:
    here = shared(redis_server.url)
    asked = reading().body
    assert isinstance(asked, schemas.PredictBody)
    explaining = schemas.ExplainBody.model_construct(
        images=asked.images, options=schemas.ExplainOptions()
    )
    call = (
        InferenceRequest("explain", explaining)
        if kind == "explain"
        else drawing({"seed": 1, "reference": {"content": "YWJj"}})
    )
    assert await found(here, call) is None
    assert await kept(here, call) == await found(here, call)
    assert await here.redis.client.dbsize() == 0
    await here.redis.close()


@pytest.mark.parametrize("fault", ["gone", "slow", "full"])
async def test_a_redis_at_fault_is_a_miss_and_a_counter_and_heals(
    redis_server: RedisServer, fault: str
) -> None:
    one, two = shared(redis_server.url), shared(redis_server.url)
    answer = await kept(one, reading())
    if fault == "gone":
        redis_server.kill()
    elif fault == "slow":
        one.redis.timeout_seconds = two.redis.timeout_seconds = 0.1
        redis_server.freeze()
    else:
        await one.redis.client.config_set("maxmemory", "1")
    assert await found(one, reading(b"unheard of")) is None
    reads = await found(two, reading())
    assert reads == (answer if fault == "full" else None)  # a full one goes on reading
    assert await kept(two, reading(b"new")) and two.failures(fault) == 1
    redis_server.thaw()
    if fault == "gone":
        redis_server.start()
    elif fault == "full":
        await one.redis.client.config_set("maxmemory", "0")
    for each in (one, two):
        each.redis.timeout_seconds = WAIT
        each.now[0] += REST_SECONDS + 0.1
    assert await kept(two, reading(b"newer")) == await found(one, reading(b"newer"))
    await asyncio.gather(one.redis.close(), two.redis.close())


@pytest.mark.parametrize("lie", ["nothing", "garbage", "changed", "moved", "a list"])
async def test_a_lying_redis_is_a_miss_and_a_counter(redis_server: RedisServer, lie: str) -> None:
    one, two = shared(redis_server.url), shared(redis_server.url)
    await kept(one, reading())
    (name,) = await one.redis.client.keys("*")
    value = await one.redis.client.get(name)
    await kept(one, reading(b"other"))
    (other,) = set(await one.redis.client.keys("*")) - {name}
    lies = {
        "nothing": b"",
        "garbage": os.urandom(500),
        "changed": value[:-1] + bytes([value[-1] ^ 1]),
    }
    if lie == "a list":
        await one.redis.client.delete(name)
        await one.redis.client.rpush(name, value)
    else:
        await one.redis.client.set(
            name, lies.get(lie) or (await one.redis.client.get(other) if lie == "moved" else b"")
        )
    assert await found(two, reading()) is None
    assert two.failures("refused" if lie == "a list" else "garbled") == 1
    await asyncio.gather(one.redis.close(), two.redis.close())


async def test_quota_and_answer_are_asked_in_one_go(redis_server: RedisServer) -> None:
    async with SlowLine(redis_server.port) as line:
        settings = Settings(
            redis_url=line.url,
            redis_timeout_seconds=WAIT,
            cache_bytes=1 << 20,
            cache_secret=SECRET,
            quota_requests=100,
        )
        running = serve(settings)
        gateway = await asyncio.to_thread(next, running)
        asked = []
        for shade in range(3):
            before = line.asked
            reply = await asyncio.to_thread(gateway.post, "/v1/predict", crop(shade))
            assert status(reply) == "AffectGAN; fwd=miss" and "r=" in reply.headers["RateLimit"]
            await asyncio.sleep(0.2)  # the answer is written afterwards, when nobody waits for it
            asked.append(line.asked - before)
        assert asked[1:] == [2, 2]  # the first connects
        await asyncio.to_thread(running.close)


# -- over HTTP ---------------------------------------------------------------------------------------------------


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


def test_the_same_question_is_answered_once(gateway: Gateway) -> None:
    before = len(gateway.backend.asked)
    first, second = (gateway.post("/v1/predict", crop(1)) for _ in range(2))
    assert (status(first), status(second)) == ("AffectGAN; fwd=miss", "AffectGAN; hit")
    assert (
        first.body == second.body
        and first.headers["ETag"] == second.headers["ETag"]
        and len(gateway.backend.asked) == before + 1
    )
    again = gateway.post("/v1/predict", crop(1), **{"If-None-Match": first.headers["ETag"]})
    assert (
        again.status == 304 and again.body == b"" and again.headers["ETag"] == first.headers["ETag"]
    )
    assert (
        status(gateway.post("/v1/predict", crop(1), **{"Cache-Control": "no-store"}))
        == "AffectGAN; fwd=bypass"
    )


def test_many_who_ask_the_same_at_once_cost_one_job(gateway: Gateway) -> None:
    before, gateway.backend.delay_seconds = len(gateway.backend.asked), 0.5
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: gateway.post("/v1/predict", crop(2)), range(8)))
    gateway.backend.delay_seconds = 0.0
    assert len({reply.body for reply in replies}) == 1 and len(gateway.backend.asked) == before + 1
    assert {status(reply) for reply in replies} <= {
        "AffectGAN; fwd=miss",
        "AffectGAN; fwd=miss; collapsed",
        "AffectGAN; hit",
    }


def test_a_picture_is_the_same_from_the_cache(gateway: Gateway) -> None:
    wanted = {"items": [{"aus": {"AU12": 0.5}, "seed": 5}]}
    first, second = (gateway.post("/v1/generate", wanted, Accept="image/png") for _ in range(2))
    assert (
        status(second) == "AffectGAN; hit"
        and first.body == second.body
        and second.headers["Content-Type"] == "image/png"
    )
    assert second.headers["X-Seed"] == "5"
    assert status(gateway.post("/v1/generate", {"items": [{}]})) == "AffectGAN; fwd=bypass"


def test_json_and_the_picture_itself_have_different_etags(gateway: Gateway) -> None:
    wanted = {"items": [{"seed": 6}]}
    told, drawn = (
        gateway.post("/v1/generate", wanted),
        gateway.post("/v1/generate", wanted, Accept="image/png"),
    )
    assert told.headers["ETag"] != drawn.headers["ETag"]
    assert (
        gateway.post(
            "/v1/generate", wanted, Accept="image/png", **{"If-None-Match": told.headers["ETag"]}
        ).status
        == 200
    )
    assert (
        gateway.post(
            "/v1/generate", wanted, Accept="image/png", **{"If-None-Match": drawn.headers["ETag"]}
        ).status
        == 304
    )
