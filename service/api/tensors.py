"""Tensors as the Open Inference Protocol v2 sends them: in JSON, or as bytes behind the JSON (its
binary tensor extension).

Pictures are BYTES: the file itself in binary form, base64 text in JSON; texts are BYTES too, as
they are. A missing value of a row (a picture that failed, a label that is left free) is NaN in
binary form and null in JSON.
"""

import base64
import math
import struct
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Annotated, Any, Literal

import numpy as np
import orjson
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from service.api.request_parsing import check_count, check_marks, validate
from service.problems import Problem, invalid
from service.schemas import decode_base64

LENGTH_HEADER = "Inference-Header-Content-Length"
# null is a missing number.
JSON_TYPES: dict[str, set[type]] = {
    "BOOL": {bool},
    "UINT8": {int},
    "INT64": {int},
    "FP32": {int, float, type(None)},
    "BYTES": {str},
}
TYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "INT64": np.dtype("<i8"),
    "FP32": np.dtype("<f4"),
}
Datatype = Literal["BOOL", "UINT8", "INT64", "FP32", "BYTES"]
Array = np.ndarray[Any, Any]
Parameters = dict[str, bool | int | float | str]
MOST_DIMENSIONS = 4
LONGEST_SIDE = 2**31 - 1
Side = Annotated[int, Field(ge=0, le=LONGEST_SIDE)]
MOST_ENTRIES = 64  # of any list or object of a message, `data` apart: inputs, outputs, parameters
LONGEST_LENGTH = 19  # digits of a length in a header
# Numbers of a tensor in JSON, each an object of its own until it is one; its binary form has no
# such limit.
MOST_ELEMENTS = 2_000_000
BINARY_REMEDY = "send tensors in binary form (binary_data_size)"


class DocumentedModel(BaseModel):
    """What stands under a field describes it, here and in openapi.yaml."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class _Message(DocumentedModel):
    model_config = ConfigDict(extra="forbid")


class InputTensor(_Message):
    """A tensor of a request: its bytes behind the JSON (the parameter `binary_data_size` says how
    many), or `data`, flat or nested.
    """

    name: str
    """Name of the tensor, as the model's metadata has it."""
    shape: list[Side] = Field(
        min_length=1, max_length=MOST_DIMENSIONS, description="rows first; each from 0"
    )
    datatype: Datatype
    """Of its elements."""
    parameters: Parameters = {}
    """`binary_data_size`: its bytes behind the JSON."""
    data: list[Any] | None = None
    """Its elements, flat or nested; left out when its bytes lie behind the JSON."""


class WantedOutput(_Message):
    """An output that is asked for; with the parameter `binary_data` as bytes behind the JSON."""

    name: str
    """Name of the tensor."""
    parameters: Parameters = {}
    """`binary_data`: as bytes behind the JSON."""


class InferRequest(_Message):
    """What is inferred, from what. Without `outputs` all are given; with the parameter
    `binary_data_output` as bytes.
    """

    id: str = Field(default="", description="comes back with the answer")
    parameters: Parameters = {}
    """The operation's options, and `binary_data_output`."""
    inputs: list[InputTensor]
    """What is inferred from."""
    outputs: list[WantedOutput] = []
    """What is wanted; empty: everything."""


class OutputTensor(DocumentedModel):
    """A tensor of an answer."""

    name: str
    """Name of the tensor."""
    shape: list[int]
    """Rows first."""
    datatype: Datatype
    """Of its elements."""
    parameters: Parameters = {}
    """`binary_data_size`: its bytes behind the JSON."""
    data: list[Any] | None = None
    """Its elements, flat; null where a value is not known."""


class InferResponse(DocumentedModel):
    """What was inferred, by which version."""

    model_name: str
    """The model and operation that answered."""
    model_version: str
    """Its version."""
    id: str = ""
    """The request's id."""
    outputs: list[OutputTensor]
    """What was inferred."""


class TensorMetadata(DocumentedModel):
    """Name, type and shape; -1 is any number."""

    name: str
    """Name of the tensor."""
    datatype: Datatype
    """Of its elements."""
    shape: list[int]
    """-1 is any number."""


def read_message(
    body: bytes, length: str | None, *, most_rows: int
) -> tuple[InferRequest, dict[str, Array]]:
    """The request and its input tensors by name; `length` is that of the JSON, when more follows.

    Sizes are checked before anything is built. Raises Problem: 400, 413 or 422, with the tensor
    that is wrong.
    """
    head, rest = _split(body, length)
    check_marks(head, MOST_ELEMENTS, BINARY_REMEDY)
    message = _message(head)
    for tensor in message.inputs:
        check_count("rows", tensor.shape[0], most_rows)
    tensors: dict[str, Array] = {}
    for index, tensor in enumerate(message.inputs):
        field = f"inputs[{index}]"
        if tensor.name in tensors:
            remedy = "there are two tensors of this name; send one"
            raise invalid(f"{field}.name", tensor.name, remedy)
        tensors[tensor.name], rest = _read_tensor(tensor, rest, field)
    if rest:
        detail = "bytes behind the JSON belong to no tensor; say them with binary_data_size"
        raise Problem("malformed", f"{len(rest)} {detail}")
    return message, tensors


def _message(head: bytes) -> InferRequest:
    try:
        value = orjson.loads(head)
    except orjson.JSONDecodeError as error:
        raise Problem("malformed", f"the inference header is not JSON: {error}") from error
    _check_breadth(value, "body")
    return validate(InferRequest, value)


def _check_breadth(value: Any, field: str, depth: int = 0) -> None:
    """Raises Problem for a list or an object with more entries than a message has: each would
    become a validation error of its own.
    """
    if not isinstance(value, list | dict) or depth > MOST_DIMENSIONS:
        return
    if len(value) > MOST_ENTRIES:
        raise invalid(field, value, f"it has more than {MOST_ENTRIES} entries")
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for name, entry in entries:
        if name != "data":
            _check_breadth(entry, f"{field}.{name}", depth + 1)


def _read_tensor(tensor: InputTensor, rest: bytes, field: str) -> tuple[Array, bytes]:
    """A tensor, and the remaining bytes behind the JSON."""
    size = tensor.parameters.get("binary_data_size")
    if size is None:
        return _of_json(tensor, field), rest
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(rest):
        remedy = f"{len(rest)} bytes are left behind the JSON"
        raise invalid(f"{field}.parameters.binary_data_size", size, remedy)
    return _of_bytes(tensor, rest[:size], field), rest[size:]


def _split(body: bytes, length: str | None) -> tuple[bytes, bytes]:
    if length is None:
        return body, b""
    is_number = length.isascii() and length.isdigit() and len(length) <= LONGEST_LENGTH
    if not is_number or int(length) > len(body):
        raise Problem(
            "malformed", f"{LENGTH_HEADER} is {length[:20]!r}; the body has {len(body)} bytes"
        )
    return body[: int(length)], body[int(length) :]


def _of_json(tensor: InputTensor, field: str) -> Array:
    if tensor.data is None:
        remedy = "send data, or the parameter binary_data_size and the bytes behind the JSON"
        raise invalid(f"{field}.data", None, remedy)
    flat = _flat(tensor.data, field)
    _check_count(tensor, len(flat), f"{field}.data")
    allowed = JSON_TYPES[tensor.datatype]
    if not set(map(type, flat)) <= allowed:
        value = next(value for value in flat if type(value) not in allowed)
        kind = "base64 text" if tensor.datatype == "BYTES" else f"a number of {tensor.datatype}"
        raise invalid(f"{field}.data", value, f"not {kind}")
    if tensor.datatype == "BYTES":
        return _shaped([decode_base64(value) for value in flat], tensor)
    try:
        values = [math.nan if value is None else value for value in flat]
        return np.array(values, TYPES[tensor.datatype]).reshape(tensor.shape)
    except OverflowError as error:
        raise invalid(f"{field}.data", None, f"a number does not fit {tensor.datatype}") from error


def _flat(data: list[Any], field: str) -> list[Any]:
    """The elements of lists in lists, as deep as tensors have dimensions."""
    for _ in range(MOST_DIMENSIONS):
        kinds = set(map(type, data))
        if list not in kinds:
            return data
        if len(kinds) > 1:
            raise invalid(f"{field}.data", None, "it has lists beside elements; give it a shape")
        data = list(chain.from_iterable(data))
    raise invalid(f"{field}.data", None, f"lists lie more than {MOST_DIMENSIONS} deep")


def _of_bytes(tensor: InputTensor, content: bytes, field: str) -> Array:
    if tensor.datatype != "BYTES":
        kind = TYPES[tensor.datatype]
        _check_count(
            tensor,
            len(content) // kind.itemsize if len(content) % kind.itemsize == 0 else -1,
            f"{field} ({len(content)} bytes)",
        )
        return np.frombuffer(content, kind).reshape(tensor.shape)
    elements: list[bytes] = []
    offset, most_elements = 0, math.prod(tensor.shape)
    while offset + 4 <= len(content) and len(elements) <= most_elements:
        (length,) = struct.unpack_from("<I", content, offset)
        elements.append(content[offset + 4 : offset + 4 + length])
        offset += 4 + length
    if offset != len(content) and len(elements) <= most_elements:
        raise invalid(
            field,
            f"{len(content)} bytes",
            "BYTES elements are a length of four bytes (little endian) and that many bytes",
        )
    _check_count(tensor, len(elements), field)
    return _shaped(elements, tensor)


def _check_count(tensor: InputTensor, count: int, field: str) -> None:
    if count != math.prod(tensor.shape):
        raise invalid(
            field,
            count,
            f"shape {tensor.shape} of {tensor.datatype} wants {math.prod(tensor.shape)} elements",
        )


def _shaped(elements: Sequence[bytes], tensor: InputTensor) -> Array:
    array = np.empty(len(elements), object)
    array[:] = elements
    return array.reshape(tensor.shape)


def response(
    message: InferRequest,
    name: str,
    version: str,
    outputs: Mapping[str, tuple[Datatype, Array]],
    headers: Mapping[str, str],
) -> Response:
    """The outputs that `message` requests, in the requested form. Raises Problem: 422 for an
    unknown output.
    """
    everything = [WantedOutput(name=name, parameters=message.parameters) for name in outputs]
    entries, binary = [], []
    for index, output in enumerate(message.outputs or everything):
        if output.name not in outputs:
            remedy = f"unknown output; there is {', '.join(outputs)}"
            raise invalid(f"outputs[{index}].name", output.name, remedy)
        datatype, array = outputs[output.name]
        entry: dict[str, Any] = {
            "name": output.name,
            "shape": list(array.shape),
            "datatype": datatype,
        }
        if _is_binary(output, message):
            content = _bytes_of(array, datatype)
            binary.append(content)
            entry["parameters"] = {"binary_data_size": len(content)}
        else:
            entry["data"] = _json_of(array, datatype)
        entries.append(entry)
    document = {"model_name": name, "model_version": version, "id": message.id, "outputs": entries}
    head = orjson.dumps(document)
    if not binary:
        return Response(head, media_type="application/json", headers=headers)
    all_headers = {**headers, LENGTH_HEADER: str(len(head))}
    return Response(
        head + b"".join(binary), media_type="application/octet-stream", headers=all_headers
    )


def _is_binary(output: WantedOutput, message: InferRequest) -> bool:
    default = message.parameters.get("binary_data_output")
    default = output.parameters.get("binary_data_output", default)
    return bool(output.parameters.get("binary_data", default))


def _bytes_of(array: Array, datatype: Datatype) -> bytes:
    if datatype == "BYTES":
        elements = [
            element.encode() if isinstance(element, str) else element for element in array.ravel()
        ]
        return b"".join(struct.pack("<I", len(element)) + element for element in elements)
    return array.astype(TYPES[datatype]).tobytes()


def _json_of(array: Array, datatype: Datatype) -> list[Any]:
    if datatype == "BYTES":
        return [
            element if isinstance(element, str) else base64.b64encode(element).decode()
            for element in array.ravel()
        ]
    return [
        None if isinstance(value, float) and math.isnan(value) else value
        for value in array.ravel().tolist()
    ]
