"""From a POST to its answer, the same way for all three operations: known, admitted, read, looked up, counted, run, told."""

import base64
from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import Request
from starlette.responses import Response

from affect.archive import Operation
from service.cache import Place, matches
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
        with call.served(state.models) as version:

            async def work() -> Json:
                value = await call.run(version.operations, seconds=ticket.seconds)
                state.shadows.cast(call, version, value)
                return value

            place = await state.cache.place(caller, call, version, request.headers)
            same = place is not None and matches(place.etag, request.headers.get("if-none-match"))
            known = b"" if same else await state.cache.find(place)
            if known is None:
                ticket.hold(call.pictures)
            await state.quotas.take(caller, call.pictures, request)
            found, ticket.worked = known is not None, known is None
            if known is None:
                known, ticket.worked = await state.cache.answer(place, work)
        marks = _marks(place, "hit" if found else "fwd=miss" if ticket.worked else "fwd=miss; collapsed")
        return Response(status_code=304, headers=marks) if same else told(known, call, request, marks)


def _marks(place: Place | None, status: str) -> dict[str, str]:
    """What the answer says of the cache (RFC 9211)."""
    return {"Cache-Status": f"AffectGAN; {status}", "ETag": place.etag} if place else {"Cache-Status": "AffectGAN; fwd=bypass"}


def wanted_picture(call: Call, request: Request) -> str | None:
    """The media type of the picture itself, when one item is asked for and `Accept` names a picture."""
    if call.operation != "generate" or call.pictures != 1:
        return None
    return next((kind for kind in PICTURE_TYPES if kind in request.headers.get("accept", "")), None)


def as_picture(call: Call, request: Request) -> Call:
    """The call with the format that `Accept` asks for."""
    wanted = wanted_picture(call, request)
    return Call(call.operation, call.body.model_copy(update={"format": wanted.removeprefix("image/")})) if wanted else call


def told(answer: bytes, call: Call, request: Request, headers: Mapping[str, str]) -> Response:
    """The answer, which is JSON, as it is or as the picture in it."""
    wanted = wanted_picture(call, request)
    result = orjson.loads(answer)["results"][0] if wanted else {}
    if result.get("status") == "ok":
        about = {"X-Seed": str(result["seed"]), "X-Synthetic": "true", **headers}
        return Response(base64.b64decode(result["image"]["content"]), media_type=wanted, headers=about)
    return Response(answer, media_type="application/json", headers=dict(headers))


def as_json(value: Any, status: int = 200) -> Response:
    """Any plain value as a JSON response."""
    return Response(orjson.dumps(value), status, media_type="application/json")
