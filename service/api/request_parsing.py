"""From an HTTP request to pictures and options: multipart form, JSON with base64, or one raw picture."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import orjson
from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from affect.images import MEDIA_TYPES
from service.problems import Problem, invalid, problem_from_validation

M = TypeVar("M", bound=BaseModel)
FORM, JSON = "multipart/form-data", "application/json"
RAW = tuple(MEDIA_TYPES.values())
MOST_PARTS = 1024  # of a form; how many may be pictures is checked, and said, later


@dataclass(frozen=True)
class ParsedImages(Generic[M]):
    """Encoded pictures in order, and the options for all of them."""

    images: list[bytes]
    options: M


async def read_images(
    request: Request, body: type[BaseModel], options: type[M], max_images: int
) -> ParsedImages[M]:
    """Whatever form it came in. Raises Problem: 400, 413, 415 or 422."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == FORM:
        intake = await _from_form(request, options, max_images)
    elif kind == JSON:
        parsed = await read_json(request, body)
        intake = ParsedImages([image.content for image in parsed.images], parsed.options)  # type: ignore[attr-defined]
    elif kind in RAW:
        intake = ParsedImages([await request.body()], options())
    else:
        raise Problem(
            "unsupported_media_type",
            f"content type {kind or 'none'!r}; send {FORM}, {JSON} or one of {', '.join(RAW)}",
        )
    check_count("images", len(intake.images), max_images)
    return intake


async def read_json(request: Request, model: type[M]) -> M:
    """The JSON body as a model."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != JSON:
        raise Problem("unsupported_media_type", f"content type {kind or 'none'!r}; send {JSON}")
    return validate(model, _json(await request.body(), "body"))


def validate(model: type[M], value: Any, inside: str = "") -> M:
    """`value` as a model, or 422 with every faulty field."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise problem_from_validation(error.errors(), inside) from error


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


async def _from_form(request: Request, options: type[M], max_images: int) -> ParsedImages[M]:
    form = await _form(request)
    try:
        unknown = sorted(set(form) - {"images", "options"})
        if unknown:
            raise invalid(
                unknown[0], "present", "unknown part; the form has `images` and `options`"
            )
        return ParsedImages(
            [await _picture(part) for part in form.getlist("images")], await _options(form, options)
        )
    finally:
        await form.close()


class _InMemory(MultiPartParser):
    """Starlette's own writes files above 1 MB to disk; here pictures never touch it. The body limit bounds the memory."""

    spool_max_size = sys.maxsize


async def _form(request: Request) -> FormData:
    try:
        return await _InMemory(
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
