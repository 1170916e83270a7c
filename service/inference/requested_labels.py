"""The labels that a request names, as rows and columns of the model. Raises Problem for a label
that it does not have or was not trained on.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affect.card import ModelCard
from affect.labels import AROUSAL, VALENCE
from affect.protocol.messages import ANY_LABEL
from service.problems import Problem, invalid
from service.schemas import ExplainOptions, GenerateItem, Question


def label_rows(card: ModelCard, items: Sequence[GenerateItem]) -> NDArray[np.float32]:
    """The state that each item asks for (N, K+2), NaN where it leaves a label open."""
    return np.stack([_label_row(card, index, item) for index, item in enumerate(items)])


def check_explain_options(card: ModelCard, options: ExplainOptions) -> None:
    """Raises Problem for a question, or a family of changes, that the model does not support."""
    question_target(card, options.question)
    if options.family == "nuisance" and not card.nuisances:
        raise invalid(
            "options.family",
            options.family,
            "this model has learnt no nuisances; ask for the family `expression`",
        )


def question_target(card: ModelCard, question: Question) -> tuple[int, float]:
    """Column of the label in question, or ANY_LABEL, and its wanted value; NaN: the other side."""
    for name, value in ((VALENCE, question.valence), (AROUSAL, question.arousal)):
        if value is not None:
            return _column(card, name), value
    if not question.au:
        return ANY_LABEL, math.nan
    if question.au not in card.vocabulary:
        raise _unknown_au("options.question.au", question.au, card.vocabulary)
    target = math.nan if question.present is None else float(question.present)
    return _column(card, question.au), target


def _column(card: ModelCard, name: str) -> int:
    if not _learned(card, name):
        raise _not_learned("options.question", name, card, name)
    return card.labels_of.names.index(name)


def _label_row(card: ModelCard, index: int, item: GenerateItem) -> NDArray[np.float32]:
    labels = dict(item.aus)
    labels |= {
        name: value
        for name, value in ((VALENCE, item.valence), (AROUSAL, item.arousal))
        if value is not None
    }
    for name, value in labels.items():
        field = f"items[{index}].aus.{name}" if name in item.aus else f"items[{index}].{name}"
        if name not in card.labels_of.names:
            raise _unknown_au(field, value, card.labels_of.aus)
        if not _learned(card, name):
            raise _not_learned(field, value, card, name)
    return card.labels_of.row(labels)


def _learned(card: ModelCard, name: str) -> bool:
    return card.labels != ("au" if name in (VALENCE, AROUSAL) else "va")


def _unknown_au(field: str, value: object, vocabulary: Sequence[str]) -> Problem:
    return invalid(field, value, f"unknown Action Unit; this model has {', '.join(vocabulary)}")


def _not_learned(field: str, value: Any, card: ModelCard, name: str) -> Problem:
    remedy = f"this model was trained on {card.labels!r} labels and does not know {name}"
    return invalid(field, value, remedy)
