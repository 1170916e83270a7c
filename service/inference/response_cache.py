"""The cache of results: in this process, behind it in Redis, and requests in flight that are
shared. A result is stored under a keyed hash of everything it depends on: who asks, the version's
digest, the operation, its options, and the bytes of the pictures. No picture that was sent is
stored, nor can one be looked up without the key. In Redis a result is encrypted for its key, so
that foreign or altered content counts as a miss. docs/decisions/0011-known-answers.md says what is
never cached.
"""

import asyncio
import logging
import struct
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from cachetools import TTLCache
from prometheus_client import Counter
from redis.asyncio import Redis as Client

from affect.archive import Operation
from affect.card import ModelCard
from service.access.authentication import Principal
from service.backend.interface import BackendTimeout
from service.inference.inference_request import InferenceRequest
from service.inference.model_registry import Version
from service.inference.result_codec import result_from_bytes, result_to_bytes
from service.inference.results import InferenceResult
from service.observability.metrics import Metrics
from service.schemas import GenerateBody, PredictBody
from service.settings import Settings
from service.storage.encryption import Cipher, DecryptionError
from service.storage.redis import Redis, RedisUnavailable

FORMAT = b"2"  # of the entries in Redis; gateways with another format use other names
SHARED_MOST_BYTES = 256 * 1024  # of a result in Redis: larger ones would delay every other command
LOOP_MOST_BYTES = 1 << 20  # that are hashed on the event loop: under a millisecond
GATHER_SECONDS = 0.01  # for which results are gathered, to be sent to Redis in one go
_EXPIRY = struct.Struct("<d")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CacheKey:
    """The key of a result. `private`: it has pictures of a person who was sent, and stays in this
    process. `representation` is the form that the client requests: the same result, but not the
    same bytes.
    """

    digest: bytes
    operation: Operation
    card: ModelCard
    private: bool
    representation: str = ""

    @property
    def etag(self) -> str:
        """Weak: the same model gives the same answer, if not always the same last digit."""
        return f'W/"{self.digest[:16].hex()}{self.representation.replace("/", "-")}"'

    @property
    def redis_name(self) -> str:
        """Its name in Redis."""
        return f"affectgan:cache:{self.digest.hex()}"


@dataclass
class InFlight:
    """A result that is being computed, and how many wait for it."""

    task: asyncio.Task[InferenceResult]
    waiting: int = 0


class ResponseCache:
    """The cache of one gateway."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        redis: Redis | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.seconds, self.most_bytes = settings.cache_seconds, settings.cache_bytes
        self.metrics = metrics
        secret = settings.cache_secret
        self._cipher = (
            Cipher.from_secret(secret.get_secret_value()) if secret else Cipher.with_random_key()
        )
        self._redis = redis if self.most_bytes and secret else None
        if redis and self.most_bytes and not secret:
            log.warning(
                "answers are not shared through Redis: that needs AFFECTGAN_CACHE_SECRET, "
                "the same for all gateways"
            )
        self._local: TTLCache[bytes, InferenceResult] = TTLCache(
            max(1, self.most_bytes),
            self.seconds,
            timer=clock,
            getsizeof=lambda result: result.size_bytes,
        )
        metrics.cache_bytes.set_function(lambda: self._local.currsize)
        self._in_flight: dict[bytes, InFlight] = {}
        self._counters: dict[tuple[str, str], Counter] = {}
        self._unsent: dict[str, bytes] = {}
        self._writes: set[asyncio.Task[None]] = set()

    async def key_for(
        self,
        request: InferenceRequest,
        version: Version,
        *,
        principal: Principal,
        headers: Mapping[str, str],
        representation: str = "",
    ) -> CacheKey | None:
        """The key of a request's result; None when it must not be cached: no seed, or
        `Cache-Control: no-store`.
        """
        no_store = "no-store" in headers.get("cache-control", "")
        if not self.most_bytes or not is_deterministic(request) or no_store:
            return None
        parts = [
            FORMAT,
            principal.id.encode(),
            str(version).encode(),
            version.digest.encode(),
            request.operation.encode(),
            *_contents(request),
        ]
        if sum(map(len, parts)) > LOOP_MOST_BYTES:
            digest = await asyncio.to_thread(self._cipher.keyed_hash, *parts)
        else:
            digest = self._cipher.keyed_hash(*parts)
        private = has_persons_pictures(request)
        return CacheKey(digest, request.operation, version.card, private, representation)

    def get_local(self, key: CacheKey) -> InferenceResult | None:
        """The result, when this process has it."""
        result: InferenceResult | None = self._local.get(key.digest)
        if result is not None:
            self._count(key, "hit")
        return result

    def start_fetch(self, key: CacheKey) -> asyncio.Future[Any] | None:
        """The pending read from Redis, for `finish_fetch`; None when there is nothing to read."""
        if self._redis is None or key.private or key.digest in self._in_flight:
            return None
        return self._redis.send("GET", key.redis_name)

    async def finish_fetch(
        self, key: CacheKey, fetch: asyncio.Future[Any]
    ) -> InferenceResult | None:
        """The result, when Redis has it."""
        assert self._redis is not None
        try:
            stored = await self._redis.receive("cache", fetch)
            result = None if stored is None else self._opened(self._redis, key, stored)
        except RedisUnavailable:
            return None  # counted
        if result is not None:
            self._count(key, "hit_redis")
            self._remember(key, result)
        return result

    async def get_or_compute(
        self, key: CacheKey | None, compute: Callable[[], Awaitable[InferenceResult]]
    ) -> tuple[InferenceResult, bool]:
        """The result, computed here or shared with an identical request in flight; and whether it
        was computed here. The work goes on as long as any request waits for it. Raises what the
        work raises, except the deadline of another request.
        """
        if key is None:
            return await compute(), True
        while True:
            in_flight, first = self._join(key, compute)
            try:
                return await asyncio.shield(in_flight.task), first
            except BackendTimeout:
                if first:
                    raise
            finally:
                self._leave(key, in_flight)

    async def close(self) -> None:
        """Wait for pending writes."""
        await asyncio.gather(*self._writes)

    # -- in flight ---------------------------------------------------------------------------------

    def _join(
        self, key: CacheKey, compute: Callable[[], Awaitable[InferenceResult]]
    ) -> tuple[InFlight, bool]:
        in_flight = self._in_flight.get(key.digest)
        first = in_flight is None
        self._count(key, "miss" if first else "joined")
        if in_flight is None:
            task = asyncio.create_task(self._compute(key, compute))
            task.add_done_callback(_retrieve_exception)
            in_flight = self._in_flight[key.digest] = InFlight(task)
        in_flight.waiting += 1
        return in_flight, first

    def _leave(self, key: CacheKey, in_flight: InFlight) -> None:
        in_flight.waiting -= 1
        if not in_flight.waiting or in_flight.task.done():
            in_flight.task.cancel()
            if self._in_flight.get(key.digest) is in_flight:
                del self._in_flight[key.digest]

    async def _compute(
        self, key: CacheKey, compute: Callable[[], Awaitable[InferenceResult]]
    ) -> InferenceResult:
        result = await compute()
        if result.is_cacheable:
            self._remember(key, result)
            if self._redis is not None and not key.private:
                self._share(self._redis, key, result)
        return result

    def _remember(self, key: CacheKey, result: InferenceResult) -> None:
        if result.size_bytes <= self.most_bytes // 8:
            self._local[key.digest] = result

    # -- Redis -------------------------------------------------------------------------------------

    def _opened(self, redis: Redis, key: CacheKey, stored: Any) -> InferenceResult | None:
        """The result in Redis, while it is fresh. Raises RedisUnavailable for a bad entry."""
        try:
            if not isinstance(stored, bytes):
                raise TypeError("Redis answered GET with something else than bytes")
            content = self._cipher.decrypt(stored, key.redis_name)
            (expires,) = _EXPIRY.unpack_from(content)
            if expires <= time.time():
                return None
            return result_from_bytes(key.operation, content[_EXPIRY.size :], key.card)
        except (DecryptionError, ValueError, TypeError, struct.error):
            raise redis.failed("cache", "garbled") from None

    def _share(self, redis: Redis, key: CacheKey, result: InferenceResult) -> None:
        content = result_to_bytes(result)
        if len(content) > SHARED_MOST_BYTES:
            return
        content = _EXPIRY.pack(time.time() + self.seconds) + content
        if not self._unsent:
            write = asyncio.create_task(self._write(redis))
            self._writes.add(write)
            write.add_done_callback(self._writes.discard)
        self._unsent[key.redis_name] = self._cipher.encrypt(content, key.redis_name)

    async def _write(self, redis: Redis) -> None:
        await asyncio.sleep(GATHER_SECONDS)  # many small writes are sent as one
        unsent, self._unsent = self._unsent, {}

        async def command(client: Client) -> None:
            async with client.pipeline(transaction=False) as pipeline:
                for name, content in unsent.items():
                    pipeline.set(name, content, px=int(self.seconds * 1000))
                await pipeline.execute()

        try:
            await redis.execute("cache", command)
        except RedisUnavailable:
            return  # counted

    def _count(self, key: CacheKey, outcome: str) -> None:
        counter = self._counters.get((key.operation, outcome))
        if counter is None:  # finding a labelled counter costs more than counting
            counter = self.metrics.cache.labels(key.operation, outcome)
            self._counters[key.operation, outcome] = counter
        counter.inc()


def is_deterministic(request: InferenceRequest) -> bool:
    """Whether the same request gives the same result: a face drawn without a seed is another one
    each time.
    """
    body = request.body
    return not isinstance(body, GenerateBody) or all(item.seed is not None for item in body.items)


def has_persons_pictures(request: InferenceRequest) -> bool:
    """Whether its result has pictures made from pictures that were sent."""
    if isinstance(request.body, GenerateBody):
        return any(item.reference is not None for item in request.body.items)
    return not isinstance(request.body, PredictBody)


def etag_matches(etag: str, header: str | None) -> bool:
    """Whether If-None-Match names this answer (weak comparison)."""
    return header is not None and etag.removeprefix("W/") in {
        tag.strip().removeprefix("W/") for tag in header.split(",")
    }


def _contents(request: InferenceRequest) -> Iterator[bytes]:
    """The request in canonical form: options, then pictures, in order. The choice of a version is
    left out: the version's digest is part of the key.
    """
    body = request.body
    if not isinstance(body, GenerateBody):
        yield body.options.model_dump_json(exclude={"model", "version"}).encode()
        for image in body.images:
            yield image.content
        return
    yield f"{body.format} {body.which_faces}".encode()
    for item in body.items:
        yield orjson.dumps(item.model_dump(exclude={"reference"}), option=orjson.OPT_SORT_KEYS)
        yield b"" if item.reference is None else b"+" + item.reference.content


def _retrieve_exception(task: asyncio.Task[InferenceResult]) -> None:
    if not task.cancelled():
        task.exception()  # waiting requests have it; without any it is not needed
