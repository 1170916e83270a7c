"""From the tensors of the Open Inference Protocol to an inference request. Shape letters: N rows, K
Action Units.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from affect.archive import Operation
from affect.card import ModelCard
from affect.images import encode
from affect.labels import AROUSAL, VALENCE
from service.api.request_parsing import image_contents, validate
from service.api.tensor_shapes import INPUTS, ROWS, Shape, sides
from service.api.tensors import Array, Datatype, InferRequest, InputTensor
from service.inference.inference_request import Body, InferenceRequest, as_base64
from service.problems import invalid
from service.schemas import (
    ExplainBody,
    ExplainOptions,
    GenerateBody,
    ImageContent,
    PredictBody,
    PredictOptions,
)

QUESTION = ("au", "present", "valence", "arousal")
Json = dict[str, Any]


@dataclass(frozen=True)
class TensorRequest:
    """A message, its input tensors by name, and the model version that its path names (None: the
    operator's choice).
    """

    message: InferRequest
    tensors: Mapping[str, Array]
    card: ModelCard
    version: str | None

    def options(self, *names: str) -> Json:
        """The parameters that are options of the operation, and the version. Raises Problem for
        others.
        """
        parameters = dict(self.message.parameters)
        parameters.pop("binary_data_output", None)
        unknown = sorted(set(parameters) - set(names))
        if unknown:
            field, remedy = unknown[0], f"unknown parameter; there is {', '.join(names)}"
            raise invalid(f"parameters.{field}", parameters[field], remedy)
        version = {} if self.version is None else {"version": self.version}
        return {**parameters, "model": self.card.name, **version}

    def image_options(self, *names: str) -> Json:
        """The same; pixels are taken for aligned crops unless `faces` says otherwise."""
        image = self.tensors.get("image")
        crops = image is not None and image.dtype != object
        return {**({"faces": "none"} if crops else {}), **self.options(*names)}

    def images(self) -> list[ImageContent]:
        """Encoded pictures as they came; pixels as a PNG of them, which is to be read at once."""
        image = self.tensors.get("image")
        if image is None:
            remedy = "the tensor `image` is missing: BYTES [n] or UINT8 [n, height, width, 3]"
            raise invalid("inputs", sorted(self.tensors) or None, remedy)
        if image.dtype == object:
            return image_contents(image.reshape(len(image)).tolist())
        return image_contents([encode(pixels, compression=0) for pixels in image])


def inference_from_tensors(operation: Operation, request: TensorRequest) -> InferenceRequest:
    """The request of the tensors. Raises Problem: 422."""
    for index, tensor in enumerate(request.message.inputs):
        _check_tensor(tensor, f"inputs[{index}]", INPUTS[operation], request.card)
    return InferenceRequest(operation, READERS[operation](request))


def _check_tensor(
    tensor: InputTensor,
    field: str,
    inputs: Mapping[str, Mapping[Datatype, Shape]],
    card: ModelCard,
) -> None:
    """Raises Problem for a tensor that is not of the model, or of another type or shape."""
    if tensor.name not in inputs:
        remedy = f"unknown tensor; there is {', '.join(inputs)}"
        raise invalid(f"{field}.name", tensor.name, remedy)
    shapes = inputs[tensor.name]
    if tensor.datatype not in shapes:
        raise invalid(f"{field}.datatype", tensor.datatype, f"send {' or '.join(shapes)}")
    expected, shape = sides(shapes[tensor.datatype], card), tensor.shape
    if expected == list(ROWS) and shape[1:] == [1]:  # [n, 1] is [n]
        shape = shape[:1]
    fits = len(shape) == len(expected) and all(
        expected_side in (-1, side) for side, expected_side in zip(shape, expected, strict=True)
    )
    if not fits:
        remedy = f"{tensor.name} of {tensor.datatype} is {expected}; -1 is any number"
        raise invalid(f"{field}.shape", str(tensor.shape), remedy)
    if 0 in shape[1:]:
        remedy = "a picture has at least one pixel"
        raise invalid(f"{field}.shape", str(tensor.shape), remedy)


def _predict_body(request: TensorRequest) -> PredictBody:
    """`image` alone."""
    options = validate(PredictOptions, request.image_options("faces"), "parameters")
    if options.faces == "all":
        remedy = "a row is one face here: largest or none; /v1/predict tells all"
        raise invalid("parameters.faces", "all", remedy)
    return PredictBody.model_construct(images=request.images(), options=options)


def _explain_body(request: TensorRequest) -> ExplainBody:
    """`image`; the question, for all rows, is in the parameters."""
    chosen = request.image_options("faces", "integrated_gradients", *QUESTION)
    question = {name: chosen.pop(name) for name in QUESTION if name in chosen}
    options = validate(ExplainOptions, chosen | {"question": question}, "parameters")
    return ExplainBody.model_construct(images=request.images(), options=options)


def _generate_body(request: TensorRequest) -> GenerateBody:
    """Any of `aus`, `va`, `seed`, `reference`, all of N rows. NaN and an empty reference leave a
    value free.
    """
    counts = {name: len(tensor) for name, tensor in request.tensors.items()}
    if len(set(counts.values())) != 1:
        remedy = "send aus, va, seed or reference, all with as many rows"
        raise invalid("inputs", str(counts), remedy)
    (count,) = set(counts.values())
    items = [_item(request, row) for row in range(count)]
    return validate(GenerateBody, request.options("faces", "format") | {"items": items})


def _item(request: TensorRequest, row: int) -> Json:
    tensors, item = request.tensors, Json()
    if "aus" in tensors:
        item["aus"] = _known(request.card.vocabulary, tensors["aus"][row])
    if "va" in tensors:
        item |= _known((VALENCE, AROUSAL), tensors["va"][row])
    if "seed" in tensors:
        item["seed"] = int(tensors["seed"][row].item())
    if "reference" in tensors and (content := tensors["reference"].ravel()[row]):
        item["reference"] = {"content": as_base64(content)}
    return item


def _known(names: tuple[str, ...], values: Array) -> dict[str, float]:
    pairs = zip(names, values.tolist(), strict=True)
    return {name: value for name, value in pairs if not math.isnan(value)}


READERS: dict[Operation, Callable[[TensorRequest], Body]] = {
    "predict": _predict_body,
    "generate": _generate_body,
    "explain": _explain_body,
}
