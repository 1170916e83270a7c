"""Jobs and their webhooks as the settings have them.

In Redis when there is one and a key to encrypt with, otherwise in this process.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from service.jobs.documents import job_document
from service.jobs.execution import JobContext
from service.jobs.job_queue import JobQueue
from service.jobs.jobs import Job, JobStore
from service.jobs.memory_store import MemoryJobStore
from service.jobs.redis_store import RedisJobStore
from service.jobs.webhooks import Webhooks
from service.observability.metrics import Metrics
from service.settings import Settings
from service.storage.encrypted_redis import EncryptedRedis
from service.storage.encryption import Cipher


def check_settings(settings: Settings) -> None:
    """Raises ValueError for a key or a target that cannot be used, before anything is opened."""
    _webhooks(settings, Metrics())
    if settings.jobs_key is not None:
        Cipher.from_base64(settings.jobs_key.get_secret_value())


@asynccontextmanager
async def open_jobs(
    context: JobContext, encrypted: EncryptedRedis | None
) -> AsyncIterator[tuple[JobQueue, Webhooks]]:
    """Within, jobs are done. Raises ValueError for a target that cannot be used."""
    async with AsyncExitStack() as stack:
        webhooks = await stack.enter_async_context(_webhooks(context.settings, context.metrics))
        store = _store(context.settings, encrypted)

        async def notify(job: Job) -> bool:
            assert job.webhook is not None
            failure = await jobs.get_response(job) if job.status == "failed" else None
            document = job_document(job, store.location, failure)
            return await webhooks.deliver(job.webhook, document, job.id)

        jobs = await stack.enter_async_context(JobQueue(store, context, notify))
        yield jobs, webhooks


def _store(settings: Settings, encrypted: EncryptedRedis | None) -> JobStore:
    if encrypted is None:
        return MemoryJobStore(capacity=settings.job_capacity, most_bytes=settings.job_memory_bytes)
    return RedisJobStore(
        encrypted.url,
        encrypted.cipher,
        capacity=settings.job_capacity,
        lease_seconds=settings.job_lease_seconds,
    )


def _webhooks(settings: Settings, metrics: Metrics) -> Webhooks:
    secret = settings.webhook_secret.get_secret_value() if settings.webhook_secret else None
    return Webhooks(
        settings.webhook_targets,
        settings.webhook_private_targets,
        secret,
        metrics,
        seconds=settings.webhook_seconds,
    )
