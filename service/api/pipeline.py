"""From a POST to its answer, the same way for all three operations: known, admitted, read, looked up, counted, run or put off, told."""

import base64
from collections.abc import Mapping
from typing import Any, Protocol

import orjson
from fastapi import Request
from starlette.responses import Response

from affect.archive import Operation
from service.access.authentication import Principal
from service.api.idempotency import Idempotency
from service.api.job_routes import accept, owner_of, wants_job
from service.inference.admission import AdmissionPermit
from service.inference.inference_request import InferenceRequest, read_inference_request
from service.inference.response_cache import CacheKey, is_cacheable, matches

PICTURE_TYPES = ("image/png", "image/jpeg", "image/webp")
Json = dict[str, Any]


class ProtocolAdapter(Protocol):
    """The form in which a call is written and its answer told; all else is the same for every form."""

    jobs: bool  # whether it knows answers that are fetched later

    async def read(self, request: Request, operation: Operation) -> InferenceRequest:
        """The call. Raises Problem."""

    def name(self, request: Request, call: InferenceRequest) -> str:
        """What tells this answer from the same one in another form: part of its ETag."""

    def tell(
        self, request: Request, call: InferenceRequest, answer: bytes, marks: Mapping[str, str]
    ) -> Response:
        """The answer, which is JSON, as a response with these headers."""


class RestAdapter:
    """The form of /v1: JSON, multipart forms and raw pictures in; JSON, or one picture, out."""

    jobs = True

    async def read(self, request: Request, operation: Operation) -> InferenceRequest:
        """See `ProtocolAdapter`."""
        return as_picture(
            await read_inference_request(
                request, operation, max_images=request.state.settings.max_images
            ),
            request,
        )

    def name(self, request: Request, call: InferenceRequest) -> str:
        """See `ProtocolAdapter`."""
        return wanted_picture(call, request) or ""

    def tell(
        self, request: Request, call: InferenceRequest, answer: bytes, marks: Mapping[str, str]
    ) -> Response:
        """See `ProtocolAdapter`."""
        return told(answer, wanted_picture(call, request), marks)


REST = RestAdapter()


async def answer(request: Request, operation: Operation, form: ProtocolAdapter = REST) -> Response:
    """The response to a POST of an operation. Raises Problem or BackendError."""
    state = request.state
    principal = await state.access.principal(request, operation)
    state.quotas.check_exhausted(principal)
    async with state.admission.admit(operation, request) as ticket:
        call = await form.read(request, operation)
        ticket.worked = False  # until it is clear that something is left to do
        idempotency: Idempotency = state.idempotency
        return await idempotency.once(
            request,
            call,
            owner_of(principal),
            lambda: respond(request, call, principal, ticket, form),
        )


async def respond(
    request: Request,
    call: InferenceRequest,
    principal: Principal,
    ticket: AdmissionPermit,
    form: ProtocolAdapter,
) -> Response:
    """The response to a call: the job that it becomes, or its answer."""
    if not (form.jobs and wants_job(request)):
        return await answered(request, call, principal, ticket, form)
    await request.state.quotas.take(principal, call.image_count, request)
    accepted = await accept(request, call, owner_of(principal), wanted_picture(call, request))
    return accepted or await answered(request, call, principal, ticket, form, counted=True)


async def answered(
    request: Request,
    call: InferenceRequest,
    principal: Principal,
    ticket: AdmissionPermit,
    form: ProtocolAdapter,
    *,
    counted: bool = False,
) -> Response:
    """The answer, known or found now. `counted`: it has been taken off the caller's quota."""
    state = request.state
    with call.serving_version(state.models) as version:
        lasting = True

        async def work() -> Json:
            nonlocal lasting
            value = await call.run(version.operations, seconds=ticket.seconds)
            state.shadows.cast(call, version, value)
            lasting = is_cacheable(value)
            return value

        place = await state.cache.key_for(
            principal, call, version, request.headers, form.name(request, call)
        )
        same = place is not None and matches(place.etag, request.headers.get("if-none-match"))
        known, asked = b"" if same else state.cache.get_local(place), None
        if known is None:
            ticket.hold(call.image_count)
            asked = state.cache.start_fetch(
                place
            )  # on its way before the quota's question, and so together with it
        if not counted:
            await state.quotas.take(principal, call.image_count, request)
        if asked is not None:
            known = await state.cache.finish_fetch(place, asked)
        found, ticket.worked = known is not None, known is None
        if known is None:
            known, ticket.worked = await state.cache.get_or_compute(place, work)
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


def _marks(place: CacheKey | None, status: str) -> dict[str, str]:
    """What the answer says of the cache (RFC 9211)."""
    return (
        {"Cache-Status": f"AffectGAN; {status}", "ETag": place.etag}
        if place
        else {"Cache-Status": "AffectGAN; fwd=bypass"}
    )


def wanted_picture(call: InferenceRequest, request: Request) -> str | None:
    """The media type of the picture itself, when one item is asked for and `Accept` names a picture."""
    if call.operation != "generate" or call.image_count != 1:
        return None
    return next((kind for kind in PICTURE_TYPES if kind in request.headers.get("accept", "")), None)


def as_picture(call: InferenceRequest, request: Request) -> InferenceRequest:
    """The call with the format that `Accept` asks for."""
    wanted = wanted_picture(call, request)
    return (
        InferenceRequest(
            call.operation, call.body.model_copy(update={"format": wanted.removeprefix("image/")})
        )
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
