"""Jobs in the memory of one gateway. They are lost with it, and other gateways do not know them."""

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from service.jobs.jobs import Job, JobQueueFull, Lease, Status, WebhookStatus

WAIT_SECONDS = 0.5


@dataclass
class _Entry:
    """A job with what is asked or what was answered, and the lease that holds it."""

    job: Job
    call: bytes = b""
    answer: bytes = b""
    token: str = ""
    fetched: bool = False


class MemoryJobStore:
    """A `JobStore`. `most_bytes` bounds questions and answers together, `most` the jobs that are open."""

    location: Literal["memory", "redis"] = "memory"

    def __init__(
        self, *, most: int, most_bytes: int, clock: Callable[[], float] = time.time
    ) -> None:
        self.most, self.most_bytes, self._clock = most, most_bytes, clock
        self._places: dict[str, _Entry] = {}
        self._waiting: asyncio.Queue[str] = asyncio.Queue()

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Forget everything."""
        self._places.clear()

    async def add(self, job: Job, call: bytes) -> None:
        """Queue it."""
        self._forget_old()
        if sum(place.job.is_open for place in self._places.values()) >= self.most:
            raise JobQueueFull(f"{self.most} jobs wait already")
        if (
            sum(len(place.call) + len(place.answer) for place in self._places.values()) + len(call)
            > self.most_bytes
        ):
            raise JobQueueFull("the memory for jobs is full")
        self._places[job.id] = _Entry(job, call)
        self._waiting.put_nowait(job.id)

    async def find(self, job_id: str) -> Job | None:
        """The job."""
        self._forget_old()
        place = self._places.get(job_id)
        return place.job if place else None

    async def take(self) -> Lease | None:
        """The longest waiting job."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                job_id = await self._waiting.get()
        except TimeoutError:
            return None
        self._forget_old()
        place = self._places.get(job_id)
        if place is None or place.job.as_of(self._clock()).status != "queued":
            return None
        place.token = secrets.token_hex(8)
        place.job = replace(
            place.job, status="running", started=self._clock(), attempts=place.job.attempts + 1
        )
        return Lease(place.job, place.token)

    async def get_request(self, job: Job) -> bytes | None:
        """What is asked."""
        place = self._places.get(job.id)
        return place.call if place and place.call else None

    async def heartbeat(self, lease: Lease, done: int | None = None) -> bool:
        """Whether the lease holds."""
        place = self._held(lease)
        if place is None or not (place.job.is_open or place.job.webhook_status == "waiting"):
            return False
        if done is not None:
            place.job = replace(place.job, done=done)
        return True

    async def finish(self, lease: Lease, status: Status, answer: bytes, expires: float) -> bool:
        """Write the answer."""
        place = self._held(lease)
        if place is None or not place.job.is_open:
            return False
        place.job = replace(place.job, status=status, finished=self._clock(), expires=expires)
        place.call, place.answer = b"", answer
        return True

    async def record_webhook(self, lease: Lease, webhook_status: WebhookStatus) -> None:
        """The webhook knows, or never will."""
        place = self._held(lease)
        if place is not None:
            place.job = replace(place.job, webhook_status=webhook_status)

    async def requeue(self, lease: Lease) -> None:
        """There is nobody to give it to: it stays open, until it is said to be lost."""

    async def get_response(self, job: Job) -> bytes | None:
        """The answer; from now on it counts as fetched."""
        self._forget_old()
        place = self._places.get(job.id)
        if place is None or not place.answer:
            return None
        place.fetched = True
        return place.answer

    async def cancel(self, job: Job) -> None:
        """Cancel or forget."""
        place = self._places.get(job.id)
        if place is None:
            return
        if place.job.is_open:
            place.job = replace(place.job, status="cancelled", finished=self._clock())
        elif place.job.status != "cancelled":
            place.job = replace(place.job, status="expired")
        place.call = place.answer = b""
        place.token = ""

    async def fail(self, job: Job, answer: bytes) -> None:
        """Fail it."""
        place = self._places[job.id]
        place.job = replace(place.job, status="failed", finished=self._clock())
        place.call, place.answer, place.token = b"", answer, ""

    def undelivered(self) -> list[Job]:
        """Open, or finished and fetched by nobody."""
        self._forget_old()
        return [
            place.job
            for place in self._places.values()
            if place.job.is_open or (place.answer and not place.fetched)
        ]

    def _held(self, lease: Lease) -> _Entry | None:
        place = self._places.get(lease.job.id)
        return place if place and place.token and place.token == lease.token else None

    def _forget_old(self) -> None:
        """What expired loses its contents at once, and is forgotten after as long again."""
        now = self._clock()
        for place in list(self._places.values()):
            if place.job.as_of(now).status == "expired":
                place.job = place.job.as_of(now)
                place.call = place.answer = b""
            if not place.job.is_open and now > 2 * place.job.expires - place.job.created:
                del self._places[place.job.id]
