"""The Open Inference Protocol v2 (KServe, Triton) beside /v1: the same three operations, as three models per served model.

`affectgan-predict`, `affectgan-generate` and `affectgan-explain` take and give tensors of n rows. A call that came as tensors goes the way
of every call (service/api/pipeline.py): keys, quotas, admission, deadline, cache, breaker, metrics. A row that fails has a text in `error`, NaN
in its figures and empty pictures. Jobs and webhooks are /v1's alone.
"""

import base64
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from affect import __version__
from affect.archive import OPERATIONS, Operation
from affect.card import ModelCard
from affect.images import encode
from affect.labels import AROUSAL, VALENCE
from service import schemas
from service.api.pipeline import answer, as_json
from service.api.request_parsing import check_count, validate
from service.api.tensors import (
    Array,
    Datatype,
    InferRequest,
    InferResponse,
    TensorMetadata,
    read_message,
    response,
)
from service.inference.inference_request import InferenceRequest
from service.inference.model_registry import ModelRegistry, Version
from service.problems import Problem, invalid

router = APIRouter(prefix="/v2", tags=["tensors"])
EXTENSIONS = ["binary_tensor_data"]
PLATFORM = "affectgan"
Json = dict[str, Any]
Outputs = dict[str, tuple[Datatype, Array]]


class ServerMetadata(BaseModel):
    """Who answers."""

    name: str
    version: str
    extensions: list[str]


class Live(BaseModel):
    """The process lives."""

    live: bool


class Ready(BaseModel):
    """Requests would be served."""

    ready: bool


class ModelReady(BaseModel):
    """Requests to this model would be served."""

    name: str
    ready: bool


class ModelMetadata(BaseModel):
    """A model's tensors. `parameters.aus` are the Action Units behind the K columns of `aus`."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    parameters: dict[str, str]


@dataclass(frozen=True)
class InferTarget:
    """Which operation of which open version a path names."""

    name: str
    operation: Operation
    version: Version
    versions: list[str]


def asked(models: ModelRegistry, name: str, version: str | None = None) -> InferTarget:
    """Raises Problem: 404."""
    served, _, operation = name.rpartition("-")
    if operation not in OPERATIONS:
        listed = [f"{model}-{operation}" for model in models.routes for operation in OPERATIONS]
        raise Problem("not_found", f"no model {name!r}; there is {', '.join(listed)}")
    found: Operation = operation
    return InferTarget(name, found, models.find(served, version), list(models.versions_of(served)))


class OpenInferenceAdapter:
    """The form of one request of this protocol (service/api/pipeline.py): it keeps what the message asks for until the answer is told."""

    jobs = False

    def __init__(self, name: str, version: str | None, card: ModelCard) -> None:
        self.model_name, self.version, self.card = name, version, card
        self.message = InferRequest(inputs=[])

    async def read(self, request: Request, operation: Operation) -> InferenceRequest:
        """See `ProtocolAdapter`."""
        if request.headers.get("content-encoding", "identity") != "identity":
            raise Problem("unsupported_media_type", "the body is compressed; send it as it is")
        self.message, tensors = await read_message(request)
        self._known(tensors, INPUTS[operation])
        chosen = {"model": self.card.name, "version": self.version}
        call = READERS[operation](self, tensors, chosen)
        check_count("rows", call.image_count, request.state.settings.max_images)
        return call

    def name(self, request: Request, call: InferenceRequest) -> str:
        """See `ProtocolAdapter`."""
        return "v2:" + self.message.model_dump_json(include={"id", "parameters", "outputs"})

    def tell(
        self, request: Request, call: InferenceRequest, answer: bytes, marks: Mapping[str, str]
    ) -> Response:
        """See `ProtocolAdapter`."""
        told = orjson.loads(answer)
        outputs = TELLERS[call.operation](
            told["results"], request.state.models.find(**told_by(told)).card
        )
        return response(self.message, self.model_name, told["model"]["version"], outputs, marks)

    # -- inputs ----------------------------------------------------------------------------------------------------

    def predict(self, tensors: Mapping[str, Array], chosen: Json) -> InferenceRequest:
        """`image` alone."""
        options = validate(
            schemas.PredictOptions, self._options(tensors, chosen, "faces"), "parameters"
        )
        if options.faces == "all":
            raise invalid(
                "parameters.faces",
                "all",
                "a row is one face here: largest or none; /v1/predict tells all",
            )
        return InferenceRequest(
            "predict",
            schemas.PredictBody.model_construct(images=self._images(tensors), options=options),
        )

    def explain(self, tensors: Mapping[str, Array], chosen: Json) -> InferenceRequest:
        """`image`; the question, for all rows, is in the parameters."""
        given = self._options(tensors, chosen, "faces", "integrated_gradients", *QUESTION)
        question = {name: given.pop(name) for name in QUESTION if name in given}
        options = validate(schemas.ExplainOptions, given | {"question": question}, "parameters")
        return InferenceRequest(
            "explain",
            schemas.ExplainBody.model_construct(images=self._images(tensors), options=options),
        )

    def generate(self, tensors: Mapping[str, Array], chosen: Json) -> InferenceRequest:
        """Any of `aus`, `va`, `seed`, `reference`, all of n rows. NaN and an empty reference are left to chance."""
        counts = {name: len(tensor) for name, tensor in tensors.items()}
        if not counts or len(set(counts.values())) > 1:
            raise invalid(
                "inputs", str(counts), "send aus, va, seed or reference, all with as many rows"
            )
        (count,) = set(counts.values())
        items: list[Json] = [{} for _ in range(count)]
        for row, item in enumerate(items):
            if "aus" in tensors:
                item["aus"] = {
                    code: float(v)
                    for code, v in zip(self.card.vocabulary, tensors["aus"][row], strict=True)
                    if not math.isnan(v)
                }
            if "va" in tensors:
                item |= {
                    name: float(v)
                    for name, v in zip((VALENCE, AROUSAL), tensors["va"][row], strict=True)
                    if not math.isnan(v)
                }
            if "seed" in tensors:
                item["seed"] = int(tensors["seed"].reshape(count)[row])
            if "reference" in tensors and (content := tensors["reference"].reshape(count)[row]):
                item["reference"] = {"content": base64.b64encode(content).decode()}
        options = self._options({}, chosen, "faces", "format")
        return InferenceRequest(
            "generate", validate(schemas.GenerateBody, options | {"items": items})
        )

    def _images(self, tensors: Mapping[str, Array]) -> list[schemas.ImageContent]:
        """Encoded pictures as they came; pixels as a PNG of them."""
        image = tensors.get("image")
        if image is None:
            raise invalid(
                "inputs",
                sorted(tensors) or None,
                "the tensor `image` is missing: BYTES [n] or UINT8 [n, height, width, 3]",
            )
        contents = (
            image.reshape(len(image)).tolist()
            if image.dtype == object
            else [encode(row) for row in image]
        )
        return [schemas.ImageContent.model_construct(content=content) for content in contents]

    def _options(self, tensors: Mapping[str, Array], chosen: Json, *names: str) -> Json:
        """The request's parameters that are the operation's options; pixels are taken for aligned crops unless `faces` says otherwise."""
        given = {
            name: value
            for name, value in self.message.parameters.items()
            if name != "binary_data_output"
        }
        unknown = sorted(set(given) - set(names))
        if unknown:
            raise invalid(
                f"parameters.{unknown[0]}",
                given[unknown[0]],
                f"unknown parameter; there is {', '.join(names)}",
            )
        crops = "image" in tensors and tensors["image"].dtype != object
        return {
            **({"faces": "none"} if crops else {}),
            **given,
            **{k: v for k, v in chosen.items() if v is not None},
        }

    def _known(
        self,
        tensors: Mapping[str, Array],
        inputs: Mapping[str, Mapping[Datatype, tuple[int | str, ...]]],
    ) -> None:
        """Raises Problem for a tensor that is not of the model, or of another type or shape."""
        for index, tensor in enumerate(self.message.inputs):
            field = f"inputs[{index}]"
            if tensor.name not in inputs:
                raise invalid(
                    f"{field}.name", tensor.name, f"unknown tensor; there is {', '.join(inputs)}"
                )
            kinds = inputs[tensor.name]
            if tensor.datatype not in kinds:
                raise invalid(f"{field}.datatype", tensor.datatype, f"send {' or '.join(kinds)}")
            wanted = shape_of(kinds[tensor.datatype], self.card)
            given = (
                tensor.shape[:1] if tensor.shape[1:] == [1] and wanted == [-1] else tensor.shape
            )  # [n, 1] is [n]
            if len(given) != len(wanted) or any(
                want not in (-1, have) for have, want in zip(given, wanted, strict=True)
            ):
                raise invalid(
                    f"{field}.shape",
                    str(tensor.shape),
                    f"{tensor.name} of {tensor.datatype} is {wanted}; -1 is any number",
                )
            if 0 in given[1:]:
                raise invalid(
                    f"{field}.shape", str(tensor.shape), "a picture has at least one pixel"
                )


def told_by(told: Json) -> dict[str, str]:
    """The version that an answer names."""
    return {"name": told["model"]["name"], "version": told["model"]["version"]}


QUESTION = ("au", "present", "valence", "arousal")
ONE: tuple[int | str, ...] = (-1,)
PICTURE: dict[Datatype, tuple[int | str, ...]] = {"BYTES": ONE, "UINT8": (-1, -1, -1, 3)}
AUS, VA = (-1, "K"), (-1, 2)
INPUTS: dict[Operation, dict[str, dict[Datatype, tuple[int | str, ...]]]] = {
    "predict": {"image": PICTURE},
    "generate": {
        "aus": {"FP32": AUS},
        "va": {"FP32": VA},
        "seed": {"INT64": ONE},
        "reference": {"BYTES": ONE},
    },
    "explain": {"image": PICTURE},
}
READ: dict[str, tuple[Datatype, tuple[int | str, ...]]] = {
    "aus": ("FP32", AUS),
    "va": ("FP32", VA),
    "realism": ("FP32", ONE),
}
OUTPUTS: dict[Operation, dict[str, tuple[Datatype, tuple[int | str, ...]]]] = {
    "predict": {
        **READ,
        "present": ("BOOL", AUS),
        "box": ("FP32", (-1, 4)),
        "error": ("BYTES", ONE),
    },
    "generate": {"image": ("BYTES", ONE), "seed": ("INT64", ONE), **READ, "error": ("BYTES", ONE)},
    "explain": {
        "counterfactual": ("BYTES", ONE),
        "map": ("BYTES", ONE),
        "signed_map": ("BYTES", ONE),
        "valid": ("BOOL", ONE),
        "label": ("BYTES", ONE),
        "sentence": ("BYTES", ONE),
        "trust": ("BYTES", ONE),
        **READ,
        **{f"counterfactual_{name}": kind for name, kind in READ.items()},
        "error": ("BYTES", ONE),
    },
}


def shape_of(shape: tuple[int | str, ...], card: ModelCard) -> list[int]:
    """With the number of the model's Action Units in place of "K"."""
    return [len(card.vocabulary) if side == "K" else int(side) for side in shape]


def _readings(rows: list[Json | None], card: ModelCard, prefix: str = "") -> Outputs:
    """AU probabilities (n, K), valence and arousal (n, 2), realism (n,); NaN where a row or the model has none."""
    nan = math.nan
    aus = [
        [
            (row or {}).get("aus", {}).get(code, {}).get("probability", nan)
            for code in card.vocabulary
        ]
        for row in rows
    ]
    va = [[(row or {}).get(name, nan) for name in (VALENCE, AROUSAL)] for row in rows]
    realism = [(row or {}).get("realism", nan) for row in rows]
    columns = {
        "aus": np.array(aus, np.float32).reshape(len(rows), -1),
        "va": np.array(va, np.float32),
        "realism": np.array(realism, np.float32),
    }
    return {f"{prefix}{name}": ("FP32", values) for name, values in columns.items()}


def _texts(values: list[Any]) -> tuple[Datatype, Array]:
    array = np.empty(len(values), object)
    array[:] = values
    return "BYTES", array


def _pictures(rows: list[Json | None]) -> tuple[Datatype, Array]:
    return _texts([base64.b64decode(row["content"]) if row else b"" for row in rows])


def _errors(results: list[Json]) -> tuple[Datatype, Array]:
    return _texts(
        [
            f"{row['error']['title']}: {row['error']['detail']}" if row["status"] == "error" else ""
            for row in results
        ]
    )


def tell_predict(results: list[Json], card: ModelCard) -> Outputs:
    """The largest face of each picture."""
    faces = [row["faces"][0] if row["status"] == "ok" else None for row in results]
    present = [
        [bool((face or {}).get("aus", {}).get(code, {}).get("present")) for code in card.vocabulary]
        for face in faces
    ]
    boxes = [(face or {}).get("box") or [math.nan] * 4 for face in faces]
    return {
        **_readings(faces, card),
        "present": ("BOOL", np.array(present, np.bool_).reshape(len(results), -1)),
        "box": ("FP32", np.array(boxes, np.float32)),
        "error": _errors(results),
    }


def tell_generate(results: list[Json], card: ModelCard) -> Outputs:
    """What was drawn, and what the model reads off it."""
    return {
        "image": _pictures([row.get("image") for row in results]),
        "seed": ("INT64", np.array([row.get("seed", -1) for row in results], np.int64)),
        **_readings([row.get("measured") for row in results], card),
        "error": _errors(results),
    }


def tell_explain(results: list[Json], card: ModelCard) -> Outputs:
    """Before, after, where, in words, and how far to trust it."""
    after = [row.get("counterfactual") for row in results]
    asked_of = [row.get("question") or {} for row in results]
    return {
        "counterfactual": _pictures([row and row["image"] for row in after]),
        "map": _pictures([row["map"]["image"] if "map" in row else None for row in results]),
        "signed_map": _pictures(
            [row["map"]["signed"] if "map" in row else None for row in results]
        ),
        "valid": ("BOOL", np.array([bool(row and row["valid"]) for row in after])),
        "label": _texts(
            [str(question.get("au") or next(iter(question), "")) for question in asked_of]
        ),
        "sentence": _texts([row.get("sentence") or "" for row in results]),
        "trust": _texts([row["trust"]["level"] if "trust" in row else "" for row in results]),
        **_readings([row.get("factual") for row in results], card),
        **_readings([row and row["prediction"] for row in after], card, "counterfactual_"),
        "error": _errors(results),
    }


READERS: dict[
    Operation, Callable[[OpenInferenceAdapter, Mapping[str, Array], Json], InferenceRequest]
] = {
    "predict": OpenInferenceAdapter.predict,
    "generate": OpenInferenceAdapter.generate,
    "explain": OpenInferenceAdapter.explain,
}
TELLERS: dict[Operation, Callable[[list[Json], ModelCard], Outputs]] = {
    "predict": tell_predict,
    "generate": tell_generate,
    "explain": tell_explain,
}


# -- routes --------------------------------------------------------------------------------------------------------


@router.get("", summary="The server", response_model=ServerMetadata)
async def server() -> Response:
    """Name, version and extensions of the protocol."""
    return as_json({"name": "affectgan", "version": __version__, "extensions": EXTENSIONS})


@router.get("/health/live", summary="The process lives", response_model=Live)
async def live() -> Response:
    """Always 200 while the event loop turns."""
    return as_json({"live": True})


@router.get(
    "/health/ready",
    summary="Requests would be served",
    response_model=Ready,
    responses={503: {"model": Ready, "description": "Not now"}},
)
async def ready(request: Request) -> Response:
    """As /readyz."""
    models, admission = request.state.models, request.state.admission
    states = await models.ready()
    told = all(states[models.default].values()) and not admission.draining
    return as_json({"ready": told}, 200 if told else 503)


async def metadata(request: Request, name: str, version: str | None = None) -> Response:
    """Tensors of a model of this protocol, and the versions that are open."""
    found = asked(request.state.models, name, version)
    card = found.version.card
    inputs = [
        {"name": tensor, "datatype": kind, "shape": shape_of(shape, card)}
        for tensor, kinds in INPUTS[found.operation].items()
        for kind, shape in list(kinds.items())[:1]
    ]
    outputs = [
        {"name": n, "datatype": kind, "shape": shape_of(shape, card)}
        for n, (kind, shape) in OUTPUTS[found.operation].items()
    ]
    parameters = {"aus": ",".join(card.vocabulary)}
    told = {
        "name": name,
        "versions": found.versions,
        "platform": PLATFORM,
        "inputs": inputs,
        "outputs": outputs,
        "parameters": parameters,
    }
    return as_json(told)


async def model_ready(request: Request, name: str, version: str | None = None) -> Response:
    """Whether a worker of this version serves this operation."""
    found = asked(request.state.models, name, version)
    states = await request.state.models.ready()
    told = bool(states[found.version][found.operation]) and not request.state.admission.draining
    return as_json({"name": name, "ready": told}, 200 if told else 503)


async def infer(request: Request, name: str, version: str | None = None) -> Response:
    """Rows in, rows out. A bad row fails alone: its `error` says why."""
    found = asked(request.state.models, name, version)
    return await answer(
        request, found.operation, OpenInferenceAdapter(name, version, found.version.card)
    )


NOT_READY: dict[int | str, dict[str, Any]] = {503: {"model": ModelReady, "description": "Not now"}}
BODY: Json = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/InferRequest"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


async def metadata_of_version(request: Request, name: str, version: str) -> Response:
    """The same, of one version."""
    return await metadata(request, name, version)


async def version_ready(request: Request, name: str, version: str) -> Response:
    """The same, of one version."""
    return await model_ready(request, name, version)


async def infer_by_version(request: Request, name: str, version: str) -> Response:
    """The same, by one version."""
    return await infer(request, name, version)


for _path, (_metadata, _ready, _infer) in {
    "/models/{name}": (metadata, model_ready, infer),
    "/models/{name}/versions/{version}": (metadata_of_version, version_ready, infer_by_version),
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
