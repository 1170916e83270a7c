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
from service.api.tensors import Array, Datatype
from service.inference.results import (
    ExplanationResult,
    GenerationResult,
    InferenceResult,
    PredictionResult,
)

NO_SEED = -1
Tensors = Mapping[str, tuple[Datatype, Array]]
Places = NDArray[np.int64]  # (N,) where a row's face lies in the arrays of the result; -1: nowhere


def tensors_of_result(result: InferenceResult) -> Tensors:
    """Every output of the result's operation, by name."""
    places = np.array([row.start if isinstance(row, range) else -1 for row in result.rows])
    match result:
        case PredictionResult():
            outputs = _prediction(result, places)
        case GenerationResult():
            outputs = _generation(result, places)
        case ExplanationResult():
            outputs = _explanation(result, places)
        case _:
            raise TypeError(f"{type(result).__name__} has no tensors")
    return {**outputs, "error": _texts(map(_error, result.rows))}


def _prediction(result: PredictionResult, places: Places) -> Tensors:
    """The largest face of each picture."""
    present = np.zeros((len(places), len(result.card.vocabulary)), np.bool_)
    if result.card.labels != "va":
        present = _column(result.read.present, places, fill=0).astype(np.bool_)
    faces = [result.faces[place] if place >= 0 else None for place in places]
    boxes = [face.box if face else (np.nan,) * 4 for face in faces]
    return {
        **_reading(result.card, result.read, places),
        "present": ("BOOL", present),
        "box": ("FP32", np.array(boxes, np.float32).reshape(-1, 4)),
    }


def _generation(result: GenerationResult, places: Places) -> Tensors:
    """What was drawn, and what the model reads off it."""
    return {
        "image": _images(result.images, places),
        "seed": ("INT64", _column(result.seeds, places, fill=NO_SEED)),
        **_reading(result.card, result.read, places),
    }


def _explanation(result: ExplanationResult, places: Places) -> Tensors:
    """Before, after, where, in words, and how far to trust it: of the least change to each face."""
    details = [result.details[place] if place >= 0 else None for place in places]
    names = result.card.labels_of.names
    labels = [names[result.label[place]] if place >= 0 else "" for place in places]
    return {
        "counterfactual": _images(result.counterfactual, places),
        "map": _images(result.change_map, places),
        "signed_map": _images(result.signed_map, places),
        "valid": ("BOOL", _column(result.valid, places, fill=False)),
        "label": _texts(labels),
        "sentence": _texts(found.sentence if found else "" for found in details),
        "trust": _texts(found.trust if found else "" for found in details),
        **_reading(result.card, result.read, places),
        **_reading(result.card, result.counterfactual_read, places, "counterfactual_"),
    }


def _reading(card: ModelCard, read: Predictions, places: Places, prefix: str = "") -> Tensors:
    """AU probabilities (N, K), valence and arousal (N, 2), realism (N,), and what else the model
    reads; NaN where a row has none, or a model that learnt one kind of label.
    """
    nowhere = np.full_like(places, -1)
    columns = {
        "aus": _column(read.probability, nowhere if card.labels == "va" else places),
        "va": _column(read.va, nowhere if card.labels == "au" else places),
        "realism": _column(read.realism, places),
    }
    for name in ("expression", "pose", "sides"):
        values: Array = getattr(read, name)
        if values.shape[-1]:
            columns[name] = _column(values, places)
    return {f"{prefix}{name}": ("FP32", column) for name, column in columns.items()}


def _column(values: Array, places: Places, fill: float = np.nan) -> Array:
    """The rows of `values` in these places; `fill` where there is none."""
    column = np.full((len(places), *values.shape[1:]), fill, values.dtype)
    found = places >= 0
    column[found] = values[places[found]]
    return column


def _images(images: tuple[bytes, ...], places: Places) -> tuple[Datatype, Array]:
    return _texts(images[place] if place >= 0 else b"" for place in places)


def _texts(values: Iterable[str | bytes]) -> tuple[Datatype, Array]:
    elements = list(values)
    array = np.empty(len(elements), object)
    array[:] = elements
    return "BYTES", array


def _error(row: range | RowProblem) -> str:
    return f"{row.title}: {row.detail}" if isinstance(row, RowProblem) else ""
