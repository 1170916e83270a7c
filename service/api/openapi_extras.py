"""What /openapi.json and openapi.yaml say beyond what FastAPI finds in the routes: bodies, errors,
headers, each in a table.
"""

import re
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from affect import answers
from affect.card import ModelCard
from service import schemas
from service.api import idempotency
from service.api.inference_routes import SECURITY
from service.api.json_answers import IMAGE_MEDIA_TYPES
from service.api.openapi_examples import EXAMPLES
from service.api.tensors import LENGTH_HEADER, InferRequest
from service.inference.admission import DEADLINE_HEADER
from service.jobs import webhooks
from service.problems import (
    MEDIA_TYPE,
    OPEN_INFERENCE,
    PROBLEMS,
    RETRY_AFTER,
    TYPE_PREFIX,
)

Json = dict[str, Any]
REF = "#/components/schemas/{model}"
SOFT_BREAK = re.compile(r"(?<!\n)\n(?!\n)")
BODIES: tuple[type[BaseModel], ...] = (
    schemas.PredictBody,
    schemas.PredictOptions,
    schemas.GenerateBody,
    schemas.ExplainBody,
    schemas.ExplainOptions,
    schemas.VerifyBody,
    schemas.VerifyOptions,
    answers.ProblemBody,
    schemas.TensorError,
    InferRequest,
    ModelCard,
)
SECURITY_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, or a JWT of the operator's identity provider",
    },
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key"},
}
REPLAYED = {
    idempotency.REPLAYED: {
        "description": "true: this is the answer of an earlier request",
        "schema": {"type": "string"},
    }
}
TAGS = [
    {"name": "faces", "description": "The three operations"},
    {"name": "jobs", "description": "Answers that are fetched later"},
    {"name": "models", "description": "What is served"},
    {
        "name": "tensors",
        "description": "The three operations in the Open Inference Protocol v2 (KServe, Triton)",
    },
    {"name": "operators", "description": "Whether it works"},
]

_POST, _JOB = (400, 401, 403, 408, 409, 413, 415, 422, 429, 500, 503, 504), (401, 404, 500, 503)
ERRORS: dict[tuple[str, str], tuple[int, ...]] = {
    ("/v1/predict", "post"): _POST,
    ("/v1/generate", "post"): _POST,
    ("/v1/explain", "post"): _POST,
    ("/v1/verify", "post"): tuple(status for status in _POST if status != 409),
    ("/v1/jobs/{job_id}", "get"): _JOB,
    ("/v1/jobs/{job_id}", "delete"): _JOB,
    ("/v1/jobs/{job_id}/result", "get"): (*_JOB, 409, 410, 422, 504),
    ("/v1/models", "get"): (500,),
    ("/v1/models/{name}", "get"): (404, 500),
    ("/v1/models/{name}/versions/{version}", "get"): (404, 500),
    ("/metrics", "get"): (404,),
    ("/v2", "get"): (500,),
    ("/v2/health/live", "get"): (500,),
    ("/v2/health/ready", "get"): (500,),
    **{
        (f"/v2/models/{{name}}{version}{path}", method): errors
        for version in ("", "/versions/{version}")
        for path, method, errors in (
            ("", "get", (404, 500)),
            ("/ready", "get", (404, 500)),
            ("/infer", "post", (*_POST, 404)),
        )
    },
}
HEADERS: list[Json] = [
    {
        "name": "Prefer",
        "in": "header",
        "schema": {"type": "string"},
        "description": "`respond-async`: the answer is to be a job",
        "example": "respond-async",
    },
    {
        "name": webhooks.HEADER,
        "in": "header",
        "schema": {"type": "string", "format": "uri"},
        "description": "Called when the job ends; needs `Prefer: respond-async` and a target that "
        "the operator lists",
    },
    {
        "name": idempotency.HEADER,
        "in": "header",
        "schema": {
            "type": "string",
            "minLength": 1,
            "maxLength": idempotency.LONGEST_KEY,
            "pattern": idempotency.KEY_PATTERN,
        },
        "description": "Sent again with the same key, the request has the same answer",
        "example": "0b5e6f6c-6d1c-4d58-9b0e-2f3a4c5d6e7f",
    },
]
TENSOR_HEADERS: list[Json] = [
    {
        "name": LENGTH_HEADER,
        "in": "header",
        "schema": {"type": "integer", "minimum": 0},
        "description": "Bytes of the JSON, when tensors follow it as bytes",
    },
    {
        "name": DEADLINE_HEADER,
        "in": "header",
        "schema": {"type": "number", "exclusiveMinimum": 0},
        "description": "Seconds",
    },
    HEADERS[2],
]
ACCEPTED: Json = {
    "description": "A job: its answer is fetched later",
    "headers": {
        "Location": {"description": "Where the job is", "schema": {"type": "string"}},
        "Preference-Applied": {"schema": {"type": "string", "const": "respond-async"}},
        **RETRY_AFTER,
    },
    "content": {"application/json": {"schema": {"$ref": REF.format(model="JobDocument")}}},
}


def complete(document: Json) -> Json:
    """The completed document. `document` is FastAPI's, and is changed."""
    components = document["components"]
    _, bodies = models_json_schema([(kind, "validation") for kind in BODIES], ref_template=REF)
    components["schemas"] |= bodies["$defs"]
    for unused in ("HTTPValidationError", "ValidationError"):  # ours are problems
        components["schemas"].pop(unused, None)
    for name, example in EXAMPLES.items():
        components["schemas"][name]["examples"] = [example]
    components["securitySchemes"] = SECURITY_SCHEMES
    document["tags"] = TAGS
    document["servers"] = [{"url": "/"}]
    _unwrap_descriptions(document)
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            _describe(operation, path, method)
    return document


def _unwrap_descriptions(value: Any) -> None:
    """Docstrings are wrapped in the source only: here a paragraph becomes one line."""
    if isinstance(value, list):
        for item in value:
            _unwrap_descriptions(item)
    if isinstance(value, dict):
        if isinstance(text := value.get("description"), str):
            value["description"] = SOFT_BREAK.sub(" ", text)
        for item in value.values():
            _unwrap_descriptions(item)


def _describe(operation: Json, path: str, method: str) -> None:
    _describe_errors(operation, path, method)
    if method == "post" and path.startswith(OPEN_INFERENCE):
        operation["parameters"] = operation.get("parameters", []) + TENSOR_HEADERS
        _add_content(operation, "application/octet-stream")
        operation["security"] = SECURITY
    elif method == "post" and path != "/v1/verify":  # which asks no model, so it makes no job
        operation["parameters"] = operation.get("parameters", []) + HEADERS
        operation["responses"]["202"] = ACCEPTED
        operation["responses"]["200"]["headers"] |= REPLAYED
    if path in ("/v1/generate", "/v1/jobs/{job_id}/result"):
        _add_content(operation, *IMAGE_MEDIA_TYPES)
    is_job = "jobs" in operation.get("tags", [])
    operation.setdefault("security", SECURITY if is_job else [])  # []: for everyone


def _describe_errors(operation: Json, path: str, method: str) -> None:
    """Every status that the table has for the operation; what its route says of one stands."""
    responses, statuses = operation["responses"], ERRORS.get((path, method))
    if statuses is not None and 422 not in statuses:
        responses.pop("422", None)  # FastAPI's: texts in a path are never wrong
    for status in statuses or ():
        declared = responses.get(str(status), {})
        response = _tensor_error(status) if path.startswith(OPEN_INFERENCE) else _problem(status)
        declared_fields = {
            name: declared[name] for name in ("description", "headers") if name in declared
        }
        responses[str(status)] = response | declared_fields


def _add_content(operation: Json, *media_types: str) -> None:
    binary = {"schema": {"type": "string", "format": "binary"}}
    operation["responses"]["200"]["content"] |= dict.fromkeys(media_types, binary)


def _problem(status: int) -> Json:
    """A response with an example of every problem that has this status."""
    kinds = {code: kind for code, kind in PROBLEMS.items() if kind.status == status}
    examples = {
        code: {"summary": kind.title, "value": _example(code)} for code, kind in kinds.items()
    }
    schema = {"$ref": REF.format(model="ProblemBody")}
    return {
        "description": " or ".join(kind.title for kind in kinds.values()),
        "content": {MEDIA_TYPE: {"schema": schema, "examples": examples}},
        **({"headers": RETRY_AFTER} if status == 503 else {}),
    }


def _tensor_error(status: int) -> Json:
    """The same in the shape of the Open Inference Protocol."""
    schema = {"$ref": REF.format(model="TensorError")}
    return _problem(status) | {"content": {"application/json": {"schema": schema}}}


def _example(code: str) -> Json:
    kind, is_invalid = PROBLEMS[code], code == "invalid_value"
    message = "Input should be less than or equal to 1"
    fault = {"field": "items[0].valence", "value": 1.5, "message": message}
    detail = (
        f"items[0].valence is 1.5: {message}" if is_invalid else f"{kind.title}, in other words"
    )
    return {
        "type": TYPE_PREFIX + code,
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "instance": "/v1/generate",
        "request_id": "8c1f3a5e7d9b0246",
        "code": code,
        "errors": [fault] if is_invalid else [],
    }
