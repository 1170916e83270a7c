"""The Redis that jobs and answers to repeated requests may go to: with a key to encrypt with."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from service.observability.metrics import Metrics
from service.settings import Settings
from service.storage.encryption import Cipher
from service.storage.redis import Redis

# answers are larger than those of the cache, and no request waits for them
LEAST_TIMEOUT_SECONDS = 1.0
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EncryptedRedis:
    """A Redis that may fail, its address, and the cipher for what goes there."""

    redis: Redis
    url: str
    cipher: Cipher


@asynccontextmanager
async def encrypted_redis_from_settings(
    settings: Settings, metrics: Metrics
) -> AsyncIterator[EncryptedRedis | None]:
    """Within, it is open; None without a Redis or without a key. Raises ValueError for a key that
    is none.
    """
    if settings.redis_url is None or settings.jobs_key is None:
        if settings.redis_url is not None:
            log.warning(
                "jobs and repeatable answers stay in this process: they may go to Redis only "
                "encrypted, and AFFECTGAN_JOBS_KEY is missing"
            )
        yield None
        return
    url = settings.redis_url.get_secret_value()
    cipher = Cipher.from_base64(settings.jobs_key.get_secret_value())
    timeout_seconds = max(settings.redis_timeout_seconds, LEAST_TIMEOUT_SECONDS)
    redis = Redis(url, metrics, timeout_seconds=timeout_seconds)
    try:
        yield EncryptedRedis(redis, url, cipher)
    finally:
        await redis.close()
