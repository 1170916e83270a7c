"""The body of a request: read within a time and within bounds, before anything is done for it.

Slow senders take no capacity from complete requests: a request is admitted when its body has
arrived. The memory of all bodies together is bounded, and the share of one caller.
"""

import asyncio
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from service.access.authentication import Principal
from service.observability.metrics import Metrics
from service.problems import Problem
from service.settings import Settings

T = TypeVar("T")
# Of a body that is read on the event loop; larger ones are read in a thread.
LOOP_MOST_BYTES = 1 << 17
GZIP = 31  # zlib's name for the format
# A client that is still sending when it is refused has to be disconnected.
CLOSE = {"Connection": "close"}


class BodyReader:
    """Reads the bodies of all requests."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings, self.metrics = settings, metrics
        self._uploads: Counter[str] = Counter()
        self._held: Counter[str] = Counter()  # bytes
        metrics.bodies.set_function(self._held.total)

    @asynccontextmanager
    async def read(self, request: Request[Any], principal: Principal) -> AsyncIterator[bytes]:
        """The body, which counts as held inside the context.

        Raises Problem: 400, 408, 413, 415, 429, 499, 503.
        """
        reservation = _Held(self, principal.id)
        try:
            yield await self._whole(request, principal, reservation)
        finally:
            reservation.release()

    async def _whole(
        self, request: Request[Any], principal: Principal, reservation: "_Held"
    ) -> bytes:
        encoding = request.headers.get("content-encoding", "").strip().lower() or "identity"
        if encoding not in ("identity", "gzip", "x-gzip"):
            raise Problem(
                "unsupported_media_type",
                f"the body is compressed by {encoding!r}; send it as it is, or by gzip",
                headers={"Accept-Encoding": "gzip", **CLOSE},
            )
        seconds = self.settings.body_seconds
        try:
            with self._upload(principal):
                async with asyncio.timeout(seconds):
                    body = await _received(request, reservation)
        except TimeoutError as error:
            detail = f"the body was not there within {seconds:g} s; send less, or faster"
            raise Problem("body_too_slow", detail, headers=CLOSE) from error
        except ClientDisconnect as error:
            detail = "the client closed the connection before its body was through"
            raise Problem("client_gone", detail) from error
        if encoding == "identity":
            return body
        most_bytes = self.settings.max_body_bytes
        content = await off_the_loop(body, lambda: _unpacked(body, most_bytes))
        reservation.add(len(content))
        return content

    @contextmanager
    def _upload(self, principal: Principal) -> Iterator[None]:
        """Inside, one more upload of this caller is counted. Raises Problem: 429."""
        most_uploads = self.settings.caller_uploads
        if self._uploads[principal.id] >= most_uploads:
            detail = f"{most_uploads} of your requests are still being sent; finish some first"
            raise Problem("too_many_at_once", detail, headers=CLOSE, retry_seconds=1)
        self._uploads[principal.id] += 1
        try:
            yield
        finally:
            _subtract(self._uploads, principal.id, 1)

    def hold(self, caller: str, size: int) -> None:
        """Reserve more bytes. Raises Problem when there is no room for them."""
        most_bytes, share = self.settings.bodies_bytes, self.settings.caller_share
        if self._held.total() + size > most_bytes or self._held[caller] + size > share * most_bytes:
            self.metrics.refused.labels("all", "bodies").inc()
            detail = "too much is being sent at once; try again"
            raise Problem("overloaded", detail, headers=CLOSE, retry_seconds=1)
        self._held[caller] += size

    def release(self, caller: str, size: int) -> None:
        """Release reserved bytes."""
        _subtract(self._held, caller, size)


class _Held:
    """The bytes that one request has reserved."""

    def __init__(self, reader: BodyReader, caller: str) -> None:
        self._reader, self._caller, self._size = reader, caller, 0

    def add(self, size: int) -> None:
        self._reader.hold(self._caller, size)
        self._size += size

    def release(self) -> None:
        self._reader.release(self._caller, self._size)


async def off_the_loop(body: bytes, work: Callable[[], T]) -> T:
    """Run `work` in a thread when the body is large, so that the event loop goes on."""
    return await asyncio.to_thread(work) if len(body) > LOOP_MOST_BYTES else work()


async def _received(request: Request[Any], reservation: _Held) -> bytes:
    chunks = []
    async for chunk in request.stream():
        reservation.add(len(chunk))
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _unpacked(body: bytes, most_bytes: int) -> bytes:
    """Raises Problem: 400 for what is no gzip, 413 for what is too much."""
    unpacker = zlib.decompressobj(GZIP)
    try:
        content = unpacker.decompress(body, most_bytes)
    except zlib.error as error:
        raise Problem("malformed", f"the body is no gzip: {error}") from error
    if unpacker.unconsumed_tail:
        raise Problem("body_too_large", f"unpacked, the body has more than {most_bytes:,} bytes")
    if not unpacker.eof:
        raise Problem("malformed", "the body ends before its gzip does")
    return content


def _subtract(counts: Counter[str], caller: str, number: int) -> None:
    counts[caller] -= number
    if not counts[caller]:
        del counts[caller]
