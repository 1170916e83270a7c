"""From a POST to its answer, the same way for all three operations: known, admitted, read, looked up, counted, run or put off, told."""

import base64
from collections.abc import Mapping
from typing import Any, Protocol

import orjson
from fastapi import Request
from starlette.responses import Response

from affect.archive import Operation
from service.access.authentication import Caller
from service.api.idempotency import Idempotency
from service.api.job_routes import accept, owner_of, wants_job
from service.inference.admission import Ticket
from service.inference.inference_request import Call, read_call
from service.inference.response_cache import Place, matches, settled

PICTURE_TYPES = ("image/png", "image/jpeg", "image/webp")
Json = dict[str, Any]


class Form(Protocol):
    """The form in which a call is written and its answer told; all else is the same for every form."""

    jobs: bool  # whether it knows answers that are fetched later

    async def read(self, request: Request, operation: Operation) -> Call:
        """The call. Raises Problem."""

    def name(self, request: Request, call: Call) -> str:
        """What tells this answer from the same one in another form: part of its ETag."""

    def tell(
        self, request: Request, call: Call, answer: bytes, marks: Mapping[str, str]
    ) -> Response:
        """The answer, which is JSON, as a response with these headers."""


class Resources:
    """The form of /v1: JSON, multipart forms and raw pictures in; JSON, or one picture, out."""

    jobs = True

    async def read(self, request: Request, operation: Operation) -> Call:
        """See `Form`."""
        return as_picture(
            await read_call(request, operation, max_images=request.state.settings.max_images),
            request,
        )

    def name(self, request: Request, call: Call) -> str:
        """See `Form`."""
        return wanted_picture(call, request) or ""

    def tell(
        self, request: Request, call: Call, answer: bytes, marks: Mapping[str, str]
    ) -> Response:
        """See `Form`."""
        return told(answer, wanted_picture(call, request), marks)


RESOURCES = Resources()


async def answer(request: Request, operation: Operation, form: Form = RESOURCES) -> Response:
    """The response to a POST of an operation. Raises Problem or BackendError."""
    state = request.state
    caller = await state.access.caller(request, operation)
    state.quotas.glance(caller)
    async with state.admission.admit(operation, request) as ticket:
        call = await form.read(request, operation)
        ticket.worked = False  # until it is clear that something is left to do
        idempotency: Idempotency = state.idempotency
        return await idempotency.once(
            request, call, owner_of(caller), lambda: respond(request, call, caller, ticket, form)
        )


async def respond(
    request: Request, call: Call, caller: Caller, ticket: Ticket, form: Form
) -> Response:
    """The response to a call: the job that it becomes, or its answer."""
    if not (form.jobs and wants_job(request)):
        return await answered(request, call, caller, ticket, form)
    await request.state.quotas.take(caller, call.pictures, request)
    accepted = await accept(request, call, owner_of(caller), wanted_picture(call, request))
    return accepted or await answered(request, call, caller, ticket, form, counted=True)


async def answered(
    request: Request,
    call: Call,
    caller: Caller,
    ticket: Ticket,
    form: Form,
    *,
    counted: bool = False,
) -> Response:
    """The answer, known or found now. `counted`: it has been taken off the caller's quota."""
    state = request.state
    with call.served(state.models) as version:
        lasting = True

        async def work() -> Json:
            nonlocal lasting
            value = await call.run(version.operations, seconds=ticket.seconds)
            state.shadows.cast(call, version, value)
            lasting = settled(value)
            return value

        place = await state.cache.place(
            caller, call, version, request.headers, form.name(request, call)
        )
        same = place is not None and matches(place.etag, request.headers.get("if-none-match"))
        known, asked = b"" if same else state.cache.known(place), None
        if known is None:
            ticket.hold(call.pictures)
            asked = state.cache.ask(
                place
            )  # on its way before the quota's question, and so together with it
        if not counted:
            await state.quotas.take(caller, call.pictures, request)
        if asked is not None:
            known = await state.cache.fetched(place, asked)
        found, ticket.worked = known is not None, known is None
        if known is None:
            known, ticket.worked = await state.cache.answer(place, work)
        marks = _marks(
            place, "hit" if found else "fwd=miss" if ticket.worked else "fwd=miss; collapsed"
        )
        if not found and not (
            ticket.worked and lasting
        ):  # whoever joined does not know whether the answer lasts
            marks.pop("ETag", None)
        return (
            Response(status_code=304, headers=marks)
            if same
            else form.tell(request, call, known, marks)
        )


def _marks(place: Place | None, status: str) -> dict[str, str]:
    """What the answer says of the cache (RFC 9211)."""
    return (
        {"Cache-Status": f"AffectGAN; {status}", "ETag": place.etag}
        if place
        else {"Cache-Status": "AffectGAN; fwd=bypass"}
    )


def wanted_picture(call: Call, request: Request) -> str | None:
    """The media type of the picture itself, when one item is asked for and `Accept` names a picture."""
    if call.operation != "generate" or call.pictures != 1:
        return None
    return next((kind for kind in PICTURE_TYPES if kind in request.headers.get("accept", "")), None)


def as_picture(call: Call, request: Request) -> Call:
    """The call with the format that `Accept` asks for."""
    wanted = wanted_picture(call, request)
    return (
        Call(call.operation, call.body.model_copy(update={"format": wanted.removeprefix("image/")}))
        if wanted
        else call
    )


def told(answer: bytes, wanted: str | None, headers: Mapping[str, str]) -> Response:
    """The answer, which is JSON, as it is, or as the picture in it when its media type is `wanted`."""
    result = orjson.loads(answer)["results"][0] if wanted else {}
    if result.get("status") == "ok":
        about = {"X-Seed": str(result["seed"]), "X-Synthetic": "true", **headers}
        return Response(
            base64.b64decode(result["image"]["content"]), media_type=wanted, headers=about
        )
    return Response(answer, media_type="application/json", headers=dict(headers))


def as_json(value: Any, status: int = 200) -> Response:
    """Any plain value as a JSON response."""
    return Response(orjson.dumps(value), status, media_type="application/json")
