"""A result as the JSON of /v1 (affect/answers.py has its types), and as the picture itself."""

import base64
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import orjson
from starlette.responses import Response

from affect.answers import RowProblem
from affect.faces import Face
from affect.labels import AROUSAL, VALENCE
from affect.protocol.messages import ExplanationDetails
from affect.protocol.reading_fields import reading_fields
from service.inference.results import (
    ExplanationResult,
    GenerationResult,
    InferenceResult,
    PredictionResult,
)

IMAGE_MEDIA_TYPES = ("image/png", "image/jpeg", "image/webp")
PNG = "image/png"
Json = dict[str, Any]
# Of predictions: the cache gives the same result to many clients.
_rendered: WeakKeyDictionary[InferenceResult, bytes] = WeakKeyDictionary()


def render_json(result: InferenceResult) -> bytes:
    """The whole answer as JSON."""
    if not isinstance(result, PredictionResult):
        return orjson.dumps(json_answer(result))
    rendered = _rendered.get(result)
    if rendered is None:
        # A copy, since orjson's own has five times the room that it needs.
        rendered = _rendered[result] = bytes(memoryview(orjson.dumps(json_answer(result))))
    return rendered


def render_response(
    result: InferenceResult, image_media_type: str | None, headers: Mapping[str, str]
) -> Response:
    """The answer as JSON, or as the picture in it when `image_media_type` asks for that and there
    is one.
    """
    row = result.rows[0]
    if image_media_type and isinstance(result, GenerationResult) and isinstance(row, range):
        marks = {"X-Seed": str(int(result.seeds[row.start])), "X-Synthetic": "true", **headers}
        return Response(result.images[row.start], media_type=image_media_type, headers=marks)
    return json_response(render_json(result), headers=headers)


def json_response(
    body: bytes, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """JSON that is bytes already."""
    return Response(body, status, headers, "application/json")


def json_answer(result: InferenceResult) -> Json:
    """The answer as plain values: which model, and for each row its result or its error."""
    card = result.card
    return {
        "model": {"name": card.name, "version": card.version, "labels": card.labels},
        "results": [_row(result, number, row) for number, row in enumerate(result.rows)],
    }


def _row(result: InferenceResult, number: int, row: range | RowProblem) -> Json:
    if isinstance(row, RowProblem):
        return {"index": number, "status": "error", "error": row.model_dump()}
    return {"index": number, "status": "ok", **_contents(result, row)}


def _contents(result: InferenceResult, row: range) -> Json:
    match result:
        case PredictionResult():
            return {"faces": [_face_reading(result, index) for index in row]}
        case GenerationResult():
            return _generation(result, row.start)
        case ExplanationResult():
            return _explanation(result, row)
    raise TypeError(f"{type(result).__name__} has no JSON")


def _face_reading(result: PredictionResult, index: int) -> Json:
    face = result.faces[index]
    return _face(face) | reading_fields(result.card, result.read, index, face)


def _generation(result: GenerationResult, index: int) -> Json:
    state = result.card.labels_of.named(result.requested[index])
    va = {name: state.pop(name) for name in (VALENCE, AROUSAL) if name in state}
    return {
        "seed": int(result.seeds[index]),
        "requested": {**_rounded(va), "aus": _rounded(state)},
        "measured": reading_fields(result.card, result.read, index),
        "image": _image(result.images[index], result.media_type),
    }


def _explanation(result: ExplanationResult, row: range) -> Json:
    index, card = row.start, result.card
    details = result.details[index]
    assert details is not None
    return {
        "question": _question(result, index),
        "box": _face(result.faces[index])["box"],
        "factual": reading_fields(card, result.read, index, result.faces[index]),
        "reconstruction": {
            "image": _image(result.reconstruction[index]),
            "prediction": reading_fields(card, result.reconstruction_read, index),
            "error": round(float(result.reconstruction_error[index]), 4),
        },
        "frames": [_image(frame) for frame in result.frames[index]],
        "attribution": details.attribution,
        "integrated_gradients": details.gradients
        and {"image": _image(result.gradients[index]), "regions": details.gradients},
        **_change(result, index, details),
        "alternatives": [
            _change(result, other, other_details)
            for other in row[1:]
            if (other_details := result.details[other]) is not None
        ],
    }


def _question(result: ExplanationResult, index: int) -> Json:
    label = result.card.labels_of.names[int(result.label[index])]
    target = float(result.target[index])
    if label in (VALENCE, AROUSAL):
        return {label: round(target, 4)}
    return {"au": label, "present": target >= 0.5}


def _change(result: ExplanationResult, index: int, details: ExplanationDetails) -> Json:
    """The fields in which the answers to one question differ."""
    return {
        "sentence": details.sentence,
        "counterfactual": {
            "image": _image(result.counterfactual[index]),
            "prediction": reading_fields(result.card, result.counterfactual_read, index),
            "valid": bool(result.valid[index]),
        },
        "causes": _moves(details.causes),
        "changes": _moves(details.changes),
        "map": {
            "image": _image(result.change_map[index]),
            "signed": _image(result.signed_map[index]),
        },
        "regions": details.regions,
        "scores": details.scores,
        "trust": {
            "level": details.trust,
            "reasons": list(details.reasons),
            "judge": _judge_agreement(details.judge_agreement),
        },
    }


def _moves(moves: tuple[tuple[str, float, float], ...]) -> list[Json]:
    return [{"label": name, "from": start, "to": end} for name, start, end in moves]


def _judge_agreement(agreement: tuple[float, float, bool] | None) -> Json | None:
    return agreement and dict(zip(("from", "to", "agrees"), agreement, strict=True))


def _face(face: Face | None) -> Json:
    if face is None:
        return {"box": None, "points": None, "confidence": None}
    points = [[round(float(x), 1), round(float(y), 1)] for x, y in face.points]
    return {"box": list(face.box), "points": points, "confidence": face.confidence}


def _image(content: bytes, media_type: str = PNG) -> Json:
    return {"content": base64.b64encode(content).decode(), "media_type": media_type}


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}
