"""What outlasts a request: jobs, their webhooks, and answers kept for an Idempotency-Key; in Redis when there is one and a key to seal
with, otherwise in this process."""

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from service.api.idempotency import (
    Idempotency,
    IdempotencyStore,
    MemoryIdempotencyStore,
    RedisIdempotencyStore,
)
from service.api.job_routes import told as document
from service.api.pipeline import told
from service.inference.admission import Admission
from service.inference.model_registry import ModelRegistry
from service.jobs.jobs import Job, JobQueue, JobStore
from service.jobs.memory_store import MemoryJobStore
from service.jobs.redis_store import RedisJobStore
from service.jobs.webhooks import Webhooks
from service.observability.metrics import Metrics
from service.settings import Settings
from service.storage.encryption import Cipher
from service.storage.redis import Redis

RUNNING_SECONDS = (
    10.0  # over the longest deadline, for which an Idempotency-Key is blocked when its gateway died
)
LEAST_REDIS_SECONDS = 1.0  # answers are larger than what the cache keeps, and nobody waits for them
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Background:
    """The three of them, open."""

    jobs: JobQueue
    webhooks: Webhooks
    idempotency: Idempotency


def check(settings: Settings) -> None:
    """Raises ValueError for a key or a target that cannot be used, before anything is opened."""
    _webhooks(settings, Metrics())
    if settings.jobs_key is not None:
        Cipher.from_base64(settings.jobs_key.get_secret_value())


@asynccontextmanager
async def background_from_settings(
    settings: Settings, admission: Admission, models: ModelRegistry, metrics: Metrics
) -> AsyncIterator[Background]:
    """As the settings have it. Raises ValueError for a key or a target that cannot be used."""
    async with AsyncExitStack() as stack:
        hooks = await stack.enter_async_context(_webhooks(settings, metrics))
        cipher, store, memory = await _places(settings, metrics, stack)

        async def tell(job: Job) -> bool:
            assert job.webhook is not None
            failed = await jobs.get_response(job) if job.status == "failed" else None
            return await hooks.call(job.webhook, document(job, store.location, failed), job.id)

        jobs = await stack.enter_async_context(
            JobQueue(
                store,
                settings,
                admission,
                models,
                metrics,
                told=partial(told, headers={}),
                tell=tell,
            )
        )
        running_seconds = settings.max_deadline_seconds + RUNNING_SECONDS
        once = Idempotency(
            memory,
            cipher,
            metrics,
            seconds=settings.idempotency_seconds,
            running_seconds=running_seconds,
        )
        yield Background(jobs, hooks, once)


def _webhooks(settings: Settings, metrics: Metrics) -> Webhooks:
    secret = settings.webhook_secret.get_secret_value() if settings.webhook_secret else None
    return Webhooks(
        settings.webhook_targets,
        settings.webhook_private_targets,
        secret,
        metrics,
        seconds=settings.webhook_seconds,
    )


async def _places(
    settings: Settings, metrics: Metrics, stack: AsyncExitStack
) -> tuple[Cipher, JobStore, IdempotencyStore]:
    if settings.redis_url is not None and settings.jobs_key is not None:
        url, cipher = (
            settings.redis_url.get_secret_value(),
            Cipher.from_base64(settings.jobs_key.get_secret_value()),
        )
        redis = Redis(
            url, metrics, timeout_seconds=max(settings.redis_timeout_seconds, LEAST_REDIS_SECONDS)
        )
        stack.push_async_callback(redis.close)
        jobs = RedisJobStore(
            url, cipher, most=settings.job_capacity, lease_seconds=settings.job_lease_seconds
        )
        return cipher, jobs, RedisIdempotencyStore(redis, cipher)
    if settings.redis_url is not None:
        log.warning(
            "jobs and repeatable answers stay in this process: they may go to Redis only sealed, and AFFECTGAN_JOBS_KEY is missing"
        )
    memory = MemoryIdempotencyStore(most_bytes=settings.idempotency_memory_bytes)
    return (
        Cipher.with_random_key(),
        MemoryJobStore(most=settings.job_capacity, most_bytes=settings.job_memory_bytes),
        memory,
    )
