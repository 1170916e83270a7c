"""/v1/verify: which marks pictures have. No model is asked, so there is no cache and no job; who
may predict may verify, on the same quota.
"""

import orjson
from fastapi import APIRouter
from starlette.responses import Response

from affect import answers
from affect.archive import Operation
from service.api.bodies import off_the_loop
from service.api.inference_routes import SECURITY, image_body
from service.api.json_answers import json_response
from service.api.pipeline import admit, authenticate, receive
from service.api.request_parsing import ReceivedBody, parse_verification
from service.api.state import ApiRequest
from service.inference.fair_slots import Flow, current_flow
from service.inference.verification import verify_pictures
from service.problems import RATE_LIMIT, STATUSES, openapi_response

router = APIRouter(tags=["faces"])
PERMISSION: Operation = "predict"


@router.post(
    "/v1/verify",
    summary="Find marks of AI",
    response_model=None,
    responses={
        200: {"model": answers.VerifyAnswer, "headers": RATE_LIMIT},
        **{s: openapi_response(one.description, one.headers) for s, one in STATUSES.items()},
    },
    openapi_extra={"requestBody": image_body("VerifyBody", "VerifyOptions"), "security": SECURITY},
)
async def verify(request: ApiRequest) -> Response:
    """Who signed 1 to 64 pictures, whether they carry the watermark of a model served here, and
    whether a model made them. `unknown` proves nothing. A bad picture fails alone.
    """
    state = request.state
    principal = await authenticate(request, PERMISSION)
    current_flow.set(Flow(principal.id))
    async with (
        receive(request, PERMISSION, principal) as content,
        admit(request, PERMISSION, principal) as permit,
    ):
        body = ReceivedBody(content, request.headers.get("content-type", ""), request.query_params)
        most_images = state["settings"].max_images
        parsed = await off_the_loop(
            content, lambda: parse_verification(body, max_images=most_images)
        )
        permit.reserve(len(parsed.images))
        await state["rate_limiter"].take(principal, len(parsed.images), request)
        images = [image.content for image in parsed.images]
        results = await verify_pictures(state["models"], images)
        answer = answers.VerifyAnswer(results=results)
        return json_response(orjson.dumps(answer.model_dump(mode="json", exclude_none=True)))
