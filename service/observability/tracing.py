"""Traces. W3C Trace Context goes in and out always; spans are recorded when the operator names a
collector.

A request's span has a span for each request to the model server, and that one the worker's: workers
report when they worked, in which batch and with which other requests, and so need no exporter
themselves.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from opentelemetry.context import Context, attach, create_key, detach, get_value, set_value
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    Tracer,
    format_span_id,
    format_trace_id,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from affect.archive import Operation
from affect.card import ModelCard
from affect.protocol.messages import WorkReport
from service.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

HEADER = "traceparent"
_PROPAGATOR = TraceContextTextMapPropagator()
_TRACER = create_key("affectgan-tracer")  # of the current request; None: nothing is recorded


class Tracing:
    """The spans of requests. Without a provider ids are passed on and nothing is recorded."""

    def __init__(self, provider: "TracerProvider | None" = None) -> None:
        self._provider = provider
        self._tracer = None if provider is None else provider.get_tracer("affectgan")

    @contextmanager
    def request(self, traceparent: str) -> Iterator[Span]:
        """Inside, one request: in the caller's trace, or in a new one if its header is invalid."""
        parent = _PROPAGATOR.extract({HEADER: traceparent}, Context())
        if self._tracer is None:
            span: Span = _unrecorded_span(parent)
        else:
            span = self._tracer.start_span("request", parent, SpanKind.SERVER)
        token = attach(set_value(_TRACER, self._tracer, set_span_in_context(span, parent)))
        try:
            yield span
        finally:
            detach(token)
            span.end()

    def close(self) -> None:
        """Flush pending spans."""
        if self._provider is not None:
            self._provider.shutdown()


@contextmanager
def backend_span(operation: Operation, card: ModelCard) -> Iterator[Span]:
    """The span of one request to the model server, or the current one when none is recorded."""
    tracer = _current_tracer()
    if tracer is None:
        yield get_current_span()
        return
    attributes = {"affectgan.model": card.name, "affectgan.version": card.version}
    with tracer.start_as_current_span(
        f"{operation} job", kind=SpanKind.CLIENT, attributes=attributes, record_exception=False
    ) as span:
        yield span


def traceparent_of(span: Span) -> str:
    """The header that makes a span the parent of another process's; "" outside of requests."""
    span_context = span.get_span_context()
    if not span_context.is_valid:
        return ""
    ids = format_trace_id(span_context.trace_id), format_span_id(span_context.span_id)
    return f"00-{ids[0]}-{ids[1]}-{span_context.trace_flags:02x}"


def record_response(span: Span, method: str, route: str, status: int) -> None:
    """How a request ended."""
    span.update_name(f"{method} {route}")
    span.set_attribute("http.request.method", method)
    span.set_attribute("http.route", route)
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_status(StatusCode.ERROR)


def record_work(span: Span, report: WorkReport) -> None:
    """The worker's part, as a span below this one, linked to the requests in the same batch."""
    tracer = _current_tracer()
    if tracer is None:
        return
    own_traceparent = traceparent_of(span)
    work = tracer.start_span(
        "handle",
        context=set_span_in_context(span),
        start_time=round(report.start_seconds * 1e9),
        links=[Link(_span_context(other)) for other in report.traces if other != own_traceparent],
        attributes={
            "affectgan.batch_jobs": report.batch_jobs,
            "affectgan.batch_rows": report.batch_rows,
        },
    )
    work.end(round(report.end_seconds * 1e9))


def tracing_from_settings(settings: Settings) -> Tracing:
    """Raises ValueError when a collector is named and the packages for it are missing."""
    if settings.traces_url is None:
        return Tracing()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ValueError(
            f"traces_url is {settings.traces_url!r}, but {error.name} is missing: "
            "`pip install affectgan[tracing]`"
        ) from error
    provider = TracerProvider(resource=Resource.create({"service.name": "affectgan"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=settings.traces_url)))
    return Tracing(provider)


def _current_tracer() -> Tracer | None:
    return cast("Tracer | None", get_value(_TRACER))


def _span_context(traceparent: str) -> SpanContext:
    return get_current_span(
        _PROPAGATOR.extract({HEADER: traceparent}, Context())
    ).get_span_context()


def _unrecorded_span(parent: Context) -> NonRecordingSpan:
    """A span with an id of its own: OpenTelemetry gives ids to recorded spans only."""
    caller = get_current_span(parent).get_span_context()
    trace_id = caller.trace_id if caller.is_valid else secrets.randbits(128) or 1
    flags = caller.trace_flags
    return NonRecordingSpan(SpanContext(trace_id, secrets.randbits(64) or 1, False, flags))
