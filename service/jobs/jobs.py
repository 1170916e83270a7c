"""Jobs: requests whose answer is fetched later (`Prefer: respond-async`). What a job is, who does it, and what is promised about it.

Where jobs wait is a `JobStore`: this process's memory (service/jobs/memory_store.py) or Redis (service/jobs/redis_store.py). A gateway takes a job on
a lease and does it in slices, each admitted like a request, so that progress moves, a cancelled job ends within a slice, and
whoever waits for an answer is not kept from it by a large job.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, Protocol, Self, TypeVar

from starlette.responses import Response
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_random_exponential

from affect.archive import Operation
from service.backend.interface import BackendError, BackendOverloaded, BackendUnavailable
from service.inference.admission import Admission
from service.inference.inference_request import InferenceRequest
from service.inference.model_registry import ModelRegistry, Version
from service.inference.results import InferenceResult
from service.observability.metrics import Metrics
from service.problems import Problem, problem_from_backend, problem_response
from service.settings import Settings
from service.storage.stored_response import StoredResponse

Status = Literal["queued", "running", "done", "failed", "cancelled", "expired"]
WebhookStatus = Literal["nobody", "waiting", "delivered", "failed"]
MOST_ATTEMPTS = 3  # a job whose gateway died three times is likely to be why
PATIENCE_SECONDS = 300.0  # of a slice, with a house that is full or a model server that is away
BEAT_SECONDS = 1.0
LAST_WORDS_SECONDS = 2.0  # in which clients that ask again hear that their job is lost
T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """`images` pictures or items asked for by `owner`, `done` of them answered. Times are Unix seconds.

    `response_media_type` is that of a picture which is to be the whole response; None: JSON.
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
    webhook_status: WebhookStatus = "nobody"

    @property
    def path(self) -> str:
        """Where it is told about."""
        return f"/v1/jobs/{self.id}"

    @property
    def is_open(self) -> bool:
        """It has not come to an end."""
        return self.status in ("queued", "running")

    def as_of(self, now: float) -> "Job":
        """The job as it is to be told at this time."""
        return (
            replace(self, status="expired")
            if now >= self.expires and self.status in ("queued", "done", "failed")
            else self
        )


@dataclass(frozen=True)
class Lease:
    """A job taken. `token` is its taker's alone: who was thought dead and comes back cannot finish what another took over."""

    job: Job
    token: str
    entry: str = ""


class JobQueueFull(Exception):
    """As many jobs wait as may."""


class StoreUnavailable(Exception):
    """The store does not answer."""


class JobStore(Protocol):
    """Where jobs wait. Every call may raise StoreUnavailable. What a lease no longer holds is not changed through it: the call returns False."""

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

    async def take(self) -> Lease | None:
        """The next job to run, or one whose end is to be told; None when there was none for about a second."""
        ...

    async def get_request(self, job: Job) -> bytes | None:
        """What is asked, as long as it waits."""
        ...

    async def heartbeat(self, lease: Lease, done: int | None = None) -> bool:
        """Renew the lease, and say how much is done."""
        ...

    async def finish(self, lease: Lease, status: Status, response: bytes, expires: float) -> bool:
        """Write the answer, once, and forget what was asked."""
        ...

    async def record_webhook(self, lease: Lease, webhook_status: WebhookStatus) -> None:
        """The webhook's outcome; nothing is left to do."""
        ...

    async def requeue(self, lease: Lease) -> None:
        """Queue it again: this gateway will not do it."""
        ...

    async def get_response(self, job: Job) -> bytes | None:
        """The answer, as long as it is kept."""
        ...

    async def cancel(self, job: Job) -> None:
        """Cancel a job that is open; forget the answer of one that is not."""
        ...

    async def fail(self, job: Job, response: bytes) -> None:
        """Fail a job that `undelivered` named."""
        ...

    def undelivered(self) -> list[Job]:
        """Jobs that would be lost with this process: open, or finished and not fetched by anyone."""
        ...


class JobQueue:
    """The jobs of one gateway: `async with JobQueue(...)` works on them. `render` makes a result a response, `tell` calls a webhook."""

    def __init__(
        self,
        store: JobStore,
        settings: Settings,
        admission: Admission,
        models: ModelRegistry,
        metrics: Metrics,
        *,
        render: Callable[[InferenceResult, str | None], Response],
        tell: Callable[[Job], Coroutine[Any, Any, bool]],
    ) -> None:
        self.store, self.settings, self.admission, self.models, self.metrics = (
            store,
            settings,
            admission,
            models,
            metrics,
        )
        self._render, self._tell = render, tell
        self._workers: set[asyncio.Task[None]] = set()
        self._work: set[asyncio.Task[None]] = set()
        self._closing = False

    async def __aenter__(self) -> Self:
        await self.store.open()
        for _ in range(self.settings.job_workers):
            self._start(self._take(), self._workers)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()
        await self.store.close()

    # -- clients -------------------------------------------------------------------------------------------------

    async def accept(
        self,
        call: InferenceRequest,
        owner: str,
        *,
        response_media_type: str | None = None,
        webhook: str | None = None,
    ) -> Job:
        """A job for the call. Raises Problem when it would fail at once or there is no room, StoreUnavailable when there is no store."""
        if self._closing or (self.admission.draining and self.store.location == "memory"):
            raise Problem(
                "draining",
                "this gateway is shutting down and would lose the job; try again",
                headers={"Retry-After": "5"},
            )
        call.check_version(self.models)
        now = time.time()
        job = Job(
            id=secrets.token_urlsafe(24),
            owner=owner,
            operation=call.operation,
            images=call.image_count,
            created=now,
            expires=now + self.settings.job_seconds,
            response_media_type=response_media_type,
            webhook=webhook,
            webhook_status="waiting" if webhook else "nobody",
        )
        try:
            await self.store.add(job, await asyncio.to_thread(call.to_bytes))
        except JobQueueFull as full:
            self._count(job, "refused")
            raise Problem(
                "overloaded", f"{full}; try again", headers={"Retry-After": "30"}
            ) from None
        self._count(job, "accepted")
        return job

    async def find_owned(self, job_id: str, owner: str) -> Job:
        """The job, for who made it. Raises Problem: 404."""
        job = await self.store.find(job_id)
        if job is None or not secrets.compare_digest(job.owner, owner):
            raise Problem("not_found", "no such job: it is long over, or was made with another key")
        return job.as_of(time.time())

    async def get_response(self, job: Job) -> StoredResponse | None:
        """The answer of a job that is done or failed, as long as it is kept."""
        content = await self.store.get_response(job)
        return None if content is None else StoredResponse.from_bytes(content)

    async def drain(self) -> None:
        """Returns when nothing is lost by closing: jobs of this memory are finished and fetched, those of Redis are back in it.

        Jobs of this memory that are not finished in time are failed, and say so as long as the doors are open.
        """
        end = time.monotonic() + self.settings.job_drain_seconds
        while self.store.undelivered() and time.monotonic() < end:
            await asyncio.sleep(0.05)
        await self._stop()
        if await self._lose():
            await asyncio.sleep(LAST_WORDS_SECONDS)

    # -- work ----------------------------------------------------------------------------------------------------

    async def _take(self) -> None:
        """A worker: one job after the other."""
        ill = False
        while not self._closing:
            try:
                lease, ill = await self.store.take(), False
            except StoreUnavailable as error:
                if not ill:
                    log.warning("no job can be taken: %s", error)
                ill = True
                await asyncio.sleep(BEAT_SECONDS)
                continue
            if lease is None:
                continue
            task = self._start(
                self._hold(lease, self._run if lease.job.is_open else self._inform), self._work
            )
            if lease.job.is_open:
                await asyncio.wait({task})

    async def _hold(self, lease: Lease, work: Callable[[Lease], Awaitable[None]]) -> None:
        """Work while the lease lasts, renewing it. Whatever goes wrong, the worker goes on with the next one."""
        task = asyncio.current_task()
        assert task is not None
        beat = asyncio.create_task(self._beat(lease, task))
        try:
            await work(lease)
        except asyncio.CancelledError:
            self._count(lease.job, "dropped")
            if self._closing and lease.job.is_open:
                await self._leave(lease)
            raise
        except StoreUnavailable as error:
            log.warning("job %s is left until its lease is over: %s", lease.job.id[:6], error)
        finally:
            beat.cancel()

    async def _beat(self, lease: Lease, work: "asyncio.Task[None]") -> None:
        """Renew the lease; stop the work when there is none, because somebody cancelled the job or took it over."""
        while True:
            await asyncio.sleep(min(BEAT_SECONDS, self.settings.job_lease_seconds / 3))
            try:
                if not await self.store.heartbeat(lease):
                    work.cancel()
                    return
            except StoreUnavailable as error:
                log.warning("the lease of a job is not renewed: %s", error)

    async def _run(self, lease: Lease) -> None:
        job = lease.job
        status: Status = "failed"
        try:
            result = await self._compute(lease)
            if result is None:
                return
            response = await asyncio.to_thread(self._render, result, job.response_media_type)
            status = "done"
        except (Problem, BackendError) as error:
            response = problem_response(
                problem_from_backend(error) if isinstance(error, BackendError) else error,
                job.path,
                job.id,
            )
        except StoreUnavailable:
            raise
        except Exception:
            log.exception("job %s failed", job.id[:6])
            response = problem_response(
                Problem("internal", "this is our fault; the log knows more under the job's id"),
                job.path,
                job.id,
            )
        await self._finish(lease, status, StoredResponse.from_response(response))

    async def _compute(self, lease: Lease) -> InferenceResult | None:
        """The result of all slices together; None when the job is no longer ours."""
        if lease.job.attempts > MOST_ATTEMPTS:
            raise Problem(
                "job_lost",
                f"{MOST_ATTEMPTS} gateways ended while they were at it; send fewer pictures in a job",
            )
        content = await self.store.get_request(lease.job)
        if content is None:
            return None
        request = await asyncio.to_thread(InferenceRequest.from_bytes, content)
        results: list[InferenceResult] = []
        version = request.check_version(self.models)
        with self.models.serving(version.name, version.version):  # one version for all slices
            for start in range(0, request.image_count, self.settings.job_slice_images):
                part = request.slice(start, start + self.settings.job_slice_images)
                compute = partial(self._compute_slice, part, version)
                results.append(await _patiently(compute, PATIENCE_SECONDS, _passing))
                if not await self.store.heartbeat(lease, start + part.image_count):
                    return None
        return type(results[0]).concatenate(results)

    async def _compute_slice(self, part: InferenceRequest, version: Version) -> InferenceResult:
        limiter = self.admission.limiters[part.operation]
        with limiter.background(part.image_count, self.settings.deadline_seconds):
            return await part.run(version.operations, seconds=self.settings.max_deadline_seconds)

    async def _finish(self, lease: Lease, status: Status, kept: StoredResponse) -> None:
        expires = time.time() + self.settings.job_seconds
        # An answer is worth some waiting for a store that is away.
        finish = partial(self.store.finish, lease, status, kept.to_bytes(), expires)
        written = await _patiently(
            finish,
            2 * self.settings.job_lease_seconds,
            lambda error: isinstance(error, StoreUnavailable),
        )
        self._count(lease.job, status if written else "dropped")
        if written and lease.job.webhook is not None:
            self._start(
                self._hold(replace(lease, job=replace(lease.job, status=status)), self._inform),
                self._work,
            )

    async def _inform(self, lease: Lease) -> None:
        """Call the webhook, now or after the gateway that should have done it is gone."""
        job = await self.store.find(lease.job.id)
        if job is not None:
            await self.store.record_webhook(
                lease, "delivered" if await self._tell(job) else "failed"
            )

    # -- the end -------------------------------------------------------------------------------------------------

    async def _stop(self) -> None:
        """End the work: jobs of Redis go back to it, those of this memory are lost, and say so."""
        self._closing = True
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, *self._workers, return_exceptions=True)

    async def _lose(self) -> int:
        """Jobs of this memory that are open still: their documents say that they are lost, and so do their webhooks."""
        lost = [job for job in self.store.undelivered() if job.is_open]
        for job in lost:
            problem = Problem(
                "job_lost", "the gateway that held it in memory was stopped; send the request again"
            )
            await self.store.fail(
                job,
                StoredResponse.from_response(
                    problem_response(problem, job.path, job.id)
                ).to_bytes(),
            )
            self._count(job, "lost")
        heard = [
            job
            for job in [await self.store.find(job.id) for job in lost]
            if job is not None and job.webhook is not None
        ]
        if heard:
            await asyncio.wait(
                {asyncio.create_task(self._tell(job)) for job in heard}, timeout=LAST_WORDS_SECONDS
            )
        return len(lost)

    async def _leave(self, lease: Lease) -> None:
        try:
            await self.store.requeue(lease)
        except StoreUnavailable as error:
            log.warning("a job goes back only when its lease is over: %s", error)

    def _start(
        self, work: Coroutine[Any, Any, None], among: "set[asyncio.Task[None]]"
    ) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        among.add(task)
        task.add_done_callback(among.discard)
        return task

    def _count(self, job: Job, outcome: str) -> None:
        self.metrics.jobs.labels(job.operation, outcome).inc()


async def _patiently(
    command: Callable[[], Awaitable[T]], seconds: float, passing: Callable[[BaseException], bool]
) -> T:
    """The command's value; tried again while its failures are such as pass, for so long."""
    tries = AsyncRetrying(
        retry=retry_if_exception(passing),
        wait=wait_random_exponential(0.2, max=5),
        stop=stop_after_delay(seconds),
        reraise=True,
    )
    return await tries(command)


def _passing(error: BaseException) -> bool:
    """A house that is full, or a model server that is away."""
    return isinstance(error, BackendOverloaded | BackendUnavailable) or (
        isinstance(error, Problem) and error.code == "overloaded"
    )
