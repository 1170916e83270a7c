"""Errors as clients see them: application/problem+json (RFC 9457). Everything about an error is
defined here, once.

`PROBLEMS` has status and title of each code, `STATUSES` what openapi.yaml says of each status.
Errors of pictures and items that fail alone, and of the model server, are translated here too.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from affect.answers import RowProblem
from service.backend.circuit_breaker import CircuitOpen
from service.backend.interface import (
    BackendError,
    BackendOverloaded,
    BackendRefused,
    BackendTimeout,
    BackendUnavailable,
)

MEDIA_TYPE = "application/problem+json"
OPEN_INFERENCE = "/v2"  # there, errors have the shape of the Open Inference Protocol
TYPE_PREFIX = "urn:affectgan:problem:"
LONGEST_VALUE = 80  # characters of a value that are repeated to who sent it
LONGEST_TEXT = 600  # characters of a detail, a message or a path
MOST_ERRORS = 10  # that an answer lists; how many there are is said
LARGEST_NUMBER = 2**53  # that JSON carries exactly; larger ones are repeated as text


@dataclass(frozen=True)
class ProblemType:
    """A kind of error: HTTP status, and a title that is the same for all of them."""

    status: int
    title: str


PROBLEMS = {
    "malformed": ProblemType(400, "Malformed request"),
    "unauthorized": ProblemType(401, "Not authenticated"),
    "forbidden": ProblemType(403, "Not allowed"),
    "not_found": ProblemType(404, "Not found"),
    "body_too_slow": ProblemType(408, "Request too slow"),
    "method_not_allowed": ProblemType(405, "Method not allowed"),
    "body_too_large": ProblemType(413, "Request too large"),
    "unsupported_media_type": ProblemType(415, "Unsupported media type"),
    "invalid_value": ProblemType(422, "Invalid value"),
    "too_many_images": ProblemType(413, "Too many images"),
    "no_images": ProblemType(422, "No images"),
    "quota_exceeded": ProblemType(429, "Quota exceeded"),
    "too_many_at_once": ProblemType(429, "Too many requests at once"),
    "client_gone": ProblemType(499, "Client closed the connection"),  # seen in metrics alone
    "overloaded": ProblemType(503, "Overloaded"),
    "backend_unavailable": ProblemType(503, "Model server unavailable"),
    "signing_unavailable": ProblemType(503, "Pictures cannot be signed"),
    "draining": ProblemType(503, "Shutting down"),
    "issuer_unavailable": ProblemType(503, "Token issuer unavailable"),
    "deadline": ProblemType(504, "Deadline exceeded"),
    "still_running": ProblemType(409, "Still running"),
    "job_open": ProblemType(409, "The job is not done"),
    "job_gone": ProblemType(410, "The job has no answer any more"),
    "job_lost": ProblemType(500, "The job is lost"),
    "jobs_unavailable": ProblemType(503, "Jobs unavailable"),
    "key_reused": ProblemType(422, "Idempotency-Key used for another request"),
    "internal": ProblemType(500, "Internal error"),
}
# Of pictures and items that fail alone; their titles come with them. Every other code is 422.
ROW_STATUSES = {
    "unsupported_type": 415,
    "not_an_image": 415,
    "too_many_pixels": 413,
    "too_complex": 413,
}

_TEXT = {"schema": {"type": "string"}}
RETRY_AFTER = {
    "Retry-After": {"description": "Seconds", "schema": {"type": "integer", "minimum": 1}}
}
RATE_LIMIT = {
    "RateLimit-Policy": {
        "description": "Your quotas: amount and seconds",
        "example": '"requests";q=100;w=60',
        **_TEXT,
    },
    "RateLimit": {
        "description": "What is left, and seconds until all of it is there again",
        "example": '"requests";r=42;t=18',
        **_TEXT,
    },
}


@dataclass(frozen=True)
class StatusFacts:
    """What openapi.yaml says of a status, and of its headers, where one of the three operations is
    asked for.
    """

    description: str
    headers: Mapping[str, Any] = field(default_factory=dict)


STATUSES = {
    400: StatusFacts("Malformed"),
    401: StatusFacts(
        "No credential, or none that is valid; see WWW-Authenticate", {"WWW-Authenticate": _TEXT}
    ),
    403: StatusFacts(
        "The credential lacks the scope of this operation",
        {"WWW-Authenticate": {"description": "Names the scope that is missing", **_TEXT}},
    ),
    408: StatusFacts("The body did not come in time"),
    413: StatusFacts("Too large or too many"),
    415: StatusFacts("Not a type that is taken"),
    422: StatusFacts("Wrong values: field, value and what would do"),
    429: StatusFacts(
        "The caller's quota is used up, or too many of its requests are there at once; "
        "see Retry-After and RateLimit",
        RETRY_AFTER | RATE_LIMIT,
    ),
    503: StatusFacts("Overloaded, shutting down or no worker; see Retry-After", RETRY_AFTER),
    504: StatusFacts("Not done within the deadline"),
}


class Problem(Exception):
    """An error for the whole request. `errors` are (field, value, message) of each fault; `headers`
    go with the response.

    `retry_seconds` becomes Retry-After, in whole seconds from 1.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: Sequence[Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
        retry_seconds: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.code, self.detail = code, shortened(detail, LONGEST_TEXT)
        self.errors = list(errors[:MOST_ERRORS])
        self.headers = dict(headers or {})
        if retry_seconds is not None:
            self.headers["Retry-After"] = str(max(1, math.ceil(retry_seconds)))

    @property
    def status(self) -> int:
        """HTTP status."""
        return PROBLEMS[self.code].status


def invalid(field: str, value: object, message: str) -> Problem:
    """One wrong value: 422."""
    echoed, message = _echoed(value), shortened(message, LONGEST_TEXT)
    error = {"field": field, "value": echoed, "message": message}
    return Problem("invalid_value", f"{field} is {echoed}: {message}", errors=[error])


def problem_from_validation(errors: Sequence[Mapping[str, Any]], prefix: str = "") -> Problem:
    """Pydantic's errors, the first ten with field, value and what would do.

    `prefix` stands before the fields.
    """
    faults = []
    for error in errors[:MOST_ERRORS]:
        unknown = error["type"] == "extra_forbidden"
        message = "unknown field; remove it" if unknown else str(error["msg"])
        faults.append(
            {
                "field": _field(prefix, error["loc"]),
                "value": _echoed(error.get("input")),
                "message": shortened(message, LONGEST_TEXT),
            }
        )
    detail = "{field} is {value}: {message}".format(**faults[0])
    if len(errors) > MOST_ERRORS:
        detail += f"; and {len(errors) - MOST_ERRORS:,} faults more than the {MOST_ERRORS} listed"
    return Problem("invalid_value", detail, errors=faults)


def problem_from_backend(error: BackendError) -> Problem:
    """Errors of the model server are translated here and nowhere else."""
    match error:
        case BackendTimeout():
            return Problem(
                "deadline",
                "the model server did not answer in time; send fewer pictures or allow more time",
            )
        case BackendOverloaded():
            return Problem(
                "overloaded", "the model server's queue is full; try again", retry_seconds=1
            )
        case BackendRefused():
            return invalid(error.field, error.value, error.remedy)
        case CircuitOpen():
            return Problem("backend_unavailable", str(error), retry_seconds=error.retry_seconds)
    assert isinstance(error, BackendUnavailable), error
    return Problem("backend_unavailable", "no worker answered; try again shortly", retry_seconds=3)


def row_problem(code: str, title: str, detail: str) -> RowProblem:
    """Why one picture or item has no answer."""
    status = ROW_STATUSES.get(code, 422)
    return RowProblem(type=TYPE_PREFIX + code, title=title, status=status, detail=detail, code=code)


def openapi_response(description: str, headers: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What openapi.yaml says of a response that is a problem."""
    schema = {"$ref": "#/components/schemas/ProblemBody"}
    content = {MEDIA_TYPE: {"schema": schema}}
    document: dict[str, Any] = {"description": description, "content": content}
    return document | ({"headers": dict(headers)} if headers else {})


# -- responses -------------------------------------------------------------------------------------


def problem_response(problem: Problem, instance: str, request_id: str) -> Response:
    """The problem as a response about `instance`, a path."""
    kind = PROBLEMS[problem.code]
    if instance.startswith(OPEN_INFERENCE):
        error = orjson.dumps({"error": f"{kind.title}: {problem.detail}"})
        return Response(error, kind.status, problem.headers, "application/json")
    body = {
        "type": TYPE_PREFIX + problem.code,
        "title": kind.title,
        "status": kind.status,
        "detail": problem.detail,
        "instance": shortened(instance, LONGEST_TEXT),
        "request_id": request_id,
        "code": problem.code,
        "errors": problem.errors,
    }
    return Response(orjson.dumps(body), kind.status, problem.headers, MEDIA_TYPE)


async def on_problem(request: Request, error: Exception) -> Response:
    """Handler of Problem."""
    assert isinstance(error, Problem)
    return problem_response_to(request, error)


async def on_validation(request: Request, error: Exception) -> Response:
    """Handler of FastAPI's own validation."""
    assert isinstance(error, RequestValidationError)
    return problem_response_to(request, problem_from_validation(error.errors()))


async def on_backend(request: Request, error: Exception) -> Response:
    """Handler of BackendError."""
    assert isinstance(error, BackendError)
    return problem_response_to(request, problem_from_backend(error))


async def on_http(request: Request, error: Exception) -> Response:
    """Handler of Starlette's 404 and 405."""
    assert isinstance(error, HTTPException)
    codes = {404: "not_found", 405: "method_not_allowed", 400: "malformed", 413: "body_too_large"}
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = _allowed_methods(request)
    code = codes.get(error.status_code, "internal")
    return problem_response_to(request, Problem(code, str(error.detail), headers=headers))


async def on_disconnect(request: Request, error: Exception) -> Response:
    """Handler of a client that disconnected while it sent its body: no server error."""
    return problem_response_to(request, Problem("client_gone", "the client closed the connection"))


async def on_unhandled(request: Request, error: Exception) -> Response:
    """Handler of everything else: our fault. The traceback goes to the log, not to the client."""
    detail = "this is our fault; the log knows more under the request id"
    return problem_response_to(request, Problem("internal", detail))


def problem_response_to(request: Request, problem: Problem) -> Response:
    """The problem as the response to a request."""
    request_id = request.scope.get("state", {}).get("request_id", "")
    return problem_response(problem, request.url.path, request_id)


def _allowed_methods(request: Request) -> str:
    """Of all documented routes of this path: Starlette names the methods of the first one only."""
    routes: list[APIRoute] = request.app.state.routes
    methods = {
        method
        for route in routes
        if route.include_in_schema and route.matches(request.scope)[0] is not Match.NONE
        for method in route.methods or ()
    }
    return ", ".join(sorted(methods)) or "GET"


def shortened(text: str, limit: int) -> str:
    """The text, or its beginning: an answer to a bad request is never long."""
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def _field(prefix: str, location: Sequence[Any]) -> str:
    path = prefix
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return shortened(path, LONGEST_VALUE) or "body"


def _echoed(value: object) -> Any:
    """Values are repeated, but never a picture, never much, and of lists and objects only what they
    are: there is no end to what may be in them.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, int):
        return value if abs(value) <= LARGEST_NUMBER else f"a number of {value.bit_length()} bits"
    if isinstance(value, str):
        return shortened(value, LONGEST_VALUE)
    if isinstance(value, list | tuple | set):
        return f"a list of {len(value)}"
    return "an object" if isinstance(value, Mapping) else type(value).__name__
