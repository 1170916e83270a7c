"""One row of `Predictions` as plain values by name: the JSON of a reading (affect.answers.Reading).

A model has only the fields that its card names; what it does not know is absent, never zero.
"""

from collections.abc import Sequence
from typing import Any

from affect.card import ModelCard
from affect.faces import Face
from affect.labels import AROUSAL, POSE, VALENCE
from affect.protocol.messages import Predictions
from affect.protocol.reading_warnings import reading_warnings

DECIMALS, DEGREE_DECIMALS = 4, 2
Json = dict[str, Any]


def reading_fields(card: ModelCard, read: Predictions, row: int, face: Face | None = None) -> Json:
    """What the model of the card reads off one face, rounded, and warnings about it."""
    fields: Json = {"realism": round(float(read.realism[row]), DECIMALS)}
    if card.learns_va:
        fields |= _named((VALENCE, AROUSAL), read.va[row].tolist())
    if card.expressions:
        probabilities = _named(card.expressions, read.expression[row].tolist())
        label = card.expressions[int(read.expression[row].argmax())]
        fields["expression"] = {"label": label, "probabilities": probabilities}
    if card.pose:
        fields["pose"] = _named(POSE, read.pose[row].tolist(), DEGREE_DECIMALS)
    if card.learns_aus:
        fields["aus"] = _action_units(card, read, row)
    warnings = reading_warnings(card, read, row, face)
    fields["warnings"] = [{"code": one.code, "detail": one.detail} for one in warnings]
    return fields


def _action_units(card: ModelCard, read: Predictions, row: int) -> Json:
    parts = (read.probability, read.intensity, read.present)
    columns = zip(card.vocabulary, *(part[row].tolist() for part in parts), strict=True)
    units: Json = {
        code: {
            "probability": round(probability, DECIMALS),
            "intensity": round(intensity, DECIMALS),
            "present": bool(present),
        }
        for code, probability, intensity, present in columns
    }
    for code, left, right in zip(card.one_sided, *read.sides[row].tolist(), strict=True):
        units[code] |= _named(("left", "right"), (left, right))
    return units


def _named(names: Sequence[str], values: Sequence[float], decimals: int = DECIMALS) -> Json:
    return {name: round(value, decimals) for name, value in zip(names, values, strict=True)}
