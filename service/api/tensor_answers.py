"""A result as tensors of the Open Inference Protocol: one face a row, with every digit that the
model gave.

A row that failed has a text in `error`, NaN in its numbers and empty images. Shape letters: N rows,
K Action Units.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from affect.answers import RowProblem
from affect.card import ModelCard
from affect.protocol.messages import Predictions
from affect.protocol.reading_warnings import reading_warnings
from service.api.tensors import Array, Datatype
from service.inference.results import (
    ExplanationResult,
    GenerationResult,
    InferenceResult,
    PredictionResult,
)

NO_SEED = -1
Tensors = Mapping[str, tuple[Datatype, Array]]
Indices = NDArray[np.int64]  # (N,) index of a row's face in the arrays of the result; -1: none


def tensors_of_result(result: InferenceResult) -> Tensors:
    """Every output of the result's operation, by name."""
    indices = np.array([row.start if isinstance(row, range) else -1 for row in result.rows])
    match result:
        case PredictionResult():
            outputs = _prediction(result, indices)
        case GenerationResult():
            outputs = _generation(result, indices)
        case ExplanationResult():
            outputs = _explanation(result, indices)
        case _:
            raise TypeError(f"{type(result).__name__} has no tensors")
    return {**outputs, "error": _texts(map(_error, result.rows))}


def _prediction(result: PredictionResult, indices: Indices) -> Tensors:
    """The largest face of each picture."""
    present = np.zeros((len(indices), len(result.card.vocabulary)), np.bool_)
    if result.card.labels != "va":
        present = _column(result.read.present, indices, fill=0).astype(np.bool_)
    faces = [result.faces[index] if index >= 0 else None for index in indices]
    boxes = [face.box if face else (np.nan,) * 4 for face in faces]
    return {
        **_reading(result.card, result.read, indices),
        "present": ("BOOL", present),
        "warnings": _texts(_warnings(result, index) for index in indices),
        "box": ("FP32", np.array(boxes, np.float32).reshape(-1, 4)),
    }


def _warnings(result: PredictionResult, index: int) -> str:
    """Codes, joined by semicolons."""
    if index < 0:
        return ""
    warnings = reading_warnings(result.card, result.read, index, result.faces[index])
    return ";".join(warning.code for warning in warnings)


def _generation(result: GenerationResult, indices: Indices) -> Tensors:
    """The drawn faces, and what the model reads off them."""
    return {
        "image": _images(result.images, indices),
        "seed": ("INT64", _column(result.seeds, indices, fill=NO_SEED)),
        **_reading(result.card, result.read, indices),
    }


def _explanation(result: ExplanationResult, indices: Indices) -> Tensors:
    """Before, after, where, in words, and how far to trust it: of the least change to each face."""
    details = [result.details[index] if index >= 0 else None for index in indices]
    names = result.card.labels_of.names
    labels = [names[result.label[index]] if index >= 0 else "" for index in indices]
    return {
        "counterfactual": _images(result.counterfactual, indices),
        "map": _images(result.change_map, indices),
        "signed_map": _images(result.signed_map, indices),
        "valid": ("BOOL", _column(result.valid, indices, fill=False)),
        "label": _texts(labels),
        "sentence": _texts(answer.sentence if answer else "" for answer in details),
        "trust": _texts(answer.trust if answer else "" for answer in details),
        **_reading(result.card, result.read, indices),
        **_reading(result.card, result.counterfactual_read, indices, "counterfactual_"),
    }


def _reading(card: ModelCard, read: Predictions, indices: Indices, prefix: str = "") -> Tensors:
    """AU probabilities (N, K), valence and arousal (N, 2), realism (N,), and what else the model
    reads; NaN where a row has none, or a model that learnt one kind of label.
    """
    no_index = np.full_like(indices, -1)
    columns = {
        "aus": _column(read.probability, no_index if card.labels == "va" else indices),
        "va": _column(read.va, no_index if card.labels == "au" else indices),
        "realism": _column(read.realism, indices),
    }
    for name in ("expression", "pose", "sides"):
        values: Array = getattr(read, name)
        if values.shape[-1]:
            columns[name] = _column(values, indices)
    return {f"{prefix}{name}": ("FP32", column) for name, column in columns.items()}


def _column(values: Array, indices: Indices, fill: float = np.nan) -> Array:
    """The rows of `values` in these indices; `fill` where there is none."""
    column = np.full((len(indices), *values.shape[1:]), fill, values.dtype)
    exists = indices >= 0
    column[exists] = values[indices[exists]]
    return column


def _images(images: tuple[bytes, ...], indices: Indices) -> tuple[Datatype, Array]:
    return _texts(images[index] if index >= 0 else b"" for index in indices)


def _texts(values: Iterable[str | bytes]) -> tuple[Datatype, Array]:
    elements = list(values)
    array = np.empty(len(elements), object)
    array[:] = elements
    return "BYTES", array


def _error(row: range | RowProblem) -> str:
    return f"{row.title}: {row.detail}" if isinstance(row, RowProblem) else ""
