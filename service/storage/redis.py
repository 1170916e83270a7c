"""Redis, when there is one: nothing here needs it, so nothing waits for it. Clients are made here and nowhere else.

A failure is a `RedisUnavailable` with a reason, counted, and after one that cost time Redis is left alone for a moment: whoever asks
goes on without it. Every request asks something short (`send`, then `answer`), on one connection for all; what is longer or rare
(`ask`) takes one of a pool.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from redis.asyncio import BlockingConnectionPool
from redis.asyncio import Redis as Client
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError
from redis.exceptions import TimeoutError as NoAnswerInTime

from service.observability.metrics import Metrics
from service.settings import Settings
from service.storage.redis_pipeline import PipelinedConnection

CONNECTIONS = 16
REST_SECONDS = 1.0  # without Redis after it was gone or slow
T = TypeVar("T")
log = logging.getLogger(__name__)


class RedisUnavailable(Exception):
    """No answer from Redis. `reason`: gone, slow, full, refused, garbled, or resting (not asked, since it failed a moment ago)."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"Redis is of no help: {reason}")
        self.reason = reason


def open_client(url: str, *, timeout_seconds: float, connections: int = CONNECTIONS) -> Client:
    """A client that connects when first asked. Each step of a command may take `timeout_seconds`; nothing is sent twice.

    Who waits on purpose (BLOCK) opens one of his own with a timeout above that wait. Close it with `await client.aclose()`.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=timeout_seconds,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        retry=Retry(NoBackoff(), 0),
    )
    return Client.from_pool(pool)


class Redis:
    """A Redis that may fail. One for a gateway; its users tell each other apart by `purpose`, a label of the metric."""

    def __init__(
        self,
        url: str,
        metrics: Metrics,
        *,
        timeout_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.client = open_client(url, timeout_seconds=timeout_seconds)
        self.metrics, self.timeout_seconds, self._clock = metrics, timeout_seconds, clock
        self._line = PipelinedConnection(self.client.connection_pool)
        self._rests_until = float("-inf")
        self._ill = False
        self._under_way: set[asyncio.Future[Any]] = set()

    async def execute(self, purpose: str, command: Callable[[Client], Awaitable[T]]) -> T:
        """The answer to `command(client)` within the timeout. Raises RedisUnavailable.

        A command is never cut off half-way, which would cost its connection: whoever stops waiting leaves it behind to end by itself.
        """
        if self._clock() < self._rests_until:
            raise self.failed(purpose, "resting")
        task = self._leave_behind(command(self.client))
        try:
            async with asyncio.timeout(self.timeout_seconds):
                answer = await asyncio.shield(task)
        except (
            RedisError,
            OSError,
            TimeoutError,
            ValueError,
        ) as error:  # the last: what cannot be parsed
            raise self._at_fault(purpose, error) from error
        self._well()
        return answer

    def send(self, *command: bytes | str | int) -> asyncio.Future[Any]:
        """A command on its way, together with those sent at the same time. For `answer`, or for nobody."""
        if self._clock() >= self._rests_until:
            return self._line.ask(command, self.timeout_seconds)
        resting = asyncio.get_running_loop().create_future()
        resting.set_result(RedisUnavailable("resting"))
        return resting

    async def receive(self, purpose: str, sent: asyncio.Future[Any]) -> Any:
        """The answer to what was sent. Raises RedisUnavailable."""
        answer = await sent
        if isinstance(answer, RedisUnavailable):
            raise self.failed(purpose, answer.reason)
        if isinstance(answer, Exception):
            raise self._at_fault(purpose, answer) from answer
        self._well()
        return answer

    async def close(self) -> None:
        """Wait for what is under way, and disconnect."""
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self._line.close()
        await self.client.aclose()

    def failed(self, purpose: str, reason: str) -> RedisUnavailable:
        """Count a failure, and rest after one that cost time. For users who find that an answer makes no sense: reason garbled."""
        self.metrics.redis_failures.labels(purpose, reason).inc()
        if reason in ("gone", "slow"):
            self._rests_until = self._clock() + REST_SECONDS
        if not self._ill and reason != "resting":
            self._ill = True
            log.warning("Redis is %s: the gateway goes on without it", reason)
        return RedisUnavailable(reason)

    def _at_fault(self, purpose: str, error: Exception) -> RedisUnavailable:
        reason = reason_of(error)
        if (
            reason == "gone"
        ):  # its other connections are dead too: each would cost a failure of its own
            self._leave_behind(self.client.connection_pool.disconnect(inuse_connections=False))
        return self.failed(purpose, reason)

    def _well(self) -> None:
        if self._ill:
            self._ill = False
            log.warning("Redis answers again")

    def _leave_behind(self, work: Awaitable[T]) -> asyncio.Future[T]:
        task = asyncio.ensure_future(work)
        self._under_way.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Future[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # who asked has seen it, or has stopped waiting


def redis_from_settings(settings: Settings, metrics: Metrics) -> Redis | None:
    """The Redis that the settings name, if they name one."""
    if settings.redis_url is None:
        return None
    return Redis(
        settings.redis_url.get_secret_value(),
        metrics,
        timeout_seconds=settings.redis_timeout_seconds,
    )


def reason_of(error: Exception) -> str:
    """What is wrong with Redis."""
    if isinstance(error, TimeoutError | NoAnswerInTime):
        return "slow"
    if isinstance(error, OutOfMemoryError):
        return "full"
    if isinstance(error, NoConnection | OSError):
        return "gone"
    return "refused" if isinstance(error, ResponseError) else "garbled"
