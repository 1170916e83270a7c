"""The Open Inference Protocol v2 (KServe, Triton) beside /v1: the same three operations, as three
models per served model.

`affectgan-predict`, `affectgan-generate` and `affectgan-explain` take and give tensors of n rows. A
request of tensors takes the same pipeline as every request (service/api/pipeline.py): keys, quotas,
admission, deadline, cache, breaker, metrics. A row that fails has a text in `error`, NaN in its
numbers and empty images. Jobs and webhooks are /v1's alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from affect import __version__
from affect.archive import OPERATIONS, Operation
from service.api.bodies import off_the_loop
from service.api.message_tensors import SUFFIX, infer_message
from service.api.parameters import OptionalVersion, TensorModel, VersionPath
from service.api.pipeline import ParsedRequest, serve
from service.api.state import ApiRequest
from service.api.status_routes import as_json, is_ready
from service.api.tensor_answers import tensors_of_result
from service.api.tensor_requests import TensorRequest, inference_from_tensors
from service.api.tensor_shapes import INPUTS, output_shapes, sides
from service.api.tensors import (
    LENGTH_HEADER,
    DocumentedModel,
    InferRequest,
    InferResponse,
    TensorMetadata,
    read_message,
    response,
)
from service.inference.inference_request import InferenceRequest
from service.inference.model_registry import ModelRegistry, Version
from service.inference.results import InferenceResult
from service.problems import Problem

router = APIRouter(prefix="/v2", tags=["tensors"])
EXTENSIONS = ["binary_tensor_data"]
PLATFORM = "affectgan"


class ServerMetadata(DocumentedModel):
    """Who answers."""

    name: str
    """Name of the server."""
    version: str
    """Its version."""
    extensions: list[str]
    """Extensions of the protocol that it speaks."""


class Live(DocumentedModel):
    """The process lives."""

    live: bool
    """Always true."""


class Ready(DocumentedModel):
    """Requests would be served."""

    ready: bool
    """Every operation of the default version has a worker that is ready."""


class ModelReady(DocumentedModel):
    """Requests to this model would be served."""

    name: str
    """The model and operation."""
    ready: bool
    """It has a worker that is ready."""


class ModelMetadata(DocumentedModel):
    """A model's tensors. `parameters` name the columns of `aus` and `expression`, and the last axis
    of `sides` (the person's left, then right).
    """

    name: str
    """The model and operation."""
    versions: list[str]
    """Versions that are open."""
    platform: str
    """Always `affectgan`."""
    inputs: list[TensorMetadata]
    """Tensors it takes."""
    outputs: list[TensorMetadata]
    """Tensors it gives."""
    parameters: dict[str, str]
    """`aus`, `expression`, `sides`: what the columns of these tensors stand for."""


@dataclass(frozen=True)
class InferTarget:
    """The target of a path: an operation of an open version. `requested_version` is None where it
    names no version.
    """

    name: str
    operation: Operation
    version: Version
    requested_version: str | None
    versions: list[str]

    async def parse(self, request: ApiRequest, operation: Operation, body: bytes) -> ParsedRequest:
        """A `ProtocolAdapter`. Raises Problem: 400, 413, 415 or 422."""
        length, most_rows = request.headers.get(LENGTH_HEADER), request.state["settings"].max_images

        def read() -> tuple[InferRequest, InferenceRequest]:
            message, tensors = read_message(body, length, most_rows=most_rows)
            parts = TensorRequest(message, tensors, self.version.card, self.requested_version)
            return message, inference_from_tensors(operation, parts)

        message, inference = await off_the_loop(body, read)

        def render(result: InferenceResult, headers: Mapping[str, str]) -> Response:
            outputs = tensors_of_result(result)
            return response(message, self.name, result.card.version, outputs, headers)

        form = message.model_dump_json(include={"id", "parameters", "outputs"})
        return ParsedRequest(inference, render, representation=f"v2:{form}")


def find_target(models: ModelRegistry, name: str, version: str | None = None) -> InferTarget:
    """Raises Problem: 404."""
    served, _, operation = name.removesuffix(SUFFIX).rpartition("-")
    if operation not in OPERATIONS:
        names = [f"{model}-{operation}" for model in models.routes for operation in OPERATIONS]
        raise Problem("not_found", f"no model {name!r}; there is {', '.join(names)}")
    versions = list(models.versions_of(served))
    return InferTarget(name, operation, models.find(served, version), version, versions)


# -- routes ----------------------------------------------------------------------------------------


@router.get("", summary="The server", response_model=ServerMetadata)
async def server_metadata() -> Response:
    """Name, version and extensions of the protocol."""
    return as_json({"name": "affectgan", "version": __version__, "extensions": EXTENSIONS})


@router.get("/health/live", summary="The process lives", response_model=Live)
async def server_live() -> Response:
    """Always 200 while the event loop turns."""
    return as_json({"live": True})


@router.get(
    "/health/ready",
    summary="Requests would be served",
    response_model=Ready,
    responses={503: {"model": Ready, "description": "Not now"}},
)
async def server_ready(request: ApiRequest) -> Response:
    """As /readyz."""
    versions = await request.state["models"].ready()
    value = is_ready(request.state, versions)
    return as_json({"ready": value}, 200 if value else 503)


async def model_metadata(
    request: ApiRequest, name: TensorModel, version: OptionalVersion = None
) -> Response:
    """Tensors of a model of this protocol, and the versions that are open."""
    target = find_target(request.state["models"], name, version)
    card = target.version.card
    inputs = [
        {"name": tensor, "datatype": datatype, "shape": sides(shape, card)}
        for tensor, shapes in INPUTS[target.operation].items()
        for datatype, shape in list(shapes.items())[:1]
    ]
    outputs = [
        {"name": tensor, "datatype": datatype, "shape": shape}
        for tensor, (datatype, shape) in output_shapes(target.operation, card).items()
    ]
    document = {
        "name": name,
        "versions": target.versions,
        "platform": PLATFORM,
        "inputs": inputs,
        "outputs": outputs,
        "parameters": {
            "aus": ",".join(card.vocabulary),
            "expressions": ",".join(card.expressions),
            "one_sided": ",".join(card.one_sided),
        },
    }
    return as_json(document)


async def model_ready(
    request: ApiRequest, name: TensorModel, version: OptionalVersion = None
) -> Response:
    """Whether a worker of this version serves this operation."""
    target = find_target(request.state["models"], name, version)
    states = await request.state["models"].ready()
    draining = request.state["admission"].draining
    value = bool(states[target.version][target.operation]) and not draining
    return as_json({"name": name, "ready": value}, 200 if value else 503)


async def infer(
    request: ApiRequest, name: TensorModel, version: OptionalVersion = None
) -> Response:
    """Rows in, rows out. A bad row fails alone: its `error` says why."""
    target = find_target(request.state["models"], name, version)
    if name.endswith(SUFFIX):
        return await infer_message(request, target)
    return await serve(request, target.operation, target.parse)


NOT_READY: dict[int | str, dict[str, Any]] = {503: {"model": ModelReady, "description": "Not now"}}
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/InferRequest"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


async def version_metadata(
    request: ApiRequest, name: TensorModel, version: VersionPath
) -> Response:
    """The same, of one version."""
    return await model_metadata(request, name, version)


async def version_ready(request: ApiRequest, name: TensorModel, version: VersionPath) -> Response:
    """The same, of one version."""
    return await model_ready(request, name, version)


async def infer_by_version(
    request: ApiRequest, name: TensorModel, version: VersionPath
) -> Response:
    """The same, by one version."""
    return await infer(request, name, version)


for _path, (_metadata, _ready, _infer) in {
    "/models/{name}": (model_metadata, model_ready, infer),
    "/models/{name}/versions/{version}": (version_metadata, version_ready, infer_by_version),
}.items():
    router.get(_path, summary="A model's tensors", response_model=ModelMetadata)(_metadata)
    router.get(
        f"{_path}/ready",
        summary="A model would answer",
        response_model=ModelReady,
        responses=NOT_READY,
    )(_ready)
    router.post(
        f"{_path}/infer",
        summary="Infer",
        response_model=None,
        responses={200: {"model": InferResponse}},
        openapi_extra=BODY,
    )(_infer)
