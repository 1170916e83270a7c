"""Questions about a face, and how an open question is resolved."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from affect.labels import DIMENSIONS, allowed_range
from affect.model import AffectModel, Prediction

VA_TOLERANCE = 0.1  # a wanted valence or arousal is reached within this
OTHER_SIDE = 0.15  # how far beyond zero "the other side" of a valence or arousal lies


Family = Literal["expression", "nuisance"]


class QuestionError(ValueError):
    """A question that cannot be asked of this face.

    `code`: unknown_label, already_so, bad_target, not_learned, no_nuisances.
    """

    def __init__(self, code: str, title: str, detail: str) -> None:
        super().__init__(f"{title}: {detail}")
        self.code, self.title, self.detail = code, title, detail


@dataclass(frozen=True)
class CounterfactualQuestion:
    """The change that is asked for.

    `label` None asks about the strongest decision; `target` None asks for the other side.

    `target` of an AU: 1.0 wanted present, 0.0 wanted absent; of valence and arousal: the wanted
    value in [-1, 1]. `family` is what may be changed: the expression, or what should not matter
    (skin, light, pose). `answers` is how many different changes are wanted, the least one first.
    """

    label: str | None = None
    target: float | None = None
    family: Family = "expression"
    answers: int = 1


def resolve_question(
    model: AffectModel, question: CounterfactualQuestion, factual: Prediction
) -> CounterfactualQuestion | QuestionError:
    """The question with label and target filled in, or why it cannot be asked.

    `factual` has one row.
    """
    label = question.label or strongest(model, factual)
    if problem := _problem(model, question, label):
        return problem
    names = model.card.labels_of.names
    if label in DIMENSIONS:
        value = float(factual.va[0, DIMENSIONS.index(label)])
        target = _of_dimension(label, question.target, value)
    else:
        column = names.index(label)
        present, probability = factual.present[0, column], factual.probability[0, column]
        target = _of_unit(label, question.target, bool(present), float(probability))
    if isinstance(target, QuestionError):
        return target
    return replace(question, label=label, target=target)


def _problem(
    model: AffectModel, question: CounterfactualQuestion, label: str
) -> QuestionError | None:
    """Why this cannot be asked of any face."""
    names, card = model.card.labels_of.names, model.card
    if question.family == "nuisance" and not card.nuisances:
        unknown = (
            "these weights know no nuisances; `affectgan evaluate` teaches them, or "
            "ask for the family expression"
        )
        return QuestionError("no_nuisances", "No nuisances learned", unknown)
    if label not in names:
        unknown_label = f"{label!r} is not one of {', '.join(names)}"
        return QuestionError("unknown_label", "Unknown label", unknown_label)
    if not card.learns(label):
        not_learnt = f"this model was trained on {card.labels!r} labels and does not know {label}"
        return QuestionError("not_learned", "Label not learned", not_learnt)
    low, high = allowed_range(label)
    if question.target is not None and not low <= question.target <= high:
        out_of_range = (
            f"{label} cannot become {question.target}; give a number from {low:g} to {high:g}"
        )
        return QuestionError("bad_target", "Target out of range", out_of_range)
    return None


def strongest(model: AffectModel, factual: Prediction) -> str:
    """The most confident present AU; without one, the dimension that is furthest from neutral."""
    codes = model.card.vocabulary
    if bool(model.known[0]) and bool(factual.present[0].any()):
        return codes[int(torch.where(factual.present[0], factual.probability[0], -1).argmax())]
    if bool(model.known[-1]):
        return DIMENSIONS[int(factual.va[0].abs().argmax())]
    return codes[int(factual.probability[0].argmax())]


def _of_dimension(label: str, target: float | None, value: float) -> float | QuestionError:
    goal = -float(np.copysign(OTHER_SIDE, value)) if target is None else target
    if abs(value - goal) <= VA_TOLERANCE:
        return QuestionError(
            "already_so",
            "Already so",
            f"{label} is read as {value:.2f}, which is within {VA_TOLERANCE} of {goal:.2f}",
        )
    return goal


def _of_unit(
    label: str, target: float | None, present: bool, probability: float
) -> float | QuestionError:
    goal = not present if target is None else target >= 0.5
    if goal == present:
        state = "present" if present else "absent"
        return QuestionError(
            "already_so",
            "Already so",
            f"{label} is already read as {state} (probability {probability:.2f})",
        )
    return float(goal)
