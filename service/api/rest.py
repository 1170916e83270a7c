"""The protocol of /v1: JSON, multipart forms and raw pictures in; JSON, or one picture, out."""

from affect.archive import Operation
from service.api.json_answers import IMAGE_MEDIA_TYPES, render_response
from service.api.pipeline import ParsedRequest
from service.api.request_parsing import parse_inference_request
from service.api.state import ApiRequest
from service.inference.inference_request import InferenceRequest


async def rest(request: ApiRequest, operation: Operation) -> ParsedRequest:
    """A `ProtocolAdapter`. Raises Problem: 400, 413, 415 or 422."""
    most = request.state["settings"].max_images
    inference = await parse_inference_request(request, operation, max_images=most)
    media_type = _image_media_type(inference, request.headers.get("accept", ""))
    if media_type is not None:
        image_format = media_type.removeprefix("image/")
        body = inference.body.model_copy(update={"format": image_format})
        inference = InferenceRequest(operation, body)
    return ParsedRequest(
        inference,
        render=lambda result, headers: render_response(result, media_type, headers),
        representation=media_type or "",
        image_media_type=media_type,
        may_be_job=True,
    )


def _image_media_type(inference: InferenceRequest, accept: str) -> str | None:
    """That of the picture itself, when one item is asked for and `Accept` names a picture."""
    if inference.operation != "generate" or inference.image_count != 1:
        return None
    return next((kind for kind in IMAGE_MEDIA_TYPES if kind in accept), None)
