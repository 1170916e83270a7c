"""Traces. W3C Trace Context goes in and out always; OpenTelemetry spans are made only when the operator names a collector.

A request's span has a span for each job it sends to the model server, and that one the worker's: workers tell when they worked, in
which batch, and for whom else, so that they need neither exporter nor library.
"""

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from affect.archive import Operation
from affect.card import ModelCard
from affect.protocol.messages import WorkReport
from service.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, SpanContext, Tracer

_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?"
)


@dataclass(frozen=True)
class Trace:
    """A place in a trace: hexadecimal ids of 16 and 8 bytes, and whether it is recorded. `span` is the recorder, if there is one."""

    trace_id: str
    span_id: str
    recorded: bool
    tracer: "Tracer | None" = None
    span: "Span | None" = None

    @classmethod
    def after(cls, traceparent: str) -> "Trace":
        """A new place in the caller's trace, or in a new one when the caller has none, or none that can be read."""
        found = _TRACEPARENT.fullmatch(traceparent)
        trace_id, recorded = (
            (found[1], bool(int(found[3], 16) & 1)) if found else (secrets.token_hex(16), False)
        )
        return cls(trace_id, secrets.token_hex(8), recorded)

    @property
    def traceparent(self) -> str:
        """As a header."""
        return f"00-{self.trace_id}-{self.span_id}-{int(self.recorded):02x}"

    def answered(self, method: str, route: str, status: int) -> None:
        """How the request ended."""
        if self.span is not None:
            self.span.update_name(f"{method} {route}")
            self.span.set_attributes(
                {
                    "http.request.method": method,
                    "http.route": route,
                    "http.response.status_code": status,
                }
            )
            if status >= 500:
                self.span.set_status(_error())

    def worked(self, work: WorkReport) -> None:
        """What the worker tells of its part, as a span of its own, with links to the jobs that shared its batch."""
        if self.tracer is None or self.span is None:
            return
        from opentelemetry.trace import Link, set_span_in_context

        others = [_context_of(trace) for trace in work.traces if trace != self.traceparent]
        span = self.tracer.start_span(
            "handle",
            context=set_span_in_context(self.span),
            start_time=round(work.start_seconds * 1e9),
            links=[Link(other) for other in others],
            attributes={
                "affectgan.batch_jobs": work.batch_jobs,
                "affectgan.batch_rows": work.batch_rows,
            },
        )
        span.end(round(work.end_seconds * 1e9))


_current: ContextVar[Trace | None] = ContextVar("trace", default=None)


def current() -> Trace | None:
    """Where this task is."""
    return _current.get()


class Tracing:
    """Ids are passed on; nothing is recorded."""

    @contextmanager
    def request(self, traceparent: str) -> Iterator[Trace]:
        """The place of one request."""
        with _at(Trace.after(traceparent)) as trace:
            yield trace

    def close(self) -> None:
        """Send what is not sent yet."""


class Recording(Tracing):
    """Spans go to a provider."""

    def __init__(self, provider: "TracerProvider") -> None:
        self.provider, self.tracer = provider, provider.get_tracer("affectgan")

    @contextmanager
    def request(self, traceparent: str) -> Iterator[Trace]:
        """The place of one request, recorded if the caller records his, or has no trace."""
        from opentelemetry.context import Context
        from opentelemetry.trace import NonRecordingSpan, SpanKind, set_span_in_context

        parent = (
            set_span_in_context(NonRecordingSpan(_context_of(traceparent)), Context())
            if _TRACEPARENT.fullmatch(traceparent)
            else Context()
        )
        with (
            self.tracer.start_as_current_span(
                "request", context=parent, kind=SpanKind.SERVER
            ) as span,
            _at(_place(self.tracer, span)) as trace,
        ):
            yield trace

    def close(self) -> None:
        """Send what is not sent yet."""
        self.provider.shutdown()


@contextmanager
def backend_span(operation: Operation, card: ModelCard) -> Iterator[Trace]:
    """The place of one job of the current request."""
    here = current()
    if here is None or here.tracer is None:
        yield here or Trace.after("")
        return
    from opentelemetry.trace import SpanKind

    about = {"affectgan.model": card.name, "affectgan.version": card.version}
    with here.tracer.start_as_current_span(
        f"{operation} job", kind=SpanKind.CLIENT, attributes=about
    ) as span:
        yield _place(here.tracer, span)


def tracing_from_settings(settings: Settings) -> Tracing:
    """Recording to the collector of the settings, or not. Raises ValueError when the packages for it are missing."""
    if settings.traces_url is None:
        return Tracing()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ValueError(
            f"traces_url is {settings.traces_url!r}, but {error.name} is missing: `pip install affectgan[tracing]`"
        ) from error
    provider = TracerProvider(resource=Resource.create({"service.name": "affectgan"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=settings.traces_url)))
    return Recording(provider)


@contextmanager
def _at(trace: Trace) -> Iterator[Trace]:
    token = _current.set(trace)
    try:
        yield trace
    finally:
        _current.reset(token)


def _place(tracer: "Tracer", span: "Span") -> Trace:
    context = span.get_span_context()
    return Trace(
        f"{context.trace_id:032x}",
        f"{context.span_id:016x}",
        context.trace_flags.sampled,
        tracer,
        span,
    )


def _context_of(traceparent: str) -> "SpanContext":
    from opentelemetry.trace import SpanContext, TraceFlags

    found = _TRACEPARENT.fullmatch(traceparent)
    assert found is not None
    return SpanContext(
        int(found[1], 16),
        int(found[2], 16),
        is_remote=True,
        trace_flags=TraceFlags(int(found[3], 16)),
    )


def _error() -> Any:
    from opentelemetry.trace import StatusCode

    return StatusCode.ERROR
