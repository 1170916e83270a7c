"""Limits of connections: their number, and none that stays idle for ever.

uvicorn waits for ever for the head of a request, takes heads of any length, and lets a client that
does not read its answer keep the connection. When descriptors run out nobody can connect any more,
health checks among them. So there is a limit below that of descriptors, and at the limit the
connection that has been idle for longest is closed.
"""

import asyncio
import errno
import logging
import resource
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.settings import Settings

log = logging.getLogger(__name__)
LONGEST_HEAD_BYTES = 64 << 10
# Descriptors for files, Redis, the model server and what is being accepted.
RESERVED_DESCRIPTORS = 64
LEAST_CONNECTIONS = 16
QUIET_SECONDS = 10.0  # between two log lines about the same
OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


@dataclass
class RateLimitedLog:
    """One line in the log for many events of a kind."""

    text: str
    clock: Callable[[], float] = time.monotonic
    _count: int = 0
    _last: float = -QUIET_SECONDS

    def write(self, *values: object) -> None:
        """Log it, unless that was done within QUIET_SECONDS."""
        self._count += 1
        if self.clock() - self._last >= QUIET_SECONDS:
            log.warning(f"{self.text} (%d since the last such line)", *values, self._count)
            self._count, self._last = 0, self.clock()


@dataclass
class Connections:
    """All connections of a server: how many there may be, and which of them are idle."""

    limit: int
    head_seconds: float
    send_seconds: float
    open: int = 0
    idle: "OrderedDict[BoundedProtocol, None]" = field(default_factory=OrderedDict)
    _crowded: RateLimitedLog = field(
        default_factory=lambda: RateLimitedLog(
            "%d connections are open: the longest idle one is closed"
        )
    )

    @classmethod
    def from_settings(cls, settings: Settings) -> "Connections":
        """The limit of the settings, lowered to what descriptors allow; the soft limit of
        descriptors is raised to the hard one.
        """
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        allowed = max(LEAST_CONNECTIONS, hard - RESERVED_DESCRIPTORS)
        limit = min(settings.connections, allowed)
        return cls(limit, settings.head_seconds, settings.send_seconds)

    def opened(self, connection: "BoundedProtocol") -> None:
        """Count a new connection, which is idle until it has sent the head of a request."""
        self.open += 1
        self.idle[connection] = None
        if self.open > self.limit:
            self._crowded.write(self.open)
            oldest, _ = self.idle.popitem(last=False)
            oldest.transport.abort()

    def closed(self, connection: "BoundedProtocol") -> None:
        """Count a closed connection."""
        self.open -= 1
        self.idle.pop(connection, None)


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP, with a time and a length for heads, and a time for answers to be read."""

    def __init__(self, *args: Any, bounds: Connections, **options: Any) -> None:
        super().__init__(*args, **options)
        self._bounds = bounds
        self._head_bytes = 0  # of a head that has begun
        self._head_timer: asyncio.TimerHandle | None = None
        self._send_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()
        self._bounds.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head_timer, self._send_timer):
            if timer is not None:
                timer.cancel()
        self._head_timer = self._send_timer = None
        self._bounds.closed(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._head_timer is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        # Data after the end of the head belongs to the body, so only a head that continues is too
        # long.
        if self._head_timer is not None and self._head_bytes > LONGEST_HEAD_BYTES:
            self.transport.abort()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._head_timer is None:
            self._expect_head()

    def on_headers_complete(self) -> None:
        self._cancel_head_timer()
        self._bounds.idle.pop(self, None)
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.pipeline and not self.transport.is_closing():
            self._bounds.idle[self] = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._send_timer = self.loop.call_later(self._bounds.send_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None

    def _expect_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(self._bounds.head_seconds, self.transport.abort)

    def _cancel_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def bounded_http(settings: Settings) -> Any:
    """The class for uvicorn's option `http`."""
    return partial(BoundedProtocol, bounds=Connections.from_settings(settings))


class InvalidRequestFilter(logging.Filter):
    """Limits uvicorn's log lines about invalid HTTP, which anybody can cause, to one in a while."""

    def __init__(self) -> None:
        super().__init__()
        self._last = -QUIET_SECONDS

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged."""
        if not record.getMessage().startswith("Invalid HTTP request"):
            return True
        now = time.monotonic()
        if now - self._last < QUIET_SECONDS:
            return False
        self._last = now
        return True


def limit_connection_warnings(loop: asyncio.AbstractEventLoop) -> None:
    """asyncio logs every connection that it cannot accept, two thousand at a time, and uvicorn
    every one that sends what is no HTTP.
    """
    logging.getLogger("uvicorn.error").addFilter(InvalidRequestFilter())
    log_line = RateLimitedLog("no descriptors are left to accept connections with")

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in OUT_OF_DESCRIPTORS:
            log_line.write()
        else:
            loop.default_exception_handler(context)

    loop.set_exception_handler(handle)
