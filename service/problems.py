"""Errors as clients see them: application/problem+json (RFC 9457), one table from what went wrong to status and title."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from service.backend.circuit_breaker import CircuitOpen
from service.backend.interface import (
    BackendError,
    BackendOverloaded,
    BackendRefused,
    BackendTimeout,
    BackendUnavailable,
)

MEDIA_TYPE = "application/problem+json"
TENSORS = "/v2"  # there, errors have the shape of the Open Inference Protocol
TITLES = {
    "malformed": (400, "Malformed request"),
    "unauthorized": (401, "Not authenticated"),
    "forbidden": (403, "Not allowed"),
    "not_found": (404, "Not found"),
    "method_not_allowed": (405, "Method not allowed"),
    "body_too_large": (413, "Request too large"),
    "unsupported_media_type": (415, "Unsupported media type"),
    "invalid_value": (422, "Invalid value"),
    "too_many_images": (413, "Too many images"),
    "no_images": (422, "No images"),
    "quota_exceeded": (429, "Quota exceeded"),
    "client_gone": (499, "Client closed the connection"),  # never seen but in metrics
    "overloaded": (503, "Overloaded"),
    "backend_unavailable": (503, "Model server unavailable"),
    "draining": (503, "Shutting down"),
    "issuer_unavailable": (503, "Token issuer unavailable"),
    "deadline": (504, "Deadline exceeded"),
    "still_running": (409, "Still running"),
    "job_open": (409, "The job is not done"),
    "job_gone": (410, "The job has no answer any more"),
    "job_lost": (500, "The job is lost"),
    "jobs_unavailable": (503, "Jobs unavailable"),
    "key_reused": (422, "Idempotency-Key used for another request"),
    "internal": (500, "Internal error"),
}


class Problem(Exception):
    """An error for the whole request. `errors` are (field, value, message) of each fault; `headers` go with the answer."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: Sequence[Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.code, self.detail, self.errors, self.headers = (
            code,
            detail,
            list(errors),
            dict(headers or {}),
        )

    @property
    def status(self) -> int:
        """HTTP status."""
        return TITLES[self.code][0]


def invalid(field: str, value: object, message: str) -> Problem:
    """One wrong value: 422."""
    return Problem(
        "invalid_value",
        f"{field} is {_shown(value)}: {message}",
        errors=[{"field": field, "value": _shown(value), "message": message}],
    )


def respond(request: Request, problem: Problem) -> Response:
    """The problem as a response."""
    return problem_response(
        problem, request.url.path, request.scope.get("state", {}).get("request_id", "")
    )


def problem_response(problem: Problem, instance: str, request_id: str) -> Response:
    """The problem as a response about `instance`, a path."""
    status, title = TITLES[problem.code]
    if instance.startswith(TENSORS):
        return Response(
            orjson.dumps({"error": f"{title}: {problem.detail}"}),
            status,
            headers=problem.headers,
            media_type="application/json",
        )
    body = {
        "type": f"urn:affectgan:problem:{problem.code}",
        "title": title,
        "status": status,
        "detail": problem.detail,
        "instance": instance,
        "request_id": request_id,
        "code": problem.code,
        "errors": problem.errors,
    }
    return Response(orjson.dumps(body), status, headers=problem.headers, media_type=MEDIA_TYPE)


def problem_from_validation(errors: Sequence[Mapping[str, Any]], inside: str = "") -> Problem:
    """Pydantic's findings, each with field, value and what would do."""
    told = []
    for error in errors:
        field = _field(inside, error["loc"])
        message = (
            "unknown field; remove it" if error["type"] == "extra_forbidden" else str(error["msg"])
        )
        told.append({"field": field, "value": _shown(error.get("input")), "message": message})
    first = told[0]
    return Problem(
        "invalid_value", f"{first['field']} is {first['value']}: {first['message']}", errors=told
    )


async def on_problem(request: Request, error: Exception) -> Response:
    """Handler of Problem."""
    assert isinstance(error, Problem)
    return respond(request, error)


async def on_validation(request: Request, error: Exception) -> Response:
    """Handler of FastAPI's own validation."""
    assert isinstance(error, RequestValidationError)
    return respond(request, problem_from_validation(error.errors()))


async def on_http(request: Request, error: Exception) -> Response:
    """Handler of Starlette's 404 and 405."""
    assert isinstance(error, HTTPException)
    code = {
        404: "not_found",
        405: "method_not_allowed",
        400: "malformed",
        413: "body_too_large",
    }.get(error.status_code, "internal")
    headers = dict(error.headers or {}) | (
        {"Allow": _allowed(request)} if error.status_code == 405 else {}
    )
    return respond(request, Problem(code, str(error.detail), headers=headers))


def _allowed(request: Request) -> str:
    """The methods of all routes of this path: Starlette names those of the first one only."""
    found: set[str] = set()
    for path, methods in request.app.openapi()["paths"].items():
        if re.fullmatch(re.sub(r"\\{[^/]+?\\}", "[^/]+", re.escape(path)), request.url.path):
            found |= {method.upper() for method in methods}
    return ", ".join(sorted(found)) or "GET"


async def on_backend(request: Request, error: Exception) -> Response:
    """Handler of BackendError."""
    assert isinstance(error, BackendError)
    return respond(request, problem_from_backend(error))


def problem_from_backend(error: BackendError) -> Problem:
    """Upstream errors are translated here and nowhere else."""
    if isinstance(error, BackendTimeout):
        return Problem(
            "deadline",
            "the model server did not answer in time; send fewer pictures or allow more time",
        )
    if isinstance(error, BackendOverloaded):
        return Problem(
            "overloaded",
            "the model server's queue is full; try again",
            headers={"Retry-After": "1"},
        )
    if isinstance(error, BackendRefused):
        return invalid(error.field, error.value, error.remedy)
    if isinstance(error, CircuitOpen):
        return Problem(
            "backend_unavailable",
            str(error),
            headers={"Retry-After": str(math.ceil(error.retry_seconds))},
        )
    assert isinstance(error, BackendUnavailable), error
    return Problem(
        "backend_unavailable", "no worker answered; try again shortly", headers={"Retry-After": "3"}
    )


async def on_unhandled(request: Request, error: Exception) -> Response:
    """Handler of everything else: our fault. The traceback goes to the log, not to the client."""
    return respond(
        request, Problem("internal", "this is our fault; the log knows more under the request id")
    )


def _field(inside: str, location: Sequence[Any]) -> str:
    path = inside
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path or "body"


def _shown(value: object) -> Any:
    """Values are echoed, but never a picture and never much."""
    if isinstance(value, float) and value != value:
        return "NaN"
    if value is None or isinstance(value, bool | int | float):
        return value
    text = (
        value
        if isinstance(value, str)
        else type(value).__name__
        if isinstance(value, bytes)
        else repr(value)
    )
    return text if len(text) <= 80 else f"{text[:77]}..."
