"""From an HTTP request of /v1 to an inference request: multipart form, JSON with base64, or one raw
picture.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import orjson
from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from affect.archive import Operation
from affect.images import MEDIA_TYPES
from service.inference.inference_request import InferenceRequest
from service.problems import Problem, invalid, problem_from_validation
from service.schemas import (
    ExplainBody,
    ExplainOptions,
    GenerateBody,
    ImageContent,
    PredictBody,
    PredictOptions,
)

M = TypeVar("M", bound=BaseModel)
FORM, JSON = "multipart/form-data", "application/json"
RAW = tuple(MEDIA_TYPES.values())
MOST_PARTS = 1024  # of a form; how many may be pictures is checked, and said, later


async def parse_inference_request(
    request: Request[Any], operation: Operation, *, max_images: int
) -> InferenceRequest:
    """Whatever form its body is in. Raises Problem: 400, 413, 415 or 422."""
    if operation == "generate":
        items = await read_json(request, GenerateBody)
        check_count("items", len(items.items), max_images)
        return InferenceRequest(operation, items)
    body: PredictBody | ExplainBody
    if operation == "predict":
        body = await _read_images(request, PredictBody, PredictOptions)
    else:
        body = await _read_images(request, ExplainBody, ExplainOptions)
    check_count("images", len(body.images), max_images)
    return InferenceRequest(operation, body)


def image_contents(images: Sequence[bytes]) -> list[ImageContent]:
    """Encoded pictures that did not come in JSON, as a body of JSON has them."""
    return [ImageContent.model_construct(content=image) for image in images]


async def read_json(request: Request[Any], model: type[M]) -> M:
    """The JSON body as a model."""
    kind = _content_type(request)
    if kind != JSON:
        raise Problem("unsupported_media_type", f"content type {kind or 'none'!r}; send {JSON}")
    return validate(model, _json(await request.body(), "body"))


def validate(model: type[M], value: Any, prefix: str = "") -> M:
    """`value` as a model, or 422 with every faulty field."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise problem_from_validation(error.errors(), prefix) from error


def check_count(field: str, count: int, most: int) -> None:
    """1 to `most`."""
    if not count:
        raise Problem(
            "no_images",
            f"{field} is empty; send 1 to {most}",
            errors=[{"field": field, "value": 0, "message": f"send 1 to {most}"}],
        )
    if count > most:
        errors = [{"field": field, "value": count, "message": f"send 1 to {most}"}]
        raise Problem(
            "too_many_images",
            f"{field} has {count} entries; send at most {most} in one request",
            errors=errors,
        )


async def _read_images(request: Request[Any], body: type[M], options: type[BaseModel]) -> M:
    """Pictures and the options for all of them, as the body that JSON would have."""
    kind = _content_type(request)
    if kind == JSON:
        return await read_json(request, body)
    if kind == FORM:
        images, chosen = await _read_form(request, options)
    elif kind in RAW:
        images, chosen = [await request.body()], options()
    else:
        raise Problem(
            "unsupported_media_type",
            f"content type {kind or 'none'!r}; send {FORM}, {JSON} or one of {', '.join(RAW)}",
        )
    return body.model_construct(images=image_contents(images), options=chosen)


def _content_type(request: Request[Any]) -> str:
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


async def _read_form(request: Request[Any], options: type[M]) -> tuple[list[bytes], M]:
    form = await _form(request)
    try:
        unknown = sorted(set(form) - {"images", "options"})
        if unknown:
            remedy = "unknown part; the form has `images` and `options`"
            raise invalid(unknown[0], "present", remedy)
        images = [await _picture(part) for part in form.getlist("images")]
        return images, await _options(form, options)
    finally:
        await form.close()


class _InMemoryParser(MultiPartParser):
    """Starlette's own writes files above 1 MB to disk; here pictures never touch it. The body limit
    bounds the memory.
    """

    spool_max_size = sys.maxsize


async def _form(request: Request[Any]) -> FormData:
    try:
        return await _InMemoryParser(
            request.headers, request.stream(), max_files=MOST_PARTS, max_fields=MOST_PARTS
        ).parse()
    except MultiPartException as error:
        raise Problem("malformed", f"the form cannot be read: {error.message}") from error


async def _picture(part: UploadFile | str) -> bytes:
    if isinstance(part, str):  # decoded as text already: the bytes are lost
        raise invalid("images", "text", "send each picture as a file: its part needs a filename")
    return await part.read()


async def _options(form: FormData, options: type[M]) -> M:
    part = form.get("options")
    if part is None:
        return options()
    return validate(
        options,
        _json(await part.read() if isinstance(part, UploadFile) else part.encode(), "options"),
        "options",
    )


def _json(content: bytes, field: str) -> Mapping[str, Any]:
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise Problem(
            "malformed",
            f"{field} is not JSON: {error}",
            errors=[{"field": field, "value": None, "message": str(error)}],
        ) from error
    if not isinstance(value, dict):
        raise invalid(field, type(value).__name__, "send a JSON object")
    return value
