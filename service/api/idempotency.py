"""`Idempotency-Key` (IETF draft-ietf-httpapi-idempotency-key-header): a POST that is sent again is
answered with the first response.

A key counts for one client and one route. The same key with another request is refused with 422,
one whose first request still runs with 409. A failure is not stored, so the request may be sent
again. While Redis is unavailable nothing can be stored and the request is done like any other:
inference has no side effects, so doing it twice is only slower.
"""

import asyncio
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from fastapi import Request
from redis.asyncio import Redis as Client
from starlette.responses import Response

from service.inference.inference_request import InferenceRequest
from service.jobs import webhooks
from service.observability.metrics import Metrics
from service.problems import Problem
from service.settings import Settings
from service.storage.encrypted_redis import EncryptedRedis
from service.storage.encryption import Cipher, DecryptionError
from service.storage.redis import RedisUnavailable
from service.storage.stored_response import StoredResponse

HEADER, REPLAYED = "Idempotency-Key", "Idempotency-Replayed"
LONGEST_KEY = 255
MOST_STORED_BYTES = 16 * 2**20  # a larger response is computed again
ENTRY_BYTES = 256  # of an entry beside its response
# over the longest deadline, for which the key of a gateway that died is blocked
GRACE_SECONDS = 10.0
RUNNING = b""
KEY_PATTERN = "^[ -~]*[!-~][ -~]*$"  # printable ASCII, not spaces alone


@dataclass(frozen=True)
class KeyClaim:
    """A claimed key: its name in the store, the request's fingerprint, and a token of this claim
    alone.
    """

    name: bytes
    fingerprint: bytes
    token: bytes


class IdempotencyStore(Protocol):
    """Keeps, under a name, a fingerprint and then a response. All calls may raise
    RedisUnavailable.
    """

    async def claim(self, claim: KeyClaim, seconds: float) -> tuple[bytes, bytes] | None:
        """None: the name is claimed for `seconds`. Otherwise its fingerprint and response, RUNNING
        while there is none.
        """
        ...

    async def store(self, claim: KeyClaim, response: bytes, seconds: float) -> None:
        """Store the response, if the claim still holds."""
        ...

    async def release(self, claim: KeyClaim) -> None:
        """Give the claim up without a response."""
        ...


@dataclass(frozen=True)
class _StoredAnswer:
    claim: KeyClaim
    response: bytes
    expires: float

    @property
    def size_bytes(self) -> int:
        return len(self.response) + ENTRY_BYTES


class MemoryIdempotencyStore:
    """In this process: the oldest responses go first when they hold more than `most_bytes`
    together.
    """

    def __init__(self, *, most_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.most_bytes, self._clock = most_bytes, clock
        self._entries: OrderedDict[bytes, _StoredAnswer] = OrderedDict()
        self._bytes = 0

    async def claim(self, claim: KeyClaim, seconds: float) -> tuple[bytes, bytes] | None:
        """See `IdempotencyStore`."""
        entry = self._entries.get(claim.name)
        if entry is not None and entry.expires > self._clock():
            return entry.claim.fingerprint, entry.response
        self._put(claim, RUNNING, seconds)
        return None

    async def store(self, claim: KeyClaim, response: bytes, seconds: float) -> None:
        """See `IdempotencyStore`."""
        if self._is_ours(claim):
            self._put(claim, response, seconds)

    async def release(self, claim: KeyClaim) -> None:
        """See `IdempotencyStore`."""
        if self._is_ours(claim):
            self._remove(claim.name)

    def _is_ours(self, claim: KeyClaim) -> bool:
        entry = self._entries.get(claim.name)
        return entry is not None and entry.claim.token == claim.token

    def _put(self, claim: KeyClaim, response: bytes, seconds: float) -> None:
        self._remove(claim.name)
        now = self._clock()
        entry = self._entries[claim.name] = _StoredAnswer(claim, response, now + seconds)
        self._bytes += entry.size_bytes
        while self._entries:
            oldest, entry = next(iter(self._entries.items()))
            if self._bytes <= self.most_bytes and entry.expires > now:
                return
            self._remove(oldest)

    def _remove(self, name: bytes) -> None:
        entry = self._entries.pop(name, None)
        if entry is not None:
            self._bytes -= entry.size_bytes


_CLAIM = """
if redis.call('HSETNX', KEYS[1], 'token', ARGV[1]) == 0 then
  return redis.call('HMGET', KEYS[1], 'fingerprint', 'answer')
end
redis.call('HSET', KEYS[1], 'fingerprint', ARGV[2], 'answer', '')
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return false
"""
_STORE = """
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'answer', ARGV[2])
return redis.call('PEXPIRE', KEYS[1], ARGV[3])
"""
_RELEASE = """
if redis.call('HGET', KEYS[1], 'token') == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


class RedisIdempotencyStore:
    """In Redis, for all gateways, the responses encrypted."""

    def __init__(self, encrypted: EncryptedRedis) -> None:
        self.redis, self.cipher = encrypted.redis, encrypted.cipher

    async def claim(self, claim: KeyClaim, seconds: float) -> tuple[bytes, bytes] | None:
        """See `IdempotencyStore`."""
        stored = await self._run(_CLAIM, claim, claim.fingerprint, int(seconds * 1000))
        if stored is None:
            return None
        if not _is_entry(stored):
            raise self.redis.failed("idempotency", "garbled")
        fingerprint, response = stored
        if not response:
            return fingerprint, RUNNING
        try:
            name = claim.name.hex()
            return fingerprint, await asyncio.to_thread(self.cipher.decrypt, response, name)
        except DecryptionError:  # the gateways do not have the same key
            raise self.redis.failed("idempotency", "garbled") from None

    async def store(self, claim: KeyClaim, response: bytes, seconds: float) -> None:
        """See `IdempotencyStore`."""
        encrypted = await asyncio.to_thread(self.cipher.encrypt, response, claim.name.hex())
        await self._run(_STORE, claim, encrypted, int(seconds * 1000))

    async def release(self, claim: KeyClaim) -> None:
        """See `IdempotencyStore`."""
        await self._run(_RELEASE, claim)

    async def _run(self, script: str, claim: KeyClaim, *arguments: bytes | int) -> Any:
        key = f"affectgan:idempotency:{claim.name.hex()}"

        async def command(client: Client) -> object:
            return await client.register_script(script)(keys=[key], args=[claim.token, *arguments])

        return await self.redis.execute("idempotency", command)


def _is_entry(stored: Any) -> bool:
    """Whether an answer of Redis can be a fingerprint and a response."""
    if not isinstance(stored, list) or len(stored) != 2:
        return False
    return all(isinstance(value, bytes) for value in stored)


class Idempotency:
    """Does a request once. `running_seconds` is how long a gateway that died blocks a key."""

    def __init__(
        self,
        store: IdempotencyStore,
        cipher: Cipher,
        metrics: Metrics,
        *,
        seconds: float,
        running_seconds: float,
    ) -> None:
        self.store, self.cipher, self.metrics = store, cipher, metrics
        self.seconds, self.running_seconds = seconds, running_seconds

    async def once(
        self,
        request: Request[Any],
        inference: InferenceRequest,
        owner: str,
        work: Callable[[], Awaitable[Response]],
    ) -> Response:
        """The response of `work`, or the stored one of the same request. Raises Problem: 400, 409,
        422.
        """
        key = request.headers.get(HEADER)
        if key is None:
            return await work()
        path, key = request.url.path, parse_idempotency_key(key)
        claim = KeyClaim(
            name=self.cipher.keyed_hash(owner.encode(), path.encode(), key.encode()),
            fingerprint=await asyncio.to_thread(self._fingerprint, inference, request),
            token=secrets.token_hex(8).encode(),
        )
        try:
            stored = await self.store.claim(claim, self.running_seconds)
        except RedisUnavailable:
            self._count("forgotten")
            return await work()
        if stored is not None:
            return self._replay(*stored, claim.fingerprint)
        self._count("first")
        return await self._work_and_store(claim, work)

    def _replay(self, fingerprint: bytes, response: bytes, own_fingerprint: bytes) -> Response:
        if fingerprint != own_fingerprint:
            self._count("reused")
            raise Problem(
                "key_reused",
                f"{HEADER} was used for another request; give each request a key of its own",
            )
        if response == RUNNING:
            self._count("running")
            detail = f"the first request with this {HEADER} is not done; try again"
            raise Problem("still_running", detail, retry_seconds=1)
        self._count("replayed")
        return StoredResponse.from_bytes(response).to_response(**{REPLAYED: "true"})

    async def _work_and_store(
        self, claim: KeyClaim, work: Callable[[], Awaitable[Response]]
    ) -> Response:
        is_stored = False
        try:
            response = await work()
            content = StoredResponse.from_response(response).to_bytes()
            if response.status_code < 300 and len(content) <= MOST_STORED_BYTES:
                await self.store.store(claim, content, self.seconds)
                is_stored = True
        except RedisUnavailable:
            self._count("forgotten")
        finally:
            if not is_stored:
                await self._release(claim)
        return response

    async def _release(self, claim: KeyClaim) -> None:
        try:
            await self.store.release(claim)
        except RedisUnavailable:
            self._count("forgotten")

    def _fingerprint(self, inference: InferenceRequest, request: Request[Any]) -> bytes:
        headers = (request.headers.get(header, "") for header in ("prefer", webhooks.HEADER))
        parts = (inference.to_bytes(), *(value.encode() for value in headers))
        return self.cipher.keyed_hash(*parts)

    def _count(self, outcome: str) -> None:
        self.metrics.replays.labels(outcome).inc()


def idempotency_from_settings(
    settings: Settings, metrics: Metrics, encrypted: EncryptedRedis | None
) -> Idempotency:
    """In Redis when there is one and a key to encrypt with, otherwise in this process."""
    memory = MemoryIdempotencyStore(most_bytes=settings.idempotency_memory_bytes)
    return Idempotency(
        RedisIdempotencyStore(encrypted) if encrypted else memory,
        encrypted.cipher if encrypted else Cipher.with_random_key(),
        metrics,
        seconds=settings.idempotency_seconds,
        running_seconds=settings.max_deadline_seconds + GRACE_SECONDS,
    )


def parse_idempotency_key(text: str) -> str:
    """The key, quoted as the draft has it or bare. Raises Problem: 400."""
    key = text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text
    if len(key) > LONGEST_KEY or not re.fullmatch(KEY_PATTERN, key):
        message = f"1 to {LONGEST_KEY} printable ASCII characters"
        raise Problem(
            "malformed",
            f"{HEADER} has {len(key)} characters; give 1 to {LONGEST_KEY} printable ones of "
            "ASCII, such as a UUID",
            errors=[{"field": HEADER, "value": len(key), "message": message}],
        )
    return key
