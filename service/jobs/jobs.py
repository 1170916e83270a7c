"""What a job is: a request whose answer is fetched later (`Prefer: respond-async`).

Where jobs wait is a `JobStore`: this process's memory (service/jobs/memory_store.py) or Redis
(service/jobs/redis_store.py). A gateway takes a job on a lease (service/jobs/job_queue.py) and does
it in slices (service/jobs/execution.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, Self

from affect.archive import Operation

Status = Literal["queued", "running", "done", "failed", "cancelled", "expired"]
WebhookStatus = Literal["none", "waiting", "delivered", "failed"]


@dataclass(frozen=True)
class Job:
    """`images` pictures or items sent by `owner`, `done` of them answered.

    Times are Unix seconds. `response_media_type` is that of a picture which is to be the whole
    response; None: JSON.
    """

    id: str
    owner: str
    operation: Operation
    images: int
    created: float
    expires: float
    response_media_type: str | None = None
    webhook: str | None = None
    status: Status = "queued"
    done: int = 0
    attempts: int = 0
    started: float | None = None
    finished: float | None = None
    webhook_status: WebhookStatus = "none"

    @property
    def path(self) -> str:
        """Of its document."""
        return f"/v1/jobs/{self.id}"

    @property
    def is_open(self) -> bool:
        """It has not come to an end."""
        return self.status in ("queued", "running")

    def as_of(self, now: float) -> Self:
        """The job as its document shows it at this time."""
        expired = now >= self.expires and self.status in ("queued", "done", "failed")
        return replace(self, status="expired") if expired else self


@dataclass(frozen=True)
class Lease:
    """A leased job. Only the gateway that took it knows the `token`: a gateway that was presumed
    dead cannot finish a job that another has taken over.
    """

    job: Job
    token: str
    entry: str = ""


@dataclass(frozen=True)
class Backlog:
    """Jobs that have not begun, and for how many seconds the oldest of them has waited."""

    jobs: int = 0
    oldest_seconds: float = 0.0


class JobQueueFull(Exception):
    """The queue is full."""


class StoreUnavailable(Exception):
    """The store does not answer."""


class JobStore(Protocol):
    """Where jobs wait. Every call may raise StoreUnavailable.

    A call with an expired lease changes nothing and returns False.
    """

    location: Literal["memory", "redis"]

    async def open(self) -> None:
        """Make ready."""
        ...

    async def close(self) -> None:
        """Disconnect."""
        ...

    async def add(self, job: Job, request: bytes) -> None:
        """Queue a job. Raises JobQueueFull."""
        ...

    async def find(self, job_id: str) -> Job | None:
        """The job, if it is still known."""
        ...

    async def statuses(self, job_ids: Sequence[str]) -> list[Status | None]:
        """Of each of these jobs; None: it is not known."""
        ...

    async def backlog(self) -> Backlog:
        """The waiting jobs."""
        ...

    async def take(self) -> Lease | None:
        """The next job to run, or one whose webhook is to be called.

        None when there was none for about a second.
        """
        ...

    def wake(self, takers: int) -> None:
        """Let so many waiting `take` calls return None early, where the store can."""
        ...

    async def get_request(self, job: Job) -> bytes | None:
        """As it was added, until the job ends."""
        ...

    async def heartbeat(self, lease: Lease, done: int | None = None) -> bool:
        """Renew the lease, and record how much is done."""
        ...

    async def finish(self, lease: Lease, status: Status, response: bytes, expires: float) -> bool:
        """Write the response, once, and forget the request."""
        ...

    async def record_webhook(self, lease: Lease, webhook_status: WebhookStatus) -> None:
        """The webhook's outcome; nothing is left to do."""
        ...

    async def requeue(self, lease: Lease) -> None:
        """Queue it again for another gateway."""
        ...

    async def get_response(self, job: Job) -> bytes | None:
        """The stored response, until it expires."""
        ...

    async def cancel(self, job: Job) -> None:
        """Cancel a job that is open; forget the response of one that is not."""
        ...

    async def fail(self, job: Job, response: bytes) -> None:
        """Fail a job that `undelivered` named."""
        ...

    def undelivered(self) -> list[Job]:
        """Jobs that would be lost with this process: open, or finished and not fetched."""
        ...
