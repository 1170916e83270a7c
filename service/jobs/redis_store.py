"""Jobs in Redis: one stream of ids, read by a consumer group of all gateways. Everything that changes a job is one script, so that
whoever is second, late or taken for dead changes nothing.

ApiKeys, all in one slot of a cluster:
    affectgan:{jobs}:stream         entries `id`; an entry goes when nothing is left to do, so its length is the jobs that wait or run
    affectgan:{jobs}:job:ID         hash: what a job document says
    affectgan:{jobs}:call:ID        what is asked, sealed; deleted when the job ends
    affectgan:{jobs}:answer:ID      the answer, sealed

Each has a time to live.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar, cast

import orjson
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import RedisError

from service.jobs.jobs import Job, JobQueueFull, Lease, Status, StoreUnavailable, WebhookStatus
from service.storage.encryption import Cipher, DecryptionError
from service.storage.redis import open_client

# What never changes about a job, by its attribute and the name that it has in Redis.
STORED_NAMES = {
    "id": "id",
    "owner": "owner",
    "operation": "operation",
    "images": "of",
    "created": "created",
    "response_media_type": "wanted",
    "webhook": "webhook",
}
PREFIX = "affectgan:{jobs}:"
STREAM, GROUP = f"{PREFIX}stream", "gateways"
BLOCK_SECONDS, TIMEOUT_SECONDS = 0.5, 5.0  # a job may be 64 MB
T = TypeVar("T")

# KEYS of every script: stream, job, call, answer. A script answers 0 when it changed nothing.
_ADD = """
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[3])
local entry = redis.call('XADD', KEYS[1], '*', 'id', ARGV[4])
redis.call('HSET', KEYS[2], 'fixed', ARGV[5], 'status', 'queued', 'told', ARGV[6], 'expires', ARGV[7], 'entry', entry)
redis.call('PEXPIRE', KEYS[2], 2 * ARGV[3])
return 1
"""
_BEGIN = """
local status, told = unpack(redis.call('HMGET', KEYS[2], 'status', 'told'))
local open = status == 'queued' or status == 'running'
if (open and redis.call('EXISTS', KEYS[3]) == 1) or (told == 'waiting' and (status == 'done' or status == 'failed')) then
  redis.call('HSET', KEYS[2], 'token', ARGV[2], 'entry', ARGV[1])
  if open then
    redis.call('HSET', KEYS[2], 'status', 'running', 'started', ARGV[3], 'done', 0)
    redis.call('HINCRBY', KEYS[2], 'attempts', 1)
  end
  return 1
end
if open then redis.call('HSET', KEYS[2], 'status', 'expired') end
redis.call('XACK', KEYS[1], ARGV[4], ARGV[1])
redis.call('XDEL', KEYS[1], ARGV[1])
return 0
"""
_HELD = "if redis.call('HGET', KEYS[2], 'token') ~= ARGV[1] then return 0 end\n"
_RUNNING = _HELD + "if redis.call('HGET', KEYS[2], 'status') ~= 'running' then return 0 end\n"
_OVER = "redis.call('XACK', KEYS[1], ARGV[2], ARGV[3]) redis.call('XDEL', KEYS[1], ARGV[3])\n"
_HEARTBEAT = (
    _HELD
    + """
redis.call('XCLAIM', KEYS[1], ARGV[2], ARGV[4], 0, ARGV[3], 'JUSTID')
if ARGV[5] ~= '' then redis.call('HSET', KEYS[2], 'done', ARGV[5]) end
return 1
"""
)
_FINISH = (
    _RUNNING
    + """
redis.call('SET', KEYS[4], ARGV[4], 'PX', ARGV[5])
redis.call('DEL', KEYS[3])
redis.call('HSET', KEYS[2], 'status', ARGV[6], 'finished', ARGV[7], 'expires', ARGV[8])
redis.call('PEXPIRE', KEYS[2], 2 * ARGV[5])
if redis.call('HGET', KEYS[2], 'told') ~= 'waiting' then
"""
    + _OVER
    + "end return 1"
)
_RECORD_WEBHOOK = (
    _HELD
    + "redis.call('HSET', KEYS[2], 'told', ARGV[4]) redis.call('HDEL', KEYS[2], 'token')\n"
    + _OVER
    + "return 1"
)
_REQUEUE = (
    _RUNNING
    + _OVER
    + """
local entry = redis.call('XADD', KEYS[1], '*', 'id', ARGV[4])
redis.call('HSET', KEYS[2], 'status', 'queued', 'done', 0, 'entry', entry)
redis.call('HINCRBY', KEYS[2], 'attempts', -1)
redis.call('HDEL', KEYS[2], 'token', 'started')
return 1
"""
)
_CANCEL = """
local status, entry = unpack(redis.call('HMGET', KEYS[2], 'status', 'entry'))
if not status then return 0 end
redis.call('DEL', KEYS[3], KEYS[4])
if status == 'queued' or status == 'running' then
  redis.call('HSET', KEYS[2], 'status', 'cancelled', 'finished', ARGV[1])
elseif status ~= 'cancelled' then
  redis.call('HSET', KEYS[2], 'status', 'expired')
end
redis.call('HDEL', KEYS[2], 'token')
redis.call('XACK', KEYS[1], ARGV[2], entry)
redis.call('XDEL', KEYS[1], entry)
return 1
"""
_LEAVE = """
if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) > 0 then return 0 end
return redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
"""


class RedisJobStore:
    """A `JobStore`."""

    location: Literal["memory", "redis"] = "redis"

    def __init__(self, url: str, cipher: Cipher, *, most: int, lease_seconds: float) -> None:
        self.cipher, self.most, self.lease_seconds = cipher, most, lease_seconds
        self.client = open_client(url, timeout_seconds=TIMEOUT_SECONDS)
        self.consumer = secrets.token_hex(8)
        names = {
            "add": _ADD,
            "begin": _BEGIN,
            "heartbeat": _HEARTBEAT,
            "finish": _FINISH,
            "record_webhook": _RECORD_WEBHOOK,
            "requeue": _REQUEUE,
            "cancel": _CANCEL,
            "leave": _LEAVE,
        }
        self._scripts = {name: self.client.register_script(text) for name, text in names.items()}
        self._grouped = False

    async def open(self) -> None:
        """Nothing: Redis may come later."""

    async def close(self) -> None:
        """Leave the group, if nothing is pending, and disconnect."""
        with contextlib.suppress(StoreUnavailable):
            await _asked(lambda: self._scripts["leave"](keys=[STREAM], args=[GROUP, self.consumer]))
        await self.client.aclose()

    async def add(self, job: Job, call: bytes) -> None:
        """Seal and queue it."""
        fixed = {stored: getattr(job, name) for name, stored in STORED_NAMES.items()}
        milliseconds = max(1, int((job.expires - job.created) * 1000))
        sealed = await asyncio.to_thread(self.cipher.encrypt, call, f"call {job.id}")
        if not await self._run(
            "add",
            job.id,
            self.most,
            sealed,
            milliseconds,
            job.id,
            orjson.dumps(fixed),
            job.webhook_status,
            job.expires,
        ):
            raise JobQueueFull(f"{self.most} jobs wait already")

    async def find(self, job_id: str) -> Job | None:
        """The job as Redis has it."""
        stored = await _asked(
            lambda: cast(
                "Awaitable[dict[bytes, bytes]]", self.client.hgetall(f"{PREFIX}job:{job_id}")
            )
        )
        return _job(stored) if stored else None

    async def take(self) -> Lease | None:
        """An entry whose gateway fell silent, or the next new one."""
        await self._group()
        try:
            _, claimed, *_ = await _asked(
                lambda: self.client.xautoclaim(
                    STREAM, GROUP, self.consumer, int(self.lease_seconds * 1000), count=1
                )
            )
            entries = claimed or await self._next()
        except StoreUnavailable:
            self._grouped = False  # Redis may come back empty
            raise
        if not entries:
            return None
        entry, fields = entries[0]
        if not fields:  # deleted while it was pending
            return None
        job_id, token = fields[b"id"].decode(), secrets.token_hex(8)
        if not await self._run("begin", job_id, entry, token, time.time(), GROUP):
            return None
        job = await self.find(job_id)
        return None if job is None else Lease(job, token, entry.decode())

    async def get_request(self, job: Job) -> bytes | None:
        """Unsealed."""
        return await self._opened("call", job)

    async def heartbeat(self, lease: Lease, done: int | None = None) -> bool:
        """One script: still ours, heard of, so far."""
        return await self._run(
            "heartbeat",
            lease.job.id,
            lease.token,
            GROUP,
            lease.entry,
            self.consumer,
            "" if done is None else done,
        )

    async def finish(self, lease: Lease, status: Status, answer: bytes, expires: float) -> bool:
        """One script: still ours, answer, end."""
        now = time.time()
        sealed = await asyncio.to_thread(self.cipher.encrypt, answer, f"answer {lease.job.id}")
        milliseconds = max(1, int((expires - now) * 1000))
        return await self._run(
            "finish",
            lease.job.id,
            lease.token,
            GROUP,
            lease.entry,
            sealed,
            milliseconds,
            status,
            now,
            expires,
        )

    async def record_webhook(self, lease: Lease, webhook_status: WebhookStatus) -> None:
        """One script."""
        await self._run(
            "record_webhook", lease.job.id, lease.token, GROUP, lease.entry, webhook_status
        )

    async def requeue(self, lease: Lease) -> None:
        """To the end of the stream, as a new entry."""
        await self._run("requeue", lease.job.id, lease.token, GROUP, lease.entry, lease.job.id)

    async def get_response(self, job: Job) -> bytes | None:
        """Unsealed."""
        return await self._opened("answer", job)

    async def cancel(self, job: Job) -> None:
        """One script."""
        await self._run("cancel", job.id, time.time(), GROUP)

    async def fail(self, job: Job, answer: bytes) -> None:
        """Nothing in Redis is lost with a gateway."""

    def undelivered(self) -> list[Job]:
        """Nothing."""
        return []

    async def _group(self) -> None:
        if self._grouped:
            return
        try:
            await _asked(lambda: self.client.xgroup_create(STREAM, GROUP, id="0", mkstream=True))
        except StoreUnavailable as error:
            if "BUSYGROUP" not in str(error):
                raise
        self._grouped = True

    async def _next(self) -> list[Any]:
        read = await _asked(
            lambda: self.client.xreadgroup(
                GROUP, self.consumer, {STREAM: ">"}, count=1, block=int(BLOCK_SECONDS * 1000)
            )
        )
        if isinstance(read, dict):  # RESP3
            return next(
                (
                    entries[0] if entries and isinstance(entries[0], list) else entries
                    for entries in read.values()
                ),
                [],
            )
        return list(read[0][1]) if read else []

    async def _opened(self, kind: str, job: Job) -> bytes | None:
        sealed = await _asked(lambda: self.client.get(f"{PREFIX}{kind}:{job.id}"))
        if sealed is None:
            return None
        try:
            return await asyncio.to_thread(
                self.cipher.decrypt, cast(bytes, sealed), f"{kind} {job.id}"
            )
        except DecryptionError as error:
            raise StoreUnavailable(
                f"what Redis holds cannot be opened: {error}; all gateways need the same AFFECTGAN_JOBS_KEY"
            ) from error

    async def _run(self, script: str, job_id: str, *arguments: Any) -> bool:
        keys = [STREAM, *(f"{PREFIX}{kind}:{job_id}" for kind in ("job", "call", "answer"))]
        return bool(await _asked(lambda: self._scripts[script](keys=keys, args=arguments)))


async def _asked(command: Callable[[], Awaitable[T]]) -> T:
    """The answer; asked a second time when the connection was dead, as after a restart: no script does more the second time."""
    try:
        try:
            return await command()
        except NoConnection:
            return await command()
    except (RedisError, OSError, TimeoutError) as error:
        raise StoreUnavailable(f"{type(error).__name__}: {error}") from error


def _job(stored: dict[bytes, bytes]) -> Job:
    """A job from its hash in Redis."""
    texts = {name.decode(): value for name, value in stored.items()}
    fixed = orjson.loads(texts["fixed"])
    fields: dict[str, Any] = {name: fixed[stored] for name, stored in STORED_NAMES.items()}
    times = ("expires", "started", "finished")
    fields |= {name: float(texts[name]) for name in times if name in texts}
    fields |= {name: int(texts[name]) for name in ("done", "attempts") if name in texts}
    return Job(
        **fields,
        status=cast(Status, texts["status"].decode()),
        webhook_status=cast(WebhookStatus, texts["told"].decode()),
    )
