"""From the body of a POST of /v1 to an inference request: JSON with base64, a form, or one picture.

Sizes are checked before anything is built of a body.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.datastructures import QueryParams

from affect.archive import Operation
from affect.images import ImageError, media_type
from service.api.forms import parse_form
from service.inference.inference_request import InferenceRequest
from service.problems import Problem, invalid, problem_from_validation
from service.schemas import (
    ExplainBody,
    ExplainOptions,
    GenerateBody,
    ImageContent,
    PredictBody,
    PredictOptions,
    VerifyBody,
    VerifyOptions,
)

M = TypeVar("M", bound=BaseModel)
FORM, JSON = "multipart/form-data", "application/json"
# One picture; its bytes say of which kind.
RAW = (
    *("image/jpeg", "image/jpg", "image/pjpeg", "image/png", "image/x-png", "image/webp"),
    *("image/*", "application/octet-stream"),
)
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
TAKEN = f"{FORM}, {JSON}, or one picture as image/jpeg, image/png or image/webp"
# Of JSON: commas and brackets, which bound the number of objects built of it. An item with forty
# Action Units has about fifty.
MOST_MARKS, MARKS_OF_AN_ITEM = 1000, 100
MARKS = b",[{"
COUNTED_BYTES = 1 << 20  # at a time, so that other threads can run in between


@dataclass(frozen=True)
class ReceivedBody:
    """A body with its headers and query."""

    content: bytes
    content_type: str
    query: QueryParams

    @property
    def kind(self) -> str:
        """The media type, without parameters."""
        return self.content_type.split(";")[0].strip().lower()


def parse_inference_request(
    body: ReceivedBody, operation: Operation, *, max_images: int
) -> InferenceRequest:
    """The request in any of the accepted forms. Raises Problem: 400, 413, 415 or 422."""
    if operation == "generate":
        _refuse_query(body)
        return InferenceRequest(operation, _items(body, max_images))
    if operation == "predict":
        return InferenceRequest(operation, _images(body, PredictBody, PredictOptions, max_images))
    return InferenceRequest(operation, _images(body, ExplainBody, ExplainOptions, max_images))


def parse_verification(body: ReceivedBody, *, max_images: int) -> VerifyBody:
    """The same for /v1/verify."""
    return _images(body, VerifyBody, VerifyOptions, max_images)


def image_contents(images: Sequence[bytes]) -> list[ImageContent]:
    """Encoded pictures that did not come in JSON, as a body of JSON has them."""
    return [ImageContent.model_construct(content=image) for image in images]


def validate(model: type[M], value: Any, prefix: str = "") -> M:
    """`value` as a model, or 422 with the faulty fields."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise problem_from_validation(error.errors(include_url=False), prefix) from error


def check_count(field: str, count: int, limit: int) -> None:
    """1 to `most`."""
    if not count:
        raise Problem(
            "no_images",
            f"{field} is empty; send 1 to {limit}",
            errors=[{"field": field, "value": 0, "message": f"send 1 to {limit}"}],
        )
    if count > limit:
        errors = [{"field": field, "value": count, "message": f"send 1 to {limit}"}]
        raise Problem(
            "too_many_images",
            f"{field} has {count} entries; send at most {limit} in one request",
            errors=errors,
        )


def check_marks(content: bytes, limit: int, remedy: str) -> None:
    """Whether JSON has few enough commas and brackets to be built. Raises Problem: 413."""
    count = 0
    for start in range(0, len(content), COUNTED_BYTES):
        part = content[start : start + COUNTED_BYTES]
        count += len(part) - len(part.translate(None, MARKS))
        if count > limit:
            raise Problem("body_too_large", f"the JSON has more than {limit:,} elements; {remedy}")


def _items(body: ReceivedBody, most_items: int) -> GenerateBody:
    if body.kind != JSON:
        raise _not_taken(body.kind, JSON)
    return _counted_json(body.content, GenerateBody, "items", most_items)


def _images(body: ReceivedBody, model: type[M], options: type[BaseModel], most_images: int) -> M:
    """Pictures and the options for all of them, as the body that JSON would have."""
    if body.kind == JSON:
        _refuse_query(body)
        return _counted_json(body.content, model, "images", most_images)
    if body.kind == FORM:
        _refuse_query(body)
        images, options_sent = _of_form(body, options)
    elif body.kind in RAW or _is_mislabelled_picture(body):
        images, options_sent = [body.content], _of_query(body.query, options)
    else:
        raise _not_taken(body.kind, TAKEN)
    check_count("images", len(images), most_images)
    return model.model_construct(images=image_contents(images), options=options_sent)


def _is_mislabelled_picture(body: ReceivedBody) -> bool:
    """A picture we read under another picture's name (telephones call JPEG image/heic), that of any
    file (stores of objects say binary/octet-stream), or none.
    """
    if body.kind and not body.kind.startswith("image/") and not body.kind.endswith("/octet-stream"):
        return False
    try:
        return bool(media_type(body.content))
    except ImageError:
        return False


def _counted_json(content: bytes, model: type[M], field: str, limit: int) -> M:
    """The JSON body as a model, its list of so many counted first."""
    remedy = f"send at most {limit} {field} in one request"
    check_marks(content, MOST_MARKS + MARKS_OF_AN_ITEM * limit, remedy)
    value = _json(content, "body")
    entries = value.get(field)
    if isinstance(entries, list):
        check_count(field, len(entries), limit)
    return validate(model, value)


def _of_form(body: ReceivedBody, options: type[M]) -> tuple[list[bytes], M]:
    parts = parse_form(body.content, body.content_type)
    unknown = sorted({part.name for part in parts} - {"images", "options"})
    if unknown:
        raise invalid(unknown[0], "present", "unknown part; the form has `images` and `options`")
    pictures = [part for part in parts if part.name == "images"]
    if any(not part.is_file for part in pictures):
        remedy = "send each picture as a file: its part needs a filename"
        raise invalid("images", "text", remedy)
    option_parts = [part.content for part in parts if part.name == "options"]
    if len(option_parts) > 1:
        raise invalid("options", f"{len(option_parts)} parts", "send one part of this name")
    if option_parts:
        check_marks(option_parts[0], MOST_MARKS, "options are a small object")
        read = validate(options, _json(option_parts[0], "options"), "options")
    return [part.content for part in pictures], read if option_parts else options()


def _of_query(query: QueryParams, options: type[M]) -> M:
    """Options beside one picture: ?faces=none, and question={"au": "AU12"} or question.au=AU12."""
    values: dict[str, Any] = {}
    for name, value in query.multi_items():
        outer, _, inner = name.partition(".")
        target = values.setdefault(outer, {}) if inner else values
        if not isinstance(target, dict) or (inner or outer) in target:
            raise invalid(f"options.{name}", value, "it is given twice; give it once")
        is_object = value.startswith("{")
        target[inner or outer] = _json(value.encode(), f"options.{name}") if is_object else value
    return validate(options, values, "options")


def _refuse_query(body: ReceivedBody) -> None:
    if body.query:
        name = next(iter(body.query))
        remedy = "options stand in the address beside one picture only; put them into the body"
        raise invalid(f"?{name}", body.query[name], remedy)


def _not_taken(kind: str, accepted: str) -> Problem:
    return Problem("unsupported_media_type", f"content type {kind or 'none'!r}; send {accepted}")


def _json(content: bytes, field: str) -> Mapping[str, Any]:
    try:
        value = orjson.loads(content.removeprefix(BYTE_ORDER_MARK))
    except orjson.JSONDecodeError as error:
        raise Problem(
            "malformed",
            f"{field} is not JSON: {error}",
            errors=[{"field": field, "value": None, "message": str(error)}],
        ) from error
    if not isinstance(value, dict):
        raise invalid(field, value, "send a JSON object")
    return value
