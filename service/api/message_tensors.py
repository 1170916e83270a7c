"""Aligned crops from another gateway: the messages of affect/protocol inside the Open Inference
Protocol, which its `--runtime oip://HOST` sends (service/backend/open_inference_client.py).

The model `affectgan-predict.message` takes and gives one BYTES tensor of one row called `message`.
Nothing is decoded, detected or cached here: the calling gateway has done that. Its keys, quotas,
admission, deadline, breaker and metrics are those of every request.
"""

from typing import Protocol

import numpy as np
from starlette.responses import Response

from affect.archive import Operation
from affect.protocol.messages import (
    ExplainRequest,
    GenerateRequest,
    PredictRequest,
    WorkerRequest,
    WorkerResponse,
)
from affect.protocol.tensor_codec import ProtocolError
from service.api.bodies import off_the_loop
from service.api.pipeline import admit, authenticate, receive
from service.api.state import ApiRequest
from service.api.tensors import LENGTH_HEADER, InferRequest, read_message, response
from service.inference.fair_slots import Flow, current_flow
from service.inference.model_registry import Version
from service.problems import invalid

TENSOR, SUFFIX = "message", ".message"
KINDS: dict[Operation, type[WorkerRequest]] = {
    "predict": PredictRequest,
    "generate": GenerateRequest,
    "explain": ExplainRequest,
}


class MessageTarget(Protocol):
    """The target of a path (service/api/open_inference.py)."""

    @property
    def name(self) -> str: ...

    @property
    def operation(self) -> Operation: ...

    @property
    def version(self) -> Version: ...


async def infer_message(request: ApiRequest, target: MessageTarget) -> Response:
    """The worker's own answer to a worker's request. Raises Problem or BackendError."""
    operation, version = target.operation, target.version
    principal = await authenticate(request, operation)
    current_flow.set(Flow(principal.id))
    async with (
        receive(request, operation, principal) as body,
        admit(request, operation, principal) as permit,
    ):
        length = request.headers.get(LENGTH_HEADER)
        message, work = await off_the_loop(body, lambda: _parse(body, length, target))
        permit.reserve(max(1, len(work)))
        await request.state["rate_limiter"].take(principal, max(1, len(work)), request)
        call = getattr(version.backend, operation)
        with request.state["models"].serving(version.name, version.version):
            (answer,) = await version.operations.dispatcher.send(
                operation, call, [work], permit.deadline_seconds
            )
        return _render(message, target, answer)


def _parse(
    body: bytes, length: str | None, target: MessageTarget
) -> tuple[InferRequest, WorkerRequest]:
    """Raises Problem: 400, 413 or 422."""
    message, tensors = read_message(body, length, most_rows=1)
    tensor = tensors.get(TENSOR)
    if tensor is None or tensor.dtype != object or tensor.size != 1:
        remedy = f"one tensor is taken here: {TENSOR}, BYTES [1]"
        raise invalid("inputs", sorted(tensors) or None, remedy)
    try:
        kind = KINDS[target.operation]
        return message, kind.from_bytes(tensor.ravel()[0], target.version.card)
    except ProtocolError as error:
        raise invalid(error.field, str(error.value), error.remedy) from error


def _render(message: InferRequest, target: MessageTarget, answer: WorkerResponse) -> Response:
    content = np.empty(1, object)
    content[0] = answer.to_bytes(target.version.card)
    outputs = {TENSOR: ("BYTES", content)}
    version = target.version.version
    return response(message, target.name, version, outputs, {})  # type: ignore[arg-type]
