"""One plain ASGI middleware: request id, trace, body limit, time, count, log. (Starlette's
BaseHTTPMiddleware costs four times as much.)
"""

import logging
import re
import secrets
import time
from collections.abc import Mapping

from opentelemetry.trace import Span
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.observability import logging_setup
from service.observability.metrics import Metrics
from service.observability.tracing import Tracing, record_response, traceparent_of
from service.problems import Problem

log = logging.getLogger(__name__)
# Requested every few seconds by probes: logged at DEBUG only.
PROBES = {"/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"}
_ID = re.compile(rb"[\x21-\x7e]{1,128}")


class RequestMiddleware:
    """Wraps the app."""

    def __init__(
        self, app: ASGIApp, *, metrics: Metrics, tracing: Tracing, max_body_bytes: int
    ) -> None:
        self.app, self.metrics, self.tracing = app, metrics, tracing
        self.max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        method, scope = scope["method"], _normalised(scope)
        headers = dict(scope["headers"])
        traceparent = headers.get(b"traceparent", b"").decode("latin-1")
        request_id = _request_id(headers.get(b"x-request-id", b""))
        scope.setdefault("state", {})["request_id"] = request_id
        logging_setup.request_id.set(request_id)
        with self.tracing.request(traceparent) as span:
            body = _LimitedBody(receive, headers, self.max_body_bytes)
            response = _MarkedResponse(send, scope, span)
            start = time.perf_counter()
            try:
                await self.app(scope, body.receive, response.send)
            finally:
                seconds = time.perf_counter() - start
                self._record(method, response, seconds, body.received_bytes)

    def _record(
        self, method: str, response: "_MarkedResponse", seconds: float, body_bytes: int
    ) -> None:
        scope, status = response.scope, response.status
        route = getattr(scope.get("route"), "path", "unmatched")
        self.metrics.request_seconds.labels(method, route, status).observe(seconds)
        record_response(response.span, method, route, status)
        level = logging.DEBUG if route in PROBES else logging.INFO
        if log.isEnabledFor(level):
            fields = {
                "method": method,
                "route": route,
                "status": status,
                "seconds": round(seconds, 6),
                "body_bytes": body_bytes,
            }
            client = scope["client"][0] if scope.get("client") else "unknown"
            text = "%(method)s %(route)s %(status)s in %(seconds)s s"
            log.log(level, text, fields, extra=fields | {"client": client})


class _LimitedBody:
    """The body of a request, as far as it is not too large."""

    def __init__(self, receive: Receive, headers: Mapping[bytes, bytes], most_bytes: int) -> None:
        declared = headers.get(b"content-length", b"")
        self._declared_bytes = int(declared) if declared.isdigit() else 0
        self._receive, self._most_bytes, self.received_bytes = receive, most_bytes, 0

    async def receive(self) -> Message:
        """The next part. Raises Problem: 413."""
        if self._declared_bytes > self._most_bytes:
            raise self._too_large(self._declared_bytes)
        message = await self._receive()
        self.received_bytes += len(message.get("body", b""))
        if self.received_bytes > self._most_bytes:
            raise self._too_large(self.received_bytes)
        return message

    def _too_large(self, size_bytes: int) -> Problem:
        return Problem(
            "body_too_large",
            f"the body has at least {size_bytes:,} bytes; send at most {self._most_bytes:,}, or "
            "several requests",
        )


class _MarkedResponse:
    """The response to a request, with its id, its trace, and the headers of all steps."""

    def __init__(self, send: Send, scope: Scope, span: Span) -> None:
        self._send, self.scope, self.span, self.status = send, scope, span, 500

    async def send(self, message: Message) -> None:
        """Pass a part on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            state = self.scope["state"]
            message["headers"] = [
                *message["headers"],
                (b"x-request-id", state["request_id"].encode()),
                (b"traceparent", traceparent_of(self.span).encode()),
                *state.get("headers", ()),  # on answers and refusals alike
            ]
        await self._send(message)


def _normalised(scope: Scope) -> Scope:
    """The scope with a normalised method and path: HEAD is a GET whose body the server leaves out,
    and a slash at the end means nothing. (A redirect would lose https behind a proxy.)
    """
    method = "GET" if scope["method"] == "HEAD" else scope["method"]
    path = scope["path"].rstrip("/") or "/"
    if (method, path) == (scope["method"], scope["path"]):
        return scope
    return {**scope, "method": method, "path": path}


def _request_id(header: bytes) -> str:
    return header.decode() if _ID.fullmatch(header) else secrets.token_hex(8)
