"""The protocol of /v1: JSON, multipart forms and raw pictures in; JSON, or one picture, out."""

from affect.archive import Operation
from service.api.accept import preferred
from service.api.bodies import off_the_loop
from service.api.json_answers import IMAGE_MEDIA_TYPES, render_response
from service.api.pipeline import ParsedRequest
from service.api.request_parsing import JSON, ReceivedBody, parse_inference_request
from service.api.state import ApiRequest
from service.inference.inference_request import InferenceRequest
from service.schemas import GenerateBody


async def rest(request: ApiRequest, operation: Operation, content: bytes) -> ParsedRequest:
    """A `ProtocolAdapter`. Raises Problem: 400, 413, 415 or 422."""
    most_images = request.state["settings"].max_images
    body = ReceivedBody(content, request.headers.get("content-type", ""), request.query_params)
    inference = await off_the_loop(
        content, lambda: parse_inference_request(body, operation, max_images=most_images)
    )
    media_type = _image_media_type(inference, request.headers.get("accept", ""))
    if media_type is not None:
        image_format = media_type.removeprefix("image/")
        generation = inference.body.model_copy(update={"format": image_format})
        inference = InferenceRequest(operation, generation)
    return ParsedRequest(
        inference,
        render=lambda result, headers: render_response(result, media_type, headers),
        representation=media_type or "",
        image_media_type=media_type,
        may_be_job=True,
    )


def _image_media_type(inference: InferenceRequest, accept: str) -> str | None:
    """That of the picture itself, when one item is requested and the client prefers it. Of pictures
    that it prefers equally, the one in the format that the body asks for.
    """
    body = inference.body
    if not isinstance(body, GenerateBody) or inference.image_count != 1:
        return None
    preferred_type = f"image/{body.format}"
    others = [kind for kind in IMAGE_MEDIA_TYPES if kind != preferred_type]
    best = preferred(accept, [JSON, preferred_type, *others])
    return None if best in (None, JSON) else best
