"""Jobs in the memory of one gateway. They are lost when it ends, and other gateways do not see
them.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from service.jobs.jobs import Backlog, Job, JobQueueFull, Lease, Status, WebhookStatus

WAIT_SECONDS = 0.5


@dataclass
class _Entry:
    """A job with its request or its response, and the token of the lease that holds it."""

    job: Job
    request: bytes = b""
    response: bytes = b""
    token: str = ""
    is_fetched: bool = False

    @property
    def size_bytes(self) -> int:
        return len(self.request) + len(self.response)

    def end(self, status: Status, now: float, response: bytes = b"") -> None:
        """End the job and its lease."""
        self.job = replace(self.job, status=status, finished=now)
        self.request, self.response, self.token = b"", response, ""


class MemoryJobStore:
    """A `JobStore`. `most_bytes` bounds all requests and responses, `capacity` the open jobs."""

    location: Literal["memory", "redis"] = "memory"

    def __init__(
        self, *, capacity: int, most_bytes: int, clock: Callable[[], float] = time.time
    ) -> None:
        self.capacity, self.most_bytes, self._clock = capacity, most_bytes, clock
        self._entries: dict[str, _Entry] = {}
        self._waiting: asyncio.Queue[str] = asyncio.Queue()

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Forget everything."""
        self._entries.clear()

    async def add(self, job: Job, request: bytes) -> None:
        """Queue it."""
        self._forget_expired()
        entries = self._entries.values()
        if sum(entry.job.is_open for entry in entries) >= self.capacity:
            raise JobQueueFull(f"{self.capacity} jobs wait already")
        if sum(entry.size_bytes for entry in entries) + len(request) > self.most_bytes:
            raise JobQueueFull("the memory for jobs is full")
        self._entries[job.id] = _Entry(job, request)
        self._waiting.put_nowait(job.id)

    async def find(self, job_id: str) -> Job | None:
        """The job."""
        self._forget_expired()
        entry = self._entries.get(job_id)
        return entry.job if entry else None

    async def statuses(self, job_ids: Sequence[str]) -> list[Status | None]:
        """As they are held."""
        entries = (self._entries.get(job_id) for job_id in job_ids)
        return [entry.job.status if entry else None for entry in entries]

    async def backlog(self) -> Backlog:
        """In the order in which they came."""
        now = self._clock()
        jobs = (entry.job.as_of(now) for entry in self._entries.values())
        waiting = [now - job.created for job in jobs if job.status == "queued"]
        return Backlog(len(waiting), max(waiting, default=0.0))

    async def take(self) -> Lease | None:
        """The longest waiting job."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                job_id = await self._waiting.get()
        except TimeoutError:
            return None
        self._forget_expired()
        entry, now = self._entries.get(job_id), self._clock()
        if entry is None or entry.job.as_of(now).status != "queued":
            return None
        entry.token = secrets.token_hex(8)
        attempts = entry.job.attempts + 1
        entry.job = replace(entry.job, status="running", started=now, attempts=attempts)
        return Lease(entry.job, entry.token)

    def wake(self, takers: int) -> None:
        """No job has an empty id, so whoever takes one has none."""
        for _ in range(takers):
            self._waiting.put_nowait("")

    async def get_request(self, job: Job) -> bytes | None:
        """As it was added."""
        entry = self._entries.get(job.id)
        return entry.request if entry and entry.request else None

    async def heartbeat(self, lease: Lease, done: int | None = None) -> bool:
        """Whether the lease holds."""
        entry = self._held(lease)
        if entry is None or not (entry.job.is_open or entry.job.webhook_status == "waiting"):
            return False
        if done is not None:
            entry.job = replace(entry.job, done=done)
        return True

    async def finish(self, lease: Lease, status: Status, response: bytes, expires: float) -> bool:
        """Store the response; the lease holds until the webhook is called."""
        entry = self._held(lease)
        if entry is None or not entry.job.is_open:
            return False
        entry.end(status, self._clock(), response)
        entry.job, entry.token = replace(entry.job, expires=expires), lease.token
        return True

    async def record_webhook(self, lease: Lease, webhook_status: WebhookStatus) -> None:
        """Record the outcome and end the lease."""
        entry = self._held(lease)
        if entry is not None:
            entry.job = replace(entry.job, webhook_status=webhook_status)

    async def requeue(self, lease: Lease) -> None:
        """There is no other gateway: the job stays open, until it fails as lost."""

    async def get_response(self, job: Job) -> bytes | None:
        """From now on it counts as fetched."""
        self._forget_expired()
        entry = self._entries.get(job.id)
        if entry is None or not entry.response:
            return None
        entry.is_fetched = True
        return entry.response

    async def cancel(self, job: Job) -> None:
        """Or forget the response."""
        entry = self._entries.get(job.id)
        if entry is None:
            return
        if entry.job.is_open:
            entry.end("cancelled", self._clock())
            # The client that cancels needs no webhook.
            entry.job = replace(entry.job, webhook_status="none")
        else:
            cancelled = entry.job.status == "cancelled"
            entry.job = replace(entry.job, status="cancelled" if cancelled else "expired")
            entry.response, entry.token = b"", ""

    async def fail(self, job: Job, response: bytes) -> None:
        """With this response."""
        self._entries[job.id].end("failed", self._clock(), response)

    def undelivered(self) -> list[Job]:
        """Open, or finished and not fetched."""
        self._forget_expired()
        return [
            entry.job
            for entry in self._entries.values()
            if entry.job.is_open or (entry.response and not entry.is_fetched)
        ]

    def _held(self, lease: Lease) -> _Entry | None:
        entry = self._entries.get(lease.job.id)
        return entry if entry and entry.token and entry.token == lease.token else None

    def _forget_expired(self) -> None:
        """Expired jobs lose their content at once, and their document after the same time again."""
        now = self._clock()
        for entry in list(self._entries.values()):
            job = entry.job.as_of(now)
            if job.status == "expired":
                entry.job, entry.request, entry.response = job, b"", b""
            if not job.is_open and now > 2 * job.expires - job.created:
                del self._entries[job.id]
