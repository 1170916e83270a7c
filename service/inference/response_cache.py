"""Answers that are known already: in this process, behind it in Redis, or being worked out for somebody else at this moment.

An answer lies under a keyed hash of everything it depends on: who asks, the version's digest, the operation, its options, and the
bytes of the pictures. No picture that was sent is stored, nor can one be looked up without the key. In Redis an answer is encrypted
for its place, so that whatever else lies there is a miss and a counter. See docs/decisions for what is never cached.
"""

import asyncio
import hashlib
import logging
import secrets
import struct
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from cachetools import TTLCache
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from prometheus_client import Counter
from redis.asyncio import Redis as Client

from service.access.authentication import Principal
from service.backend.interface import BackendTimeout
from service.inference.inference_request import InferenceRequest
from service.inference.model_registry import Version
from service.observability.metrics import Metrics
from service.schemas import GenerateBody, PredictBody
from service.settings import Settings
from service.storage.redis import Redis, RedisUnavailable

OVERHEAD_BYTES = 256  # of an entry, beside the answer
SHARED_MOST_BYTES = (
    256 * 1024
)  # of an answer in Redis: taking larger ones in turn would make everybody wait
LOOP_MOST_BYTES = 1 << 20  # that are hashed on the event loop: under a millisecond
GATHER_SECONDS = 0.01  # for which answers are gathered, to be sent to Redis in one go: a call costs more than what it carries
NONCE_BYTES = 12
_EXPIRY = struct.Struct("<d")
Json = dict[str, Any]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CacheKey:
    """Where an answer lies. `own`: it has pictures of a person who was sent, and stays in this process."""

    key: bytes
    operation: str
    own: bool
    form: str = ""  # a media type when the picture itself is asked for: the same answer, but not the same bytes

    @property
    def etag(self) -> str:
        """Weak: the same model gives the same answer, if not always the same last digit."""
        return f'W/"{self.key[:16].hex()}{self.form.replace("/", "-")}"'


@dataclass
class InFlight:
    """An answer that is being worked out, and how many wait for it."""

    task: asyncio.Task[bytes]
    waiting: int = 0


class ResponseCache:
    """The cache of one gateway."""

    def __init__(self, settings: Settings, metrics: Metrics, redis: Redis | None = None) -> None:
        self.seconds, self.most_bytes, self.metrics = (
            settings.cache_seconds,
            settings.cache_bytes,
            metrics,
        )
        secret = (
            settings.cache_secret.get_secret_value().encode()
            if settings.cache_secret
            else secrets.token_bytes(32)
        )
        self._hash_key, self._seal = _derived(secret, b"hash"), AESGCM(_derived(secret, b"seal"))
        self.redis = redis if self.most_bytes and settings.cache_secret else None
        if redis and self.most_bytes and not settings.cache_secret:
            log.warning(
                "answers are not shared through Redis: that needs AFFECTGAN_CACHE_SECRET, the same for all gateways"
            )
        self._known: TTLCache[bytes, bytes] = TTLCache(
            max(1, self.most_bytes), self.seconds, getsizeof=_size
        )
        self._flights: dict[bytes, InFlight] = {}
        self._counters: dict[tuple[str, str], Counter] = {}
        self._unsent: dict[bytes, bytes] = {}
        self._writes: set[asyncio.Task[None]] = set()

    async def key_for(
        self,
        principal: Principal,
        call: InferenceRequest,
        version: Version,
        headers: Mapping[str, str],
        form: str = "",
    ) -> CacheKey | None:
        """Where the answer to a call belongs, told as `form`; None when it belongs nowhere: no seed, or `Cache-Control: no-store`."""
        if (
            not self.most_bytes
            or not is_deterministic(call)
            or "no-store" in headers.get("cache-control", "")
        ):
            return None
        parts = [
            principal.id.encode(),
            str(version).encode(),
            version.digest.encode(),
            call.operation.encode(),
            *contents(call),
        ]
        if sum(map(len, parts)) > LOOP_MOST_BYTES:
            key = await asyncio.to_thread(self._hash, parts)
        else:
            key = self._hash(parts)
        return CacheKey(key, call.operation, own=shows_a_person(call), form=form)

    def get_local(self, place: CacheKey | None) -> bytes | None:
        """The answer as JSON, when this process has it."""
        known: bytes | None = None if place is None else self._known.get(place.key)
        if place is not None and known is not None:
            self._count(place, "hit")
        return known

    def start_fetch(self, place: CacheKey | None) -> asyncio.Future[Any] | None:
        """The question to Redis on its way, for `fetched`; None when there is nothing to ask."""
        if self.redis is None or place is None or place.own or place.key in self._flights:
            return None
        return self.redis.send("GET", _name(place))

    async def finish_fetch(self, place: CacheKey, asked: asyncio.Future[Any]) -> bytes | None:
        """The answer as JSON, when Redis has it."""
        assert self.redis is not None
        known = await self._opened(self.redis, place, asked)
        if known is not None:
            self._count(place, "hit_redis")
            self._remember(place, known)
        return known

    async def get_or_compute(
        self, place: CacheKey | None, work: Callable[[], Awaitable[Json]]
    ) -> tuple[bytes, bool]:
        """The answer as JSON, worked out here or for somebody who asked the same before; and whether it was here.

        The work goes on as long as anybody waits for it. Raises what the work raises, save that the deadline of another is not ours.
        """
        if place is None:
            return orjson.dumps(await work()), True
        while True:
            flight = self._flights.get(place.key)
            first = flight is None
            self._count(place, "miss" if first else "joined")
            if flight is None:
                flight = self._flights[place.key] = InFlight(
                    asyncio.create_task(self._worked(place, work))
                )
                flight.task.add_done_callback(_seen)
            flight.waiting += 1
            try:
                return await asyncio.shield(flight.task), first
            except BackendTimeout:
                if first:
                    raise
            finally:
                flight.waiting -= 1
                if not flight.waiting or flight.task.done():
                    flight.task.cancel()
                    if self._flights.get(place.key) is flight:
                        del self._flights[place.key]

    async def close(self) -> None:
        """Wait for what is being written."""
        await asyncio.gather(*self._writes)

    async def _worked(self, place: CacheKey, work: Callable[[], Awaitable[Json]]) -> bytes:
        value = await work()
        answer = orjson.dumps(value)
        if is_cacheable(value):
            self._remember(place, answer)
            if self.redis is not None and not place.own and len(answer) <= SHARED_MOST_BYTES:
                self._send(self.redis, place, answer)
        return answer

    def _remember(self, place: CacheKey, answer: bytes) -> None:
        if _size(answer) <= self.most_bytes // 8:
            self._known[place.key] = answer
            self.metrics.cache_bytes.set(self._known.currsize)

    # -- Redis ---------------------------------------------------------------------------------------------------

    async def _opened(
        self, redis: Redis, place: CacheKey, asked: asyncio.Future[Any]
    ) -> bytes | None:
        try:
            sealed = await redis.receive("cache", asked)
        except RedisUnavailable:
            return None
        if sealed is None:
            return None
        try:
            if not isinstance(sealed, bytes):
                raise TypeError("Redis answered GET with something else than bytes")
            opened = self._seal.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], place.key)
            (expires,) = _EXPIRY.unpack_from(opened)
        except (InvalidTag, ValueError, TypeError, struct.error):
            redis.failed("cache", "garbled")
            return None
        return opened[_EXPIRY.size :] if expires > time.time() else None

    def _send(self, redis: Redis, place: CacheKey, answer: bytes) -> None:
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = nonce + self._seal.encrypt(
            nonce, _EXPIRY.pack(time.time() + self.seconds) + answer, place.key
        )
        if not self._unsent:
            writing = asyncio.create_task(self._write(redis))
            self._writes.add(writing)
            writing.add_done_callback(self._writes.discard)
        self._unsent[_name(place)] = sealed

    async def _write(self, redis: Redis) -> None:
        await asyncio.sleep(GATHER_SECONDS)
        unsent, self._unsent = self._unsent, {}

        async def command(client: Client) -> None:
            async with client.pipeline(transaction=False) as pipeline:
                for name, sealed in unsent.items():
                    pipeline.set(name, sealed, px=int(self.seconds * 1000))
                await pipeline.execute()

        try:
            await redis.execute("cache", command)
        except RedisUnavailable:
            return  # counted

    def _hash(self, parts: list[bytes]) -> bytes:
        lengths = struct.pack(
            f"<{len(parts)}Q", *map(len, parts)
        )  # so that no two lists of parts read the same
        hashed = hashlib.blake2b(lengths, key=self._hash_key, digest_size=32)
        hashed.update(b"".join(parts))
        return hashed.digest()

    def _count(self, place: CacheKey, outcome: str) -> None:
        if (
            place.operation,
            outcome,
        ) not in self._counters:  # finding a labelled counter costs more than counting
            self._counters[place.operation, outcome] = self.metrics.cache.labels(
                place.operation, outcome
            )
        self._counters[place.operation, outcome].inc()


def is_deterministic(call: InferenceRequest) -> bool:
    """Whether the same call gives the same answer: a face that is drawn without a seed is another one each time."""
    return not isinstance(call.body, GenerateBody) or all(
        item.seed is not None for item in call.body.items
    )


def shows_a_person(call: InferenceRequest) -> bool:
    """Whether its answer has pictures made from pictures that were sent."""
    if isinstance(call.body, GenerateBody):
        return any(item.reference is not None for item in call.body.items)
    return not isinstance(call.body, PredictBody)


def is_cacheable(value: Json) -> bool:
    """Whether asking again would say the same: every row has an answer, or a fault of the picture's own."""
    return all(
        result["status"] == "ok" or result["error"]["status"] < 500 for result in value["results"]
    )


def contents(call: InferenceRequest) -> Iterator[bytes]:
    """What a call asks, in one spelling: options, then pictures, in order. The choice of a version is left out: the version is known."""
    body = call.body
    if not isinstance(body, GenerateBody):
        yield body.options.model_dump_json(exclude={"model", "version"}).encode()
        for image in body.images:
            yield image.content
        return
    yield f"{body.format} {body.faces}".encode()
    for item in body.items:
        yield orjson.dumps(item.model_dump(exclude={"reference"}), option=orjson.OPT_SORT_KEYS)
        yield b"" if item.reference is None else b"+" + item.reference.content


def matches(etag: str, header: str | None) -> bool:
    """Whether If-None-Match names this answer (weak comparison)."""
    return header is not None and etag.removeprefix("W/") in {
        given.strip().removeprefix("W/") for given in header.split(",")
    }


def _derived(secret: bytes, purpose: bytes) -> bytes:
    return hashlib.blake2b(secret, digest_size=32, person=purpose).digest()


def _name(place: CacheKey) -> bytes:
    return b"affectgan:cache:" + place.key.hex().encode()


def _size(answer: bytes) -> int:
    return len(answer) + OVERHEAD_BYTES


def _seen(task: asyncio.Task[bytes]) -> None:
    if not task.cancelled():
        task.exception()  # whoever waited has it; when nobody did, nobody wants it
