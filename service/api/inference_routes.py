"""The three operations at /v1. They read their bodies themselves, since one route takes three
forms.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.responses import Response

from affect import answers
from service.api.json_answers import IMAGE_MEDIA_TYPES
from service.api.pipeline import serve
from service.api.rest import rest
from service.api.state import ApiRequest
from service.inference.admission import DEADLINE_HEADER
from service.problems import RATE_LIMIT, STATUSES, openapi_response


class RequestRoute(APIRoute):
    """A route whose function takes the request alone: FastAPI resolves no dependencies for it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The function itself."""
        handler: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return handler


router = APIRouter(tags=["faces"], route_class=RequestRoute)
_TEXT = {"schema": {"type": "string"}}
CACHED = {
    "ETag": {
        "description": "Of an answer that the same request would get again; send it as "
        "If-None-Match",
        **_TEXT,
    },
    "Cache-Status": {
        "description": "RFC 9211: hit, or why the model was asked",
        "example": "AffectGAN; hit",
        **_TEXT,
    },
}
PARAMETERS: list[dict[str, Any]] = [
    {
        "name": DEADLINE_HEADER,
        "in": "header",
        "required": False,
        "schema": {"type": "number", "exclusiveMinimum": 0},
        "description": "seconds, once the request is through, in which the answer must be there; "
        "then it is a 504",
    },
    {
        "name": "If-None-Match",
        "in": "header",
        "required": False,
        "schema": {"type": "string"},
        "description": "ETag of an answer you have",
    },
]
# The last: a gateway without keys is open.
SECURITY: list[dict[str, list[str]]] = [{"bearer": []}, {"key": []}, {}]


def _docs(answer: type[BaseModel], body: str, options: str | None) -> dict[str, Any]:
    """The entries of an operation in openapi.yaml, as arguments of its route."""
    responses: dict[int | str, dict[str, Any]] = {
        200: {"model": answer, "headers": RATE_LIMIT | CACHED},
        304: {
            "description": "The answer is the one that If-None-Match names",
            "headers": RATE_LIMIT | CACHED,
        },
    }
    for status, facts in STATUSES.items():
        responses[status] = openapi_response(facts.description, facts.headers)
    content = {"application/json": {"schema": _reference(body)}}
    plain = {"required": True, "content": content}
    extra = {
        "requestBody": plain if options is None else image_body(body, options),
        "parameters": PARAMETERS,
        "security": SECURITY,
    }
    return {"response_model": None, "responses": responses, "openapi_extra": extra}


def image_body(body: str, options: str) -> dict[str, Any]:
    """The forms in which pictures come; both are names of schemas."""
    forms = {"application/json": {"schema": _reference(body)}} | _image_forms(options)
    return {"required": True, "content": forms}


def _image_forms(options: str) -> dict[str, Any]:
    """Pictures that do not come in JSON: in a form with their options, or one as it is."""
    binary = {"type": "string", "format": "binary"}
    images_part = {
        "type": "array",
        "items": binary,
        "description": "1 to 64 JPEG, PNG or WebP files",
    }
    options_part = {
        "type": "string",
        "description": "the options as JSON; left out: the defaults",
        "contentMediaType": "application/json",
        "contentSchema": _reference(options),
    }
    form = {
        "type": "object",
        "required": ["images"],
        "properties": {"images": images_part, "options": options_part},
        "additionalProperties": False,
    }
    raw = {kind: {"schema": binary} for kind in IMAGE_MEDIA_TYPES}
    return {"multipart/form-data": {"schema": form}, **raw}


def _reference(schema: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{schema}"}


@router.post(
    "/v1/predict",
    summary="Read faces",
    **_docs(answers.PredictAnswer, "PredictBody", "PredictOptions"),
)
async def predict(request: ApiRequest) -> Response:
    """AU probabilities, valence and arousal of the faces in 1 to 64 pictures. A bad picture fails
    alone. Options of one raw picture stand in the address: `?faces=all`.
    """
    return await serve(request, "predict", rest)


@router.post(
    "/v1/generate",
    summary="Draw faces",
    **_docs(answers.GenerateAnswer, "GenerateBody", None),
)
async def generate(request: ApiRequest) -> Response:
    """Synthetic faces in wanted states. With one item and `Accept: image/png` (jpeg, webp) the
    answer is the picture itself.
    """
    return await serve(request, "generate", rest)


@router.post(
    "/v1/explain",
    summary="Explain readings",
    **_docs(answers.ExplainAnswer, "ExplainBody", "ExplainOptions"),
)
async def explain(request: ApiRequest) -> Response:
    """The least change to each face that changes a decision: its picture, its map, and how far to
    trust it.
    """
    return await serve(request, "explain", rest)
