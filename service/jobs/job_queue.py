"""The jobs of one gateway: accepted from clients, done by workers, and handed over when the gateway
closes.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any, Self

from service.inference.inference_request import InferenceRequest
from service.jobs.execution import JobContext, execute, retry, stored_problem
from service.jobs.jobs import Job, JobQueueFull, JobStore, Lease, Status, StoreUnavailable
from service.problems import Problem
from service.storage.stored_response import StoredResponse

HEARTBEAT_SECONDS = 1.0
DRAIN_POLL_SECONDS = 0.05
WATCH_SECONDS = 2.0  # between checks of the backlog
LOST_NOTICE_SECONDS = 2.0  # for which the documents of lost jobs can still be fetched
log = logging.getLogger(__name__)


class JobQueue:
    """`async with JobQueue(...)` works on the jobs of a store.

    `notify` calls the webhook of a job that has one, and returns whether it was delivered.
    """

    def __init__(
        self,
        store: JobStore,
        context: JobContext,
        notify: Callable[[Job], Coroutine[Any, Any, bool]],
    ) -> None:
        self.store, self.context, self.settings = store, context, context.settings
        self._notify = notify
        self._workers: set[asyncio.Task[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepted: dict[str, Job] = {}  # accepted by this gateway and not finished
        self._closing = False

    async def __aenter__(self) -> Self:
        await self.store.open()
        for _ in range(self.settings.job_workers):
            self._start(self._work(), self._workers)
        self._start(self._watch(), self._tasks)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()
        await self.store.close()

    # -- clients ---------------------------------------------------------------------------------

    async def accept(
        self,
        request: InferenceRequest,
        owner: str,
        *,
        response_media_type: str | None = None,
        webhook: str | None = None,
    ) -> Job:
        """A job for the request.

        Raises Problem when it would fail at once or there is no room, and StoreUnavailable.
        """
        draining = self.context.admission.draining and self.store.location == "memory"
        if self._closing or draining:
            raise Problem(
                "draining",
                "this gateway is shutting down and would lose the job; try again",
                headers={"Retry-After": "5"},
            )
        request.check_version(self.context.models)
        now = time.time()
        job = Job(
            id=secrets.token_urlsafe(24),
            owner=owner,
            operation=request.operation,
            images=request.image_count,
            created=now,
            expires=now + self.settings.job_seconds,
            response_media_type=response_media_type,
            webhook=webhook,
            webhook_status="waiting" if webhook else "none",
        )
        await self._add(job, request)
        return job

    async def find_owned(self, job_id: str, owner: str) -> Job:
        """The job, for who made it. Raises Problem: 404."""
        job = await self.store.find(job_id)
        if job is None or not secrets.compare_digest(job.owner, owner):
            raise Problem("not_found", "no such job: it is long over, or was made with another key")
        return job.as_of(time.time())

    async def get_response(self, job: Job) -> StoredResponse | None:
        """The response of a job that is done or failed, as long as it is kept."""
        content = await self.store.get_response(job)
        return None if content is None else StoredResponse.from_bytes(content)

    @property
    def is_working(self) -> bool:
        """Whether every worker of this gateway still takes jobs."""
        return len(self._workers) == self.settings.job_workers

    async def drain(self) -> None:
        """Returns when the gateway can close without losing a job. Jobs in memory are finished and
        fetched, or failed, which their documents show for LOST_NOTICE_SECONDS; jobs in Redis are
        requeued.
        """
        end = time.monotonic() + self.settings.job_drain_seconds
        while self.store.undelivered() and time.monotonic() < end:
            await asyncio.sleep(DRAIN_POLL_SECONDS)
        await self._stop()
        if await self._fail_lost():
            await asyncio.sleep(LOST_NOTICE_SECONDS)

    async def _add(self, job: Job, request: InferenceRequest) -> None:
        try:
            await self.store.add(job, await asyncio.to_thread(request.to_bytes))
        except JobQueueFull as full:
            self._count(job, "refused")
            headers = {"Retry-After": "30"}
            raise Problem("overloaded", f"{full}; try again", headers=headers) from None
        self._accepted[job.id] = job
        self._count(job, "accepted")

    # -- operators -------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Update the metrics of waiting and of lost jobs."""
        while True:
            try:
                backlog = await self.store.backlog()
                self.context.metrics.jobs_waiting.set(backlog.jobs)
                self.context.metrics.jobs_oldest.set(backlog.oldest_seconds)
                await self._count_lost()
            except StoreUnavailable as error:
                log.info("how many jobs wait is not known: %s", error)
            except Exception:  # Redis may hold anything
                log.exception("how many jobs wait is not known")
            await asyncio.sleep(WATCH_SECONDS)

    async def _count_lost(self) -> None:
        """Jobs that were accepted here and that are missing from the store before they expire:
        Redis was restarted empty.
        """
        accepted = list(self._accepted.values())
        statuses = await self.store.statuses([job.id for job in accepted])
        for job, status in zip(accepted, statuses, strict=True):
            if status in ("queued", "running"):
                continue
            del self._accepted[job.id]
            if status is None and time.time() < job.expires:
                self._count(job, "lost")
                log.error("job %s is lost: the store knows it no more", job.id[:6])

    # -- work ------------------------------------------------------------------------------------

    async def _work(self) -> None:
        """A worker: one job after the other. Webhooks are called beside them.

        Whatever a store answers, the worker goes on: nothing would restart it.
        """
        failing = False
        while not self._closing:
            try:
                lease, failing = await self.store.take(), False
            except Exception as error:
                if not failing:
                    is_unavailable = isinstance(error, StoreUnavailable)
                    log.warning("no job can be taken: %s", error, exc_info=not is_unavailable)
                failing = True
                await asyncio.sleep(HEARTBEAT_SECONDS)
                continue
            if lease is None:
                continue
            work = self._run if lease.job.is_open else self._call_webhook
            task = self._start(self._hold(lease, work), self._tasks)
            if lease.job.is_open:
                await asyncio.wait({task})

    async def _hold(self, lease: Lease, work: Callable[[Lease], Awaitable[None]]) -> None:
        """Do the work while the lease lasts, and renew it. A failed job does not end the worker."""
        task = asyncio.current_task()
        assert task is not None
        heartbeat = asyncio.create_task(self._renew(lease, task))
        try:
            await work(lease)
        except asyncio.CancelledError:
            self._count(lease.job, "dropped")
            if self._closing and lease.job.is_open:
                await self._requeue(lease)
            raise
        except StoreUnavailable as error:
            log.warning("job %s is left until its lease is over: %s", lease.job.id[:6], error)
        except Exception:
            log.exception("job %s is left until its lease is over", lease.job.id[:6])
        finally:
            heartbeat.cancel()

    async def _renew(self, lease: Lease, work: "asyncio.Task[None]") -> None:
        """Renew the lease; cancel the work once the job was cancelled or another has taken it."""
        while True:
            await asyncio.sleep(min(HEARTBEAT_SECONDS, self.settings.job_lease_seconds / 3))
            try:
                if not await self.store.heartbeat(lease):
                    work.cancel()
                    return
            except Exception as error:
                log.warning("the lease of a job is not renewed: %r", error)

    async def _run(self, lease: Lease) -> None:
        try:
            end = await execute(self.context, self.store, lease)
        except StoreUnavailable:
            raise
        except Exception:
            log.exception("job %s failed", lease.job.id[:6])
            detail = "this is our fault; the log knows more under the job's id"
            end = "failed", stored_problem(lease.job, Problem("internal", detail))
        if end is not None:
            await self._finish(lease, *end)

    async def _finish(self, lease: Lease, status: Status, response: StoredResponse) -> None:
        expires = time.time() + self.settings.job_seconds
        finish = partial(self.store.finish, lease, status, response.to_bytes(), expires)
        # A response is worth waiting for an unavailable store.
        written = await retry(finish, 2 * self.settings.job_lease_seconds, _is_store_unavailable)
        self._count(lease.job, status if written else "dropped")
        if written and lease.job.webhook is not None:
            finished = replace(lease, job=replace(lease.job, status=status))
            self._start(self._hold(finished, self._call_webhook), self._tasks)

    async def _call_webhook(self, lease: Lease) -> None:
        """Call the webhook, also in place of a gateway that ended."""
        job = await self.store.find(lease.job.id)
        if job is not None:
            delivered = await self._notify(job)
            await self.store.record_webhook(lease, "delivered" if delivered else "failed")

    # -- the end ---------------------------------------------------------------------------------

    async def _stop(self) -> None:
        """End the work: jobs of Redis go back to it; those of this memory stay open."""
        self._closing = True
        self.store.wake(len(self._workers))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._workers, return_exceptions=True)

    async def _fail_lost(self) -> int:
        """Fail the open jobs in memory, and call their webhooks. Returns how many jobs."""
        lost = [job for job in self.store.undelivered() if job.is_open]
        detail = "the gateway that held it in memory was stopped; send the request again"
        for job in lost:
            response = stored_problem(job, Problem("job_lost", detail))
            await self.store.fail(job, response.to_bytes())
            self._count(job, "lost")
        failed = [await self.store.find(job.id) for job in lost if job.webhook is not None]
        calls = {asyncio.create_task(self._notify(job)) for job in failed if job is not None}
        if calls:
            await asyncio.wait(calls, timeout=LOST_NOTICE_SECONDS)
        return len(lost)

    async def _requeue(self, lease: Lease) -> None:
        try:
            await self.store.requeue(lease)
        except StoreUnavailable as error:
            log.warning("a job goes back only when its lease is over: %s", error)

    def _start(
        self, work: Coroutine[Any, Any, None], tasks: "set[asyncio.Task[None]]"
    ) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return task

    def _count(self, job: Job, outcome: str) -> None:
        self.context.metrics.jobs.labels(job.operation, outcome).inc()


def _is_store_unavailable(error: BaseException) -> bool:
    return isinstance(error, StoreUnavailable)
