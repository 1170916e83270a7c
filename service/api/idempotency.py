"""`Idempotency-Key` (IETF draft-ietf-httpapi-idempotency-key-header): a POST that is sent again is answered with the first answer.

A key counts for one caller and one route. The same key with another request is refused with 422, one whose first request still runs
with 409. What failed is not kept, so it may be tried again. Where nothing can be remembered, because Redis is away, the request is
done like any other: inference changes nothing, so twice is only slower.
"""

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Protocol

from fastapi import Request
from redis.asyncio import Redis as Client
from starlette.responses import Response

from service.inference.inference_request import InferenceRequest
from service.observability.metrics import Metrics
from service.problems import Problem
from service.storage.encryption import Cipher, DecryptionError
from service.storage.redis import Redis, RedisUnavailable
from service.storage.stored_response import StoredResponse

HEADER, REPLAYED = "Idempotency-Key", "Idempotency-Replayed"
LONGEST_KEY = 255
MOST_KEPT_BYTES = 16 * 2**20  # a larger answer is computed again
RUNNING = b""


class IdempotencyStore(Protocol):
    """Remembers, under a name, a fingerprint and then an answer."""

    async def claim(
        self, name: bytes, fingerprint: bytes, token: bytes, seconds: float
    ) -> tuple[bytes, bytes] | None:
        """None: the name is ours for so long. Otherwise the fingerprint and answer it has, RUNNING while there is none.

        This and the others may raise RedisUnavailable.
        """
        ...

    async def keep(
        self, name: bytes, fingerprint: bytes, token: bytes, answer: bytes, seconds: float
    ) -> None:
        """The answer, if the name is still ours."""
        ...

    async def release(self, name: bytes, token: bytes) -> None:
        """Nothing came of it."""
        ...


class MemoryIdempotencyStore:
    """In this process: the oldest answers go first when they hold more than `most_bytes` together."""

    def __init__(self, *, most_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.most_bytes, self._clock = most_bytes, clock
        self._known: OrderedDict[bytes, tuple[bytes, bytes, bytes, float]] = (
            OrderedDict()
        )  # fingerprint, answer, token, until
        self._bytes = 0

    async def claim(
        self, name: bytes, fingerprint: bytes, token: bytes, seconds: float
    ) -> tuple[bytes, bytes] | None:
        known = self._known.get(name)
        if known is not None and known[3] > self._clock():
            return known[0], known[1]
        self._put(name, fingerprint, RUNNING, token, seconds)
        return None

    async def keep(
        self, name: bytes, fingerprint: bytes, token: bytes, answer: bytes, seconds: float
    ) -> None:
        if name in self._known and self._known[name][2] == token:
            self._put(name, fingerprint, answer, token, seconds)

    async def release(self, name: bytes, token: bytes) -> None:
        if name in self._known and self._known[name][2] == token:
            self._forget(name)

    def _put(
        self, name: bytes, fingerprint: bytes, answer: bytes, token: bytes, seconds: float
    ) -> None:
        self._forget(name)
        self._known[name] = fingerprint, answer, token, self._clock() + seconds
        self._bytes += len(answer) + 256
        now = self._clock()
        while self._known and (
            self._bytes > self.most_bytes or next(iter(self._known.values()))[3] <= now
        ):
            self._forget(next(iter(self._known)))

    def _forget(self, name: bytes) -> None:
        if (known := self._known.pop(name, None)) is not None:
            self._bytes -= len(known[1]) + 256


_KEEP = (
    "if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end redis.call('HSET', KEYS[1], 'answer', ARGV[2]) \
return redis.call('PEXPIRE', KEYS[1], ARGV[3])"
)
_RELEASE = "if redis.call('HGET', KEYS[1], 'token') == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
_CLAIM = "if redis.call('HSETNX', KEYS[1], 'token', ARGV[1]) == 0 then return redis.call('HMGET', KEYS[1], 'fingerprint', 'answer') end \
redis.call('HSET', KEYS[1], 'fingerprint', ARGV[2], 'answer', '') redis.call('PEXPIRE', KEYS[1], ARGV[3]) return false"


class RedisIdempotencyStore:
    """In Redis, for all gateways, the answers sealed."""

    def __init__(self, redis: Redis, cipher: Cipher) -> None:
        self.redis, self.cipher = redis, cipher

    async def claim(
        self, name: bytes, fingerprint: bytes, token: bytes, seconds: float
    ) -> tuple[bytes, bytes] | None:
        known = await self._run(_CLAIM, name, token, fingerprint, int(seconds * 1000))
        if not isinstance(known, list):
            return None
        printed, sealed = known
        try:
            return printed, (
                await asyncio.to_thread(self.cipher.decrypt, sealed, name.hex())
                if sealed
                else RUNNING
            )
        except DecryptionError:
            raise self.redis.failed(
                "idempotency", "garbled"
            ) from None  # the gateways do not have the same key

    async def keep(
        self, name: bytes, fingerprint: bytes, token: bytes, answer: bytes, seconds: float
    ) -> None:
        sealed = await asyncio.to_thread(self.cipher.encrypt, answer, name.hex())
        await self._run(_KEEP, name, token, sealed, int(seconds * 1000))

    async def release(self, name: bytes, token: bytes) -> None:
        await self._run(_RELEASE, name, token)

    async def _run(self, script: str, name: bytes, *arguments: bytes | int) -> object:
        key = f"affectgan:idempotency:{name.hex()}"

        async def command(client: Client) -> object:
            return await client.register_script(script)(keys=[key], args=arguments)

        return await self.redis.execute("idempotency", command)


class Idempotency:
    """Does a request once. `running_seconds` is how long a gateway that died blocks a key."""

    def __init__(
        self,
        memory: IdempotencyStore,
        cipher: Cipher,
        metrics: Metrics,
        *,
        seconds: float,
        running_seconds: float,
    ) -> None:
        self.memory, self.cipher, self.metrics = memory, cipher, metrics
        self.seconds, self.running_seconds = seconds, running_seconds

    async def once(
        self,
        request: Request,
        call: InferenceRequest,
        owner: str,
        work: Callable[[], Awaitable[Response]],
    ) -> Response:
        """The response of `work`, or the kept one of the same request. Raises Problem: 400, 409, 422."""
        key = request.headers.get(HEADER)
        if key is None:
            return await work()
        name = self.cipher.keyed_hash(
            owner.encode(), request.url.path.encode(), parse_idempotency_key(key).encode()
        )
        fingerprint = await asyncio.to_thread(self._fingerprint, call, request)
        token = secrets.token_hex(8).encode()
        try:
            known = await self.memory.claim(name, fingerprint, token, self.running_seconds)
        except RedisUnavailable:
            self._count("forgotten")
            return await work()
        if known is not None:
            return self._replay(*known, fingerprint)
        self._count("first")
        return await self._keep(name, fingerprint, token, work)

    def _replay(self, known: bytes, answer: bytes, fingerprint: bytes) -> Response:
        if known != fingerprint:
            self._count("reused")
            raise Problem(
                "key_reused",
                f"{HEADER} was used for another request; give each request a key of its own",
            )
        if answer == RUNNING:
            self._count("running")
            raise Problem(
                "still_running",
                f"the first request with this {HEADER} is not done; try again",
                headers={"Retry-After": "1"},
            )
        self._count("replayed")
        return StoredResponse.from_bytes(answer).to_response(**{REPLAYED: "true"})

    async def _keep(
        self, name: bytes, fingerprint: bytes, token: bytes, work: Callable[[], Awaitable[Response]]
    ) -> Response:
        kept = False
        try:
            response = await work()
            answer = StoredResponse.from_response(response).to_bytes()
            if response.status_code < 300 and len(answer) <= MOST_KEPT_BYTES:
                await self.memory.keep(name, fingerprint, token, answer, self.seconds)
                kept = True
        except RedisUnavailable:
            self._count("forgotten")
        finally:
            if not kept:
                await self._release(name, token)
        return response

    async def _release(self, name: bytes, token: bytes) -> None:
        try:
            await self.memory.release(name, token)
        except RedisUnavailable:
            self._count("forgotten")

    def _fingerprint(self, call: InferenceRequest, request: Request) -> bytes:
        asked = [request.headers.get(header, "").encode() for header in ("prefer", "x-webhook-url")]
        return self.cipher.keyed_hash(call.to_bytes(), *asked)

    def _count(self, outcome: str) -> None:
        self.metrics.replays.labels(outcome).inc()


def parse_idempotency_key(text: str) -> str:
    """The key, quoted as the draft has it or bare. Raises Problem: 400."""
    key = text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text
    if not key.strip() or len(key) > LONGEST_KEY or not key.isprintable():
        problem = f"{HEADER} has {len(key)} characters; give 1 to {LONGEST_KEY} that can be printed, such as a UUID"
        raise Problem(
            "malformed",
            problem,
            errors=[
                {"field": HEADER, "value": len(key), "message": f"1 to {LONGEST_KEY} characters"}
            ],
        )
    return key
