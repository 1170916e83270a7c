"""From a POST to its answer, the same way for all three operations: known, admitted, read, counted, run, told."""

import base64
from typing import Any

import orjson
from fastapi import Request
from starlette.responses import Response

from affect.archive import Operation
from service import schemas
from service.calls import Call, read_call

PICTURE_TYPES = ("image/png", "image/jpeg", "image/webp")
Json = dict[str, Any]


async def answer(request: Request, operation: Operation) -> Response:
    """The response to a POST of an operation. Raises Problem or BackendError."""
    state = request.state
    caller = await state.access.caller(request, operation)
    state.quotas.glance(caller)
    async with state.admission.admit(operation, request) as ticket:
        call = as_picture(await read_call(request, operation, max_images=state.settings.max_images), request)
        ticket.hold(call.pictures)
        await state.quotas.take(caller, call.pictures, request)
        with call.served(state.models) as version:
            value = await call.run(version.operations, seconds=ticket.seconds)
        state.shadows.cast(call, version, value)
        return told(value, call, request)


def wanted_picture(call: Call, request: Request) -> str | None:
    """The media type of the picture itself, when one item is asked for and `Accept` names a picture."""
    if call.operation != "generate" or call.pictures != 1:
        return None
    return next((kind for kind in PICTURE_TYPES if kind in request.headers.get("accept", "")), None)


def as_picture(call: Call, request: Request) -> Call:
    """The call with the format that `Accept` asks for."""
    wanted = wanted_picture(call, request)
    return Call(call.operation, call.body.model_copy(update={"format": wanted.removeprefix("image/")})) if wanted else call


def told(value: Json, call: Call, request: Request) -> Response:
    """The answer as JSON, or as the picture itself."""
    wanted, results = wanted_picture(call, request), value["results"]
    if wanted and isinstance(call.body, schemas.GenerateBody) and results[0]["status"] == "ok":
        headers = {"X-Seed": str(results[0]["seed"]), "X-Synthetic": "true"}
        return Response(base64.b64decode(results[0]["image"]["content"]), media_type=wanted, headers=headers)
    return as_json(value)


def as_json(value: Any, status: int = 200) -> Response:
    """Any plain value as a JSON response."""
    return Response(orjson.dumps(value), status, media_type="application/json")
