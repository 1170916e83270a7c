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
_ID = re.compile(rb"[\x21-\x7e]{1,128}")


class RequestMiddleware:
    """Wraps the app."""

    def __init__(
        self, app: ASGIApp, *, metrics: Metrics, tracing: Tracing, max_body_bytes: int
    ) -> None:
        self.app, self.metrics, self.tracing, self.max_body_bytes = (
            app,
            metrics,
            tracing,
            max_body_bytes,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        with self.tracing.request(headers.get(b"traceparent", b"").decode("latin-1")) as span:
            await self._serve(scope, receive, send, headers, span)

    async def _serve(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        headers: Mapping[bytes, bytes],
        span: Span,
    ) -> None:
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode() if _ID.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        logging_setup.request_id.set(request_id)
        start, status = time.perf_counter(), 500
        received = 0
        declared = headers.get(b"content-length", b"")

        async def limited() -> Message:
            nonlocal received
            if declared.isdigit() and int(declared) > self.max_body_bytes:
                raise self._too_large(int(declared))
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_body_bytes:
                raise self._too_large(received)
            return message

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                added = scope["state"].get(
                    "headers", ()
                )  # of whoever served it, on answers and refusals alike
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request_id.encode()),
                    (b"traceparent", traceparent_of(span).encode()),
                    *added,
                ]
            await send(message)

        try:
            await self.app(scope, limited, send_marked)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            seconds = time.perf_counter() - start
            self.metrics.request_seconds.labels(scope["method"], route, status).observe(seconds)
            record_response(span, scope["method"], route, status)
            if log.isEnabledFor(logging.INFO):
                client = scope["client"][0] if scope.get("client") else "unknown"
                about = {
                    "method": scope["method"],
                    "route": route,
                    "status": status,
                    "seconds": round(seconds, 6),
                    "body_bytes": received,
                }
                log.info(
                    "%(method)s %(route)s %(status)s in %(seconds)s s",
                    about,
                    extra=about | {"client": client},
                )

    def _too_large(self, size: int) -> Problem:
        return Problem(
            "body_too_large",
            f"the body has at least {size:,} bytes; send at most {self.max_body_bytes:,}, or "
            "several requests",
        )
