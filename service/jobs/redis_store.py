"""Jobs in Redis: one stream of ids, read by a consumer group of all gateways.

Everything that changes a job is one script, so that a gateway whose lease was taken over changes
nothing. Keys, all in one slot of a cluster, each with a time to live:

    affectgan:{jobs}:stream      entries `id`; removed when nothing is left to do for the job, so
                                 that its length is the number of jobs that wait or run
    affectgan:{jobs}:job:ID      hash: what a job document says
    affectgan:{jobs}:call:ID     the request, encrypted; deleted when the job ends
    affectgan:{jobs}:answer:ID   the response, encrypted
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, TypeVar, cast

import orjson
from redis.exceptions import ConnectionError as RedisConnectionError

from service.jobs.jobs import (
    Backlog,
    Job,
    JobQueueFull,
    Lease,
    Status,
    StoreUnavailable,
    WebhookStatus,
)
from service.jobs.redis_scripts import SCRIPTS
from service.storage.encryption import Cipher, DecryptionError
from service.storage.redis import open_client

# What never changes about a job.
FIXED = ("id", "owner", "operation", "images", "created", "response_media_type", "webhook")
# The names of attributes in jobs that earlier gateways stored.
EARLIER_NAMES = {"images": "of", "response_media_type": "wanted", "webhook_status": "told"}
PREFIX = "affectgan:{jobs}:"
STREAM, GROUP = f"{PREFIX}stream", "gateways"
BLOCK_SECONDS, TIMEOUT_SECONDS = 0.5, 5.0  # a job may be 64 MB
T = TypeVar("T")


class RedisJobStore:
    """A `JobStore`. `capacity` jobs may wait or run; those of a gateway that stopped renewing its
    leases are taken by others.
    """

    location: Literal["memory", "redis"] = "redis"

    def __init__(self, url: str, cipher: Cipher, *, capacity: int, lease_seconds: float) -> None:
        self.cipher, self.capacity, self.lease_seconds = cipher, capacity, lease_seconds
        self.client = open_client(url, timeout_seconds=TIMEOUT_SECONDS)
        self.consumer = secrets.token_hex(8)
        self._scripts = {name: self.client.register_script(text) for name, text in SCRIPTS.items()}
        self._grouped = False
        self._took = True

    async def open(self) -> None:
        """Does nothing: Redis may become available later."""

    async def close(self) -> None:
        """Leave the group, if nothing is pending, and disconnect."""
        with contextlib.suppress(StoreUnavailable):
            leave = self._scripts["leave"]
            await self._execute(lambda: leave(keys=[STREAM], args=[GROUP, self.consumer]))
        await self.client.aclose()

    async def add(self, job: Job, request: bytes) -> None:
        """Encrypt and queue it."""
        fixed = {name: getattr(job, name) for name in FIXED}
        encrypted = await asyncio.to_thread(self.cipher.encrypt, request, f"call {job.id}")
        content = encrypted, _milliseconds(job.expires - job.created)
        state = orjson.dumps(fixed), job.webhook_status, job.expires
        if not await self._run("add", job.id, self.capacity, *content, job.id, *state):
            raise JobQueueFull(f"{self.capacity} jobs wait already")

    async def find(self, job_id: str) -> Job | None:
        """The job as Redis has it."""
        name = f"{PREFIX}job:{job_id}"
        stored = await self._execute(
            lambda: cast("Awaitable[dict[bytes, bytes]]", self.client.hgetall(name))
        )
        return _job(stored) if stored else None

    async def statuses(self, job_ids: Sequence[str]) -> list[Status | None]:
        """In one round trip."""
        if not job_ids:
            return []

        async def read_statuses() -> list[bytes | None]:
            pipeline = self.client.pipeline(transaction=False)
            for job_id in job_ids:
                pipeline.hget(f"{PREFIX}job:{job_id}", "status")
            return await pipeline.execute()

        stored = await self._execute(read_statuses)
        return [None if status is None else cast(Status, status.decode()) for status in stored]

    async def backlog(self) -> Backlog:
        """What is in the stream and was never delivered: of all gateways."""
        if not await self._execute(lambda: self.client.xlen(STREAM)):
            return Backlog()
        groups = await self._execute(lambda: self.client.xinfo_groups(STREAM))
        last = next((group["last-delivered-id"] for group in groups), b"0-0").decode()
        waiting = await self._execute(
            lambda: self.client.xrange(STREAM, min=f"({last}", count=self.capacity)
        )
        if not waiting:
            return Backlog()
        queued_at = int(cast(bytes, waiting[0][0]).split(b"-")[0]) / 1000
        return Backlog(len(waiting), max(time.time() - queued_at, 0.0))

    async def take(self) -> Lease | None:
        """An entry whose lease expired, or the next new one. An expired one that cannot be taken is
        tried again later, so that it blocks no other; when it expires, it is removed.
        """
        took, self._took = self._took, False
        entries = await self._next_entries(silent_ones=took)
        lease = await self._begin(*entries[0]) if entries else None
        self._took = True
        return lease

    async def _next_entries(self, *, silent_ones: bool) -> list[Any]:
        await self._join_group()
        try:
            return (await self._claim() if silent_ones else []) or await self._read_next()
        except StoreUnavailable:
            self._grouped = False  # Redis may restart empty
            raise

    async def _begin(self, entry: bytes, fields: dict[bytes, bytes] | None) -> Lease | None:
        if not fields:  # deleted while it was pending
            return None
        # Without an id it is no job of ours: "begin" finds nothing under "" and removes the entry.
        job_id, token = fields.get(b"id", b"").decode(errors="replace"), secrets.token_hex(8)
        if not await self._run("begin", job_id, entry, token, time.time(), GROUP):
            return None
        job = await self.find(job_id)
        return None if job is None else Lease(job, token, entry.decode())

    def wake(self, takers: int) -> None:
        """They go on waiting for BLOCK_SECONDS: what Redis has sent must not be left unread."""

    async def get_request(self, job: Job) -> bytes | None:
        """Decrypted."""
        return await self._decrypted("call", job)

    async def heartbeat(self, lease: Lease, done: int | None = None) -> bool:
        """One script: the lease still holds, is renewed, and so much is done."""
        progress = "" if done is None else done
        return await self._run_held("heartbeat", lease, self.consumer, progress)

    async def finish(self, lease: Lease, status: Status, response: bytes, expires: float) -> bool:
        """One script: the lease still holds, the response, the end."""
        now = time.time()
        context = f"answer {lease.job.id}"
        encrypted = await asyncio.to_thread(self.cipher.encrypt, response, context)
        content = encrypted, _milliseconds(expires - now)
        return await self._run_held("finish", lease, *content, status, now, expires)

    async def record_webhook(self, lease: Lease, webhook_status: WebhookStatus) -> None:
        """One script."""
        await self._run_held("record_webhook", lease, webhook_status)

    async def requeue(self, lease: Lease) -> None:
        """To the end of the stream, as a new entry."""
        await self._run_held("requeue", lease, lease.job.id)

    async def get_response(self, job: Job) -> bytes | None:
        """Decrypted."""
        return await self._decrypted("answer", job)

    async def cancel(self, job: Job) -> None:
        """One script."""
        await self._run("cancel", job.id, time.time(), GROUP)

    async def fail(self, job: Job, response: bytes) -> None:
        """Nothing in Redis is lost with a gateway."""

    def undelivered(self) -> list[Job]:
        """None: what is in Redis outlives a gateway."""
        return []

    async def _join_group(self) -> None:
        if self._grouped:
            return
        try:
            await self._execute(
                lambda: self.client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
            )
        except StoreUnavailable as error:
            if "BUSYGROUP" not in str(error):
                raise
        self._grouped = True

    async def _claim(self) -> list[Any]:
        idle_ms = _milliseconds(self.lease_seconds)
        claimed = await self._execute(
            lambda: self.client.xautoclaim(STREAM, GROUP, self.consumer, idle_ms, count=1)
        )
        return list(claimed[1])

    async def _read_next(self) -> list[Any]:
        wait = _milliseconds(BLOCK_SECONDS)
        read = await self._execute(
            lambda: self.client.xreadgroup(GROUP, self.consumer, {STREAM: ">"}, count=1, block=wait)
        )
        if not isinstance(read, dict):
            return list(read[0][1]) if read else []
        (entries,) = read.values() or ([],)  # RESP3
        return list(entries[0] if entries and isinstance(entries[0], list) else entries)

    async def _decrypted(self, kind: str, job: Job) -> bytes | None:
        encrypted = await self._execute(lambda: self.client.get(f"{PREFIX}{kind}:{job.id}"))
        if encrypted is None:
            return None
        content, context = cast(bytes, encrypted), f"{kind} {job.id}"
        try:
            return await asyncio.to_thread(self.cipher.decrypt, content, context)
        except DecryptionError as error:
            raise StoreUnavailable(
                f"what Redis holds cannot be decrypted: {error}; "
                "all gateways need the same AFFECTGAN_JOBS_KEY"
            ) from error

    async def _execute(self, command: Callable[[], Awaitable[T]]) -> T:
        """The answer. Sent twice when the connection was dead, as after a restart of Redis. Every
        script is idempotent.
        """
        try:
            try:
                return await command()
            except RedisConnectionError:
                return await command()
        except Exception as error:  # also what its client says of an answer that is none
            # After one surplus answer, each that follows belongs to the command before.
            await self.client.connection_pool.disconnect(inuse_connections=False)
            raise StoreUnavailable(f"{type(error).__name__}: {error}") from error

    async def _run_held(self, script: str, lease: Lease, *arguments: Any) -> bool:
        """A script that changes nothing unless the lease holds."""
        return await self._run(script, lease.job.id, lease.token, GROUP, lease.entry, *arguments)

    async def _run(self, script: str, job_id: str, *arguments: Any) -> bool:
        keys = [STREAM, *(f"{PREFIX}{kind}:{job_id}" for kind in ("job", "call", "answer"))]
        return bool(await self._execute(lambda: self._scripts[script](keys=keys, args=arguments)))


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))


def _job(stored: dict[bytes, bytes]) -> Job:
    """A job from its hash in Redis. Raises StoreUnavailable when it holds something else."""
    try:
        return _read_job(stored)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StoreUnavailable(f"what Redis holds is no job: {error!r}") from error


def _read_job(stored: dict[bytes, bytes]) -> Job:
    texts = {name.decode(): value for name, value in stored.items()}
    fixed = orjson.loads(texts["fixed"])
    fields = {name: _by_either_name(fixed, name) for name in FIXED}
    times = ("expires", "started", "finished")
    fields |= {name: float(texts[name]) for name in times if name in texts}
    fields |= {name: int(texts[name]) for name in ("done", "attempts") if name in texts}
    return Job(
        **fields,
        status=cast(Status, texts["status"].decode()),
        webhook_status=cast(WebhookStatus, _by_either_name(texts, "webhook_status").decode()),
    )


def _by_either_name(stored: dict[str, Any], name: str) -> Any:
    return stored[name if name in stored else EARLIER_NAMES.get(name, name)]
