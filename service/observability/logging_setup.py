"""Logs: lines for people, or one JSON object a line.

They record requests and outcomes, never what a picture shows or how it was read.
"""

import logging
from contextvars import ContextVar

from opentelemetry.trace import format_span_id, format_trace_id, get_current_span
from pythonjsonlogger.orjson import OrjsonFormatter

from service.settings import Settings

TEXT = "%(asctime)s %(levelname)s %(name)s %(message)s"
request_id: ContextVar[str] = ContextVar("request_id", default="")


class RequestContextFilter(logging.Filter):
    """Adds to every record the request that it belongs to."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always True."""
        if request_id.get():
            record.request_id = request_id.get()
        span = get_current_span().get_span_context()
        if span.is_valid:
            record.trace_id = format_trace_id(span.trace_id)
            record.span_id = format_span_id(span.span_id)
        return True


def handler_from_settings(settings: Settings) -> logging.Handler:
    """A handler that writes to standard error as the settings say."""
    handler = logging.StreamHandler()
    handler.addFilter(RequestContextFilter())
    json = OrjsonFormatter(
        ["levelname", "name", "message"],
        rename_fields={"levelname": "level", "name": "logger"},
        timestamp="time",
    )
    handler.setFormatter(json if settings.log_format == "json" else logging.Formatter(TEXT))
    return handler


def configure(settings: Settings) -> None:
    """Of the whole process: everything of this package from the level on, warnings of others."""
    logging.basicConfig(
        level=logging.WARNING, handlers=[handler_from_settings(settings)], force=True
    )
    logging.getLogger("service").setLevel(settings.log_level)
    logging.getLogger("service.cli.server").setLevel(logging.INFO)  # the start is always logged
