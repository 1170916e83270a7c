"""Predictions and generations as bytes, for other gateways: a line of JSON, then their arrays as
safetensors.

Explanations hold pictures of the person who was sent, and stay in the process that made them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from affect.answers import RowProblem
from affect.archive import Operation
from affect.card import ModelCard
from affect.faces import Face
from affect.landmarks import Defects
from affect.protocol.messages import Predictions
from affect.protocol.tensor_codec import tensors_of
from service.inference.results import GenerationResult, InferenceResult, PredictionResult, Row


def result_to_bytes(result: InferenceResult) -> bytes:
    """All of a prediction or generation but its card."""
    head: dict[str, Any] = {"rows": [_plain_row(row) for row in result.rows]}
    arrays = {name: getattr(result.read, name) for name in tensors_of(Predictions)}
    if isinstance(result, PredictionResult):
        head["faces"] = [_plain_face(face) for face in result.faces]
    elif isinstance(result, GenerationResult):
        head |= {"media_type": result.media_type, "images": len(result.images)}
        arrays |= {"seeds": result.seeds, "requested": result.requested}
        arrays |= {
            f"image{index}": np.frombuffer(image, np.uint8)
            for index, image in enumerate(result.images)
        }
    tensors = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return orjson.dumps(head) + b"\n" + save(tensors)


def result_from_bytes(operation: Operation, content: bytes, card: ModelCard) -> InferenceResult:
    """Reads what `result_to_bytes` wrote. Raises ValueError when it did not."""
    json_line, _, tensors = content.partition(b"\n")
    try:
        head, arrays = orjson.loads(json_line), load(tensors)
        read = Predictions(**{name: arrays[name] for name in tensors_of(Predictions)})
        rows = tuple(_row(row) for row in head["rows"])
        if operation == "predict":
            return PredictionResult(card, rows, read, tuple(map(_face, head["faces"])))
        return _generation(card, rows, read, head, arrays)
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"not a result of {operation}") from error


def _generation(
    card: ModelCard,
    rows: tuple[Row, ...],
    read: Predictions,
    head: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
) -> GenerationResult:
    images = tuple(arrays[f"image{index}"].tobytes() for index in range(head["images"]))
    return GenerationResult(
        card, rows, read, images, head["media_type"], arrays["seeds"], arrays["requested"]
    )


def _plain_row(row: Row) -> Any:
    return [row.start, row.stop] if isinstance(row, range) else row.model_dump()


def _row(value: Any) -> Row:
    return range(*value) if isinstance(value, list) else RowProblem.model_validate(value)


def _plain_face(face: Face | None) -> Any:
    return face and vars(face) | {"points": face.points.tolist(), "doubts": vars(face.defects)}


def _face(value: Any) -> Face | None:
    if value is None:
        return None
    points = np.array(value["points"], np.float32)
    return Face(tuple(value["box"]), points, value["confidence"], Defects(**value["doubts"]))
