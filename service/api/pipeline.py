"""The pipeline of every inference, from a POST to its response:

authenticate, receive, admit, parse, look up, rate-limit, compute, render.

What comes in and goes out differs by protocol: /v1 (service/api/rest.py), or the Open Inference
Protocol (service/api/open_inference.py). A protocol is a function that parses a request and says
how its result is rendered; all else is the same for both.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.responses import Response

from affect.archive import Operation
from service.access.authentication import Principal
from service.api.job_routes import accept_job, wants_job
from service.api.state import ApiRequest
from service.inference.admission import AdmissionPermit
from service.inference.fair_slots import Flow, current_flow
from service.inference.inference_request import InferenceRequest
from service.inference.model_registry import Version
from service.inference.response_cache import CacheKey, etag_matches
from service.inference.results import InferenceResult

LOOP_MOST_BYTES = 1 << 18  # of a result that is rendered on the event loop


@dataclass(frozen=True)
class ParsedRequest:
    """A request as its protocol reads it. `representation` distinguishes this response from the
    same result in another form.

    `render` may raise Problem. `image_media_type` is that of a picture which is to be the whole
    response.
    """

    inference: InferenceRequest
    render: Callable[[InferenceResult, Mapping[str, str]], Response]
    representation: str = ""
    image_media_type: str | None = None
    may_be_job: bool = False


ProtocolAdapter = Callable[[ApiRequest, Operation, bytes], Awaitable[ParsedRequest]]


@dataclass
class Exchange:
    """One request in the pipeline. `is_counted`: it has been charged to the client's quota."""

    request: ApiRequest
    principal: Principal
    permit: AdmissionPermit
    parsed: ParsedRequest
    is_counted: bool = False

    @property
    def inference(self) -> InferenceRequest:
        """The parsed inference request."""
        return self.parsed.inference


@dataclass(frozen=True)
class Lookup:
    """The cache's local result: the key, whether the client has the answer already (If-None-Match),
    the result when this process has it, and otherwise the pending read from Redis.
    """

    key: CacheKey | None
    is_not_modified: bool = False
    result: InferenceResult | None = None
    fetch: asyncio.Future[Any] | None = None


@dataclass(frozen=True)
class Outcome:
    """The result, None when the client has it; its cache status (RFC 9211), and whether the same
    request would get it again.
    """

    result: InferenceResult | None
    cache_status: str
    is_lasting: bool = True


async def serve(request: ApiRequest, operation: Operation, adapter: ProtocolAdapter) -> Response:
    """The response to a POST of an operation. Raises Problem or BackendError."""
    principal = await authenticate(request, operation)
    current_flow.set(Flow(principal.id))
    async with (
        receive(request, operation, principal) as body,
        admit(request, operation, principal) as permit,
    ):
        parsed = await parse(request, body, permit, operation, adapter)
        exchange = Exchange(request, principal, permit, parsed)
        idempotency = request.state["idempotency"]
        return await idempotency.once(
            request, exchange.inference, principal.owner, partial(respond, exchange)
        )


async def respond(exchange: Exchange) -> Response:
    """The job that a request becomes, when it asks for that and one can be kept; otherwise its
    answer.
    """
    return await start_job(exchange) or await infer_cached(exchange)


async def infer_cached(exchange: Exchange) -> Response:
    """The answer, from the cache or computed."""
    with exchange.inference.serving_version(exchange.request.state["models"]) as version:
        lookup = await look_up(exchange, version)
        await rate_limit(exchange)
        outcome = await compute(exchange, version, lookup)
        return await render(exchange, lookup.key, outcome)


# -- the steps -------------------------------------------------------------------------------------


async def authenticate(request: ApiRequest, operation: Operation) -> Principal:
    """The principal. Raises Problem: 401, 403, and 429 for a caller who was refused and has not
    waited.
    """
    principal = await request.state["authenticator"].authenticate(request, operation)
    request.state["rate_limiter"].check_exhausted(principal)
    return principal


def receive(
    request: ApiRequest, operation: Operation, principal: Principal
) -> AbstractAsyncContextManager[bytes]:
    """The body, held inside the context; an incomplete body takes no capacity from complete
    requests.

    Raises Problem: 503 at once when there is too much to do, 408 when it does not come in time,
    and what else `BodyReader.read` raises.
    """
    request.state["admission"].check(operation, request, principal.id)
    return request.state["bodies"].read(request, principal)


def admit(
    request: ApiRequest, operation: Operation, principal: Principal
) -> AbstractAsyncContextManager[AdmissionPermit]:
    """Within, the request is in flight. Raises Problem: 503 when there is too much to do, 504 at
    its deadline.
    """
    return request.state["admission"].admit(operation, request, principal.id)


async def parse(
    request: ApiRequest,
    body: bytes,
    permit: AdmissionPermit,
    operation: Operation,
    adapter: ProtocolAdapter,
) -> ParsedRequest:
    """The checked request of the body. Raises Problem: 400, 413, 415, 422."""
    parsed = await adapter(request, operation, body)
    permit.computed = False  # until it is clear that something is left to compute
    return parsed


async def start_job(exchange: Exchange) -> Response | None:
    """202, when the request asks for a job and one can be kept."""
    parsed, request = exchange.parsed, exchange.request
    if not (parsed.may_be_job and wants_job(request)):
        return None
    await rate_limit(exchange)
    owner = exchange.principal.owner
    return await accept_job(request, parsed.inference, owner, parsed.image_media_type)


async def look_up(exchange: Exchange, version: Version) -> Lookup:
    """The cached answer, if any. The read from Redis is sent but not awaited: it goes in one batch
    with the rate limit's.
    """
    cache, headers = exchange.request.state["cache"], exchange.request.headers
    key = await cache.key_for(
        exchange.inference,
        version,
        principal=exchange.principal,
        headers=headers,
        representation=exchange.parsed.representation,
    )
    if key is not None and etag_matches(key.etag, headers.get("if-none-match")):
        return Lookup(key, is_not_modified=True)
    result = cache.get_local(key) if key else None
    if result is not None:
        return Lookup(key, result=result)
    exchange.permit.reserve(exchange.inference.image_count)
    return Lookup(key, fetch=cache.start_fetch(key) if key else None)


async def rate_limit(exchange: Exchange) -> None:
    """Charge the request to the client's quota, once. Raises Problem: 413, 429."""
    if exchange.is_counted:
        return
    exchange.is_counted = True
    images = exchange.inference.image_count
    await exchange.request.state["rate_limiter"].take(exchange.principal, images, exchange.request)


async def compute(exchange: Exchange, version: Version, lookup: Lookup) -> Outcome:
    """The result: cached, fetched, computed here, or shared with an identical request in flight.
    Raises Problem or BackendError.
    """
    if lookup.is_not_modified or lookup.result is not None:
        return Outcome(lookup.result, "hit")
    cache, key = exchange.request.state["cache"], lookup.key
    if key is not None and lookup.fetch is not None:
        fetched = await cache.finish_fetch(key, lookup.fetch)
        if fetched is not None:
            return Outcome(fetched, "hit")
    exchange.permit.computed = True
    result, first = await cache.get_or_compute(key, partial(infer, exchange, version))
    exchange.permit.computed = first
    if first:
        return Outcome(result, "fwd=miss", is_lasting=result.is_cacheable)
    return Outcome(result, "fwd=miss; collapsed", is_lasting=False)


async def infer(exchange: Exchange, version: Version) -> InferenceResult:
    """The model's result, with which that of its shadow is compared."""
    seconds = exchange.permit.deadline_seconds
    result = await exchange.inference.run(version.operations, seconds=seconds)
    exchange.request.state["shadows"].send(exchange.inference, version, result)
    return result


async def render(exchange: Exchange, key: CacheKey | None, outcome: Outcome) -> Response:
    """The result in the requested form, with the cache's headers."""
    headers = _cache_headers(key, outcome)
    if outcome.result is None:
        return Response(status_code=304, headers=headers)
    if outcome.result.size_bytes > LOOP_MOST_BYTES:
        return await asyncio.to_thread(exchange.parsed.render, outcome.result, headers)
    return exchange.parsed.render(outcome.result, headers)


def _cache_headers(key: CacheKey | None, outcome: Outcome) -> dict[str, str]:
    if key is None:
        return {"Cache-Status": "AffectGAN; fwd=bypass"}
    headers = {"Cache-Status": f"AffectGAN; {outcome.cache_status}"}
    return headers | ({"ETag": key.etag} if outcome.is_lasting else {})
