"""Optional Redis: every caller can go on without it, so none waits for it. A failure is a counted
`RedisUnavailable` with a reason; after one that cost time, Redis is not used for PAUSE_SECONDS. The
short commands of every request share one connection (`send`, then `receive`); longer or rare ones
(`execute`) take a connection of a pool. Clients are made here and nowhere else.
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
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.observability.metrics import Metrics
from service.settings import Settings
from service.storage.redis_pipeline import PipelinedConnection

CONNECTIONS = 16
PAUSE_SECONDS = 1.0  # without Redis after it was unavailable or slow
# By the label of the metric, which dashboards know.
REASONS = {
    "gone": "no connection",
    "slow": "no answer in time",
    "full": "its memory is full",
    "refused": "it refused the command",
    "garbled": "its answer makes no sense",
    "resting": "not asked, since it failed a moment ago",
}
T = TypeVar("T")
log = logging.getLogger(__name__)


class RedisUnavailable(Exception):
    """No answer from Redis. `reason` is one of REASONS."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"Redis is unavailable: {REASONS[reason]}")
        self.reason = reason


def open_client(url: str, *, timeout_seconds: float, connections: int = CONNECTIONS) -> Client:
    """A client that connects when it is first used.

    Each step of a command may take `timeout_seconds`; nothing is sent twice. For a command that
    waits on purpose (BLOCK), open one with a timeout above that wait. Close it with
    `await client.aclose()`.
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
    """A Redis that may fail, one for a gateway.

    `purpose`, a label of the metric, names its user.
    """

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
        self._pipeline = PipelinedConnection(self.client.connection_pool)
        self._paused_until = float("-inf")
        self._failing = False
        self._detached: set[asyncio.Future[Any]] = set()

    async def execute(self, purpose: str, command: Callable[[Client], Awaitable[T]]) -> T:
        """The answer to `command(client)` within the timeout. Raises RedisUnavailable.

        A command is never cut off half-way, which would cost its connection: after the timeout it
        ends by itself.
        """
        if self._clock() < self._paused_until:
            raise self.failed(purpose, "resting")
        task = self._detach(command(self.client))
        try:
            async with asyncio.timeout(self.timeout_seconds):
                answer = await asyncio.shield(task)
        except Exception as error:  # also what its client says of an answer that is none
            raise self._failed_with(purpose, error) from error
        self._recovered()
        return answer

    def send(self, *command: bytes | str | int) -> asyncio.Future[Any]:
        """The future of a command, which is sent with those of the same moment. `receive` awaits
        it.
        """
        if self._clock() >= self._paused_until:
            return self._pipeline.send(command, self.timeout_seconds)
        paused = asyncio.get_running_loop().create_future()
        paused.set_result(RedisUnavailable("resting"))
        return paused

    async def receive(self, purpose: str, sent: asyncio.Future[Any]) -> Any:
        """The answer to what was sent. Raises RedisUnavailable."""
        answer = await sent
        if isinstance(answer, RedisUnavailable):
            raise self.failed(purpose, answer.reason)
        if isinstance(answer, Exception):
            raise self._failed_with(purpose, answer) from answer
        self._recovered()
        return answer

    async def close(self) -> None:
        """Wait for pending commands, and disconnect."""
        await asyncio.gather(*self._detached, return_exceptions=True)
        await self._pipeline.close()
        await self.client.aclose()

    def failed(self, purpose: str, reason: str) -> RedisUnavailable:
        """Count a failure, and pause after one that cost time.

        Also for callers that receive an invalid answer: reason "garbled".
        """
        self.metrics.redis_failures.labels(purpose, reason).inc()
        # When Redis is unavailable, the other connections are dead too: each would fail once more.
        # After a surplus answer, each that follows belongs to the command before.
        if reason in ("gone", "garbled"):
            self._detach(self.client.connection_pool.disconnect(inuse_connections=False))
        if reason in ("gone", "slow"):
            self._paused_until = self._clock() + PAUSE_SECONDS
        if not self._failing and reason != "resting":
            self._failing = True
            log.warning("the gateway goes on without Redis: %s", REASONS[reason])
        return RedisUnavailable(reason)

    def _failed_with(self, purpose: str, error: Exception) -> RedisUnavailable:
        return self.failed(purpose, reason_of(error))

    def _recovered(self) -> None:
        if self._failing:
            self._failing = False
            log.warning("Redis answers again")

    def _detach(self, work: Awaitable[T]) -> asyncio.Future[T]:
        task = asyncio.ensure_future(work)
        self._detached.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Future[Any]) -> None:
        self._detached.discard(task)
        if not task.cancelled():
            task.exception()  # its caller has it, or has stopped waiting


def redis_from_settings(settings: Settings, metrics: Metrics) -> Redis | None:
    """The Redis that the settings name, if they name one."""
    if settings.redis_url is None:
        return None
    url, timeout_seconds = settings.redis_url.get_secret_value(), settings.redis_timeout_seconds
    return Redis(url, metrics, timeout_seconds=timeout_seconds)


def reason_of(error: Exception) -> str:
    """Which of REASONS an error is."""
    if isinstance(error, TimeoutError | RedisTimeoutError):
        return "slow"
    if isinstance(error, OutOfMemoryError):
        return "full"
    if isinstance(error, RedisConnectionError | OSError):
        return "gone"
    return "refused" if isinstance(error, ResponseError) else "garbled"
