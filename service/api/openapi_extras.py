"""What /openapi.json and openapi.yaml say beyond what FastAPI finds in the routes: bodies, errors, headers, examples, each in a table."""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from affect import answers
from affect.card import ModelCard
from service import schemas
from service.api import idempotency
from service.api.pipeline import PICTURE_TYPES
from service.api.tensors import LENGTH_HEADER, InferRequest
from service.inference.admission import DEADLINE_HEADER
from service.jobs import webhooks
from service.problems import MEDIA_TYPE, TENSORS, TITLES

Json = dict[str, Any]
REF = "#/components/schemas/{model}"
BODIES: tuple[type[BaseModel], ...] = (
    schemas.PredictBody,
    schemas.PredictOptions,
    schemas.GenerateBody,
    schemas.ExplainBody,
    schemas.ExplainOptions,
    answers.ProblemBody,
    schemas.TensorError,
    InferRequest,
    ModelCard,
)
SECURITY = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, or a JWT of the operator's identity provider",
    },
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key"},
}
WHO: list[dict[str, list[str]]] = [
    {"bearer": []},
    {"key": []},
    {},
]  # the last: a gateway without keys is open
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

_POST, _JOB = (400, 401, 403, 409, 413, 415, 422, 429, 500, 503, 504), (401, 404, 500, 503)
ERRORS: dict[tuple[str, str], tuple[int, ...]] = {
    ("/v1/predict", "post"): _POST,
    ("/v1/generate", "post"): _POST,
    ("/v1/explain", "post"): _POST,
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
        "description": "Called when the job ends; needs `Prefer: respond-async` and a target that the operator lists",
    },
    {
        "name": idempotency.HEADER,
        "in": "header",
        "schema": {
            "type": "string",
            "minLength": 1,
            "maxLength": idempotency.LONGEST_KEY,
            "pattern": "^[!-~]+$",
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
WAIT = {"Retry-After": {"description": "Seconds", "schema": {"type": "integer", "minimum": 1}}}
ACCEPTED: Json = {
    "description": "A job: its answer is fetched later",
    "headers": {
        "Location": {"description": "Where the job is", "schema": {"type": "string"}},
        "Preference-Applied": {"schema": {"type": "string", "const": "respond-async"}},
        **WAIT,
    },
    "content": {"application/json": {"schema": {"$ref": REF.format(model="JobDocument")}}},
}

_PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
)
_MODEL = {"name": "affectgan", "version": "1.0", "labels": "both"}
_READING = {
    "valence": 0.61,
    "arousal": 0.12,
    "realism": 0.8,
    "aus": {"AU12": {"probability": 0.97, "intensity": 0.6, "present": True}},
}
_PICTURE = {"content": _PIXEL, "media_type": "image/png"}
_DRAWN = {"image": _PICTURE, "prediction": _READING}
_JOB_DOCUMENT: Json = {
    "id": "5kZ2yq0rJpXo8vC1mN4tB7wE9sD3fG6h",
    "status": "running",
    "operation": "predict",
    "created": "2026-01-02T03:04:05.678+00:00",
    "started": "2026-01-02T03:04:05.901+00:00",
    "finished": None,
    "expires": "2026-01-02T04:04:05.678+00:00",
    "progress": {"done": 8, "of": 64},
    "attempts": 1,
    "href": "/v1/jobs/5kZ2yq0rJpXo8vC1mN4tB7wE9sD3fG6h",
    "result": None,
    "error": None,
    "webhook": None,
    "kept_in": "memory",
    "note": "This job is held in the memory of one gateway: it is lost when that gateway stops, and other gateways do not know it.",
}
EXAMPLES: Json = {
    "PredictBody": {"images": [{"content": _PIXEL}], "options": {"faces": "none"}},
    "GenerateBody": {
        "items": [{"aus": {"AU12": 0.9}, "valence": 0.7, "arousal": 0.2, "seed": 7}],
        "format": "png",
    },
    "ExplainBody": {
        "images": [{"content": _PIXEL}],
        "options": {"faces": "none", "question": {"au": "AU12", "present": False}},
    },
    "PredictAnswer": {
        "model": _MODEL,
        "results": [
            {
                "index": 0,
                "status": "ok",
                "faces": [{"box": [70, 60, 90, 90], "points": None, "confidence": 0.9, **_READING}],
            },
            {
                "index": 1,
                "status": "error",
                "error": {
                    "type": "urn:affectgan:problem:no_face",
                    "title": "No face found",
                    "status": 422,
                    "detail": "no face was found",
                    "code": "no_face",
                },
            },
        ],
    },
    "GenerateAnswer": {
        "model": _MODEL,
        "results": [
            {
                "index": 0,
                "status": "ok",
                "seed": 7,
                "requested": {"valence": 0.7, "aus": {"AU12": 0.9}},
                "measured": _READING,
                "image": _PICTURE,
            }
        ],
    },
    "ExplainAnswer": {
        "model": _MODEL,
        "results": [
            {
                "index": 0,
                "status": "ok",
                "question": {"au": "AU12", "present": False},
                "sentence": "Without the raised lip corners, AU12 would not be read.",
                "box": None,
                "factual": _READING,
                "reconstruction": {**_DRAWN, "error": 0.02},
                "counterfactual": {**_DRAWN, "valid": True},
                "causes": [{"label": "AU12", "from": 0.95, "to": 0.15}],
                "changes": [{"label": "AU12", "from": 0.97, "to": 0.08}],
                "map": {"image": _PICTURE, "signed": _PICTURE},
                "frames": [_PICTURE],
                "regions": {"mouth": 0.8},
                "attribution": {"AU12": 1.9},
                "integrated_gradients": {"image": _PICTURE, "regions": {"mouth": 0.4}},
                "scores": {"validity_margin": 0.4, "proximity": 0.01},
                "trust": {
                    "level": "high",
                    "reasons": ["an independent judge sees the change too (0.71 to 0.20)"],
                    "judge": {"from": 0.71, "to": 0.2, "agrees": True},
                },
                "alternatives": [],
            }
        ],
    },
    "JobDocument": _JOB_DOCUMENT,
    "InferRequest": {
        "id": "1",
        "parameters": {"faces": "none"},
        "inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [_PIXEL]}],
        "outputs": [{"name": "va"}, {"name": "error"}],
    },
    "InferResponse": {
        "model_name": "affectgan-predict",
        "model_version": "1.0",
        "id": "1",
        "outputs": [
            {"name": "va", "datatype": "FP32", "shape": [1, 2], "data": [0.61, 0.12]},
            {"name": "error", "datatype": "BYTES", "shape": [1], "data": [""]},
        ],
    },
    "ModelMetadata": {
        "name": "affectgan-predict",
        "versions": ["1.0"],
        "platform": "affectgan",
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [{"name": "va", "datatype": "FP32", "shape": [-1, 2]}],
        "parameters": {"aus": "AU1,AU2,AU4"},
    },
    "TensorError": {
        "error": "Invalid value: inputs[0].shape is [1, 2]: image of BYTES is [-1]; -1 is any number"
    },
}


def complete(document: Json) -> Json:
    """The document with all of it. `document` is FastAPI's, and is changed."""
    components = document["components"]
    _, bodies = models_json_schema([(kind, "validation") for kind in BODIES], ref_template=REF)
    components["schemas"] |= bodies["$defs"]
    for unused in ("HTTPValidationError", "ValidationError"):  # ours are problems
        components["schemas"].pop(unused, None)
    for name, example in EXAMPLES.items():
        components["schemas"][name]["examples"] = [example]
    components["securitySchemes"] = SECURITY
    document["tags"] = TAGS
    document["servers"] = [{"url": "/"}]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            _describe(operation, path, method)
    return document


def _describe(operation: Json, path: str, method: str) -> None:
    responses = operation["responses"]
    if "422" in responses and 422 not in ERRORS.get((path, method), (422,)):
        del responses["422"]  # FastAPI's: texts in a path are never wrong
    for status in ERRORS.get((path, method), ()):
        known = responses.get(str(status), {})
        responses[str(status)] = (_tensor_error if path.startswith(TENSORS) else _problem)(
            status
        ) | {name: known[name] for name in ("description", "headers") if name in known}
    if method == "post" and path.startswith(TENSORS):
        operation["parameters"] = operation.get("parameters", []) + TENSOR_HEADERS
        responses["200"]["content"]["application/octet-stream"] = {
            "schema": {"type": "string", "format": "binary"}
        }
        operation["security"] = WHO
    elif method == "post" and (path, method) in ERRORS:
        operation["parameters"] = operation.get("parameters", []) + HEADERS
        responses["202"] = ACCEPTED
        responses["200"]["headers"] = responses["200"].get("headers", {}) | {
            idempotency.REPLAYED: {
                "description": "true: this is the answer of an earlier request",
                "schema": {"type": "string"},
            }
        }
    if path in ("/v1/generate", "/v1/jobs/{job_id}/result"):
        responses["200"]["content"] |= {
            kind: {"schema": {"type": "string", "format": "binary"}} for kind in PICTURE_TYPES
        }
    operation.setdefault(
        "security", WHO if "jobs" in operation.get("tags", []) else []
    )  # []: for everyone


def _problem(status: int) -> Json:
    """A response with an example of every problem that has this status."""
    codes = [code for code, (of, _) in TITLES.items() if of == status]
    examples = {code: {"summary": TITLES[code][1], "value": _example(code)} for code in codes}
    content = {
        MEDIA_TYPE: {"schema": {"$ref": REF.format(model="ProblemBody")}, "examples": examples}
    }
    return {
        "description": " or ".join(TITLES[code][1] for code in codes),
        "content": content,
        **({"headers": WAIT} if status == 503 else {}),
    }


def _tensor_error(status: int) -> Json:
    """The same in the shape of the Open Inference Protocol."""
    problem = _problem(status)
    return problem | {
        "content": {"application/json": {"schema": {"$ref": REF.format(model="TensorError")}}}
    }


def _example(code: str) -> Json:
    status, title = TITLES[code]
    fault = {
        "field": "items[0].valence",
        "value": 1.5,
        "message": "Input should be less than or equal to 1",
    }
    return {
        "type": f"urn:affectgan:problem:{code}",
        "title": title,
        "status": status,
        "detail": "items[0].valence is 1.5: Input should be less than or equal to 1"
        if code == "invalid_value"
        else f"{title}, in other words",
        "instance": "/v1/generate",
        "request_id": "8c1f3a5e7d9b0246",
        "code": code,
        "errors": [fault] if code == "invalid_value" else [],
    }
