"""Explanations as messages carry them, and questions as they come out of messages."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from affect.card import ModelCard
from affect.counterfactual import CounterfactualQuestion, Explanation, QuestionError, measure
from affect.model import Prediction
from affect.protocol.messages import (
    ANY_LABEL,
    FAMILIES,
    ExplainRequest,
    ExplainResponse,
    ExplanationDetails,
    Predictions,
    RowError,
)
from affect.protocol.tensor_codec import arguments_from_tensors, zero_tensors

NO_OTHER = RowError(
    "no_other_answer", "No other answer", "whatever else was tried gives the same picture"
)
TENSORS = (
    "reconstruction",
    "reconstruction_error",
    "counterfactual",
    "valid",
    "map",
    "signed",
    "frames",
)
READINGS = ("factual", "reconstruction_read", "counterfactual_read")
Result = Explanation | QuestionError | RowError


def questions_from_request(
    request: ExplainRequest, card: ModelCard
) -> list[CounterfactualQuestion | RowError | None]:
    """What each row asks.

    The error of one that makes sense for no face; None for another answer to the row before.
    """
    faults, names = request.faults(card), card.labels_of.names
    return [
        faults.get(row) or (_question(request, row, names) if request.answer[row] == 0 else None)
        for row in range(len(request))
    ]


def _question(request: ExplainRequest, row: int, names: Sequence[str]) -> CounterfactualQuestion:
    label, target = int(request.label[row]), float(request.target[row])
    following = request.answer[row + 1 :]
    alternatives = int(
        np.cumprod(following != 0).sum()
    )  # rows that want another answer to this one
    return CounterfactualQuestion(
        None if label == ANY_LABEL else names[label],
        None if np.isnan(target) else target,
        FAMILIES[int(request.family[row])],
        1 + alternatives,
    )


def results_by_row(
    rows: Sequence[CounterfactualQuestion | RowError | None],
    explained: Iterable[Explanation | QuestionError],
) -> list[Result]:
    """The result of each row of `questions_from_request`.

    `explained` has one for each question in turn; its alternatives fill the rows behind it.
    """
    results, source = list[Result](), iter(explained)
    alternatives: Iterator[Explanation] = iter(())
    for row in rows:
        if row is None:
            results.append(next(alternatives, NO_OTHER))
            continue
        result = row if isinstance(row, RowError) else next(source)
        alternatives = iter(result.alternatives if isinstance(result, Explanation) else ())
        results.append(result)
    return results


def response_from_results(
    results: Sequence[Result], card: ModelCard, frames: int
) -> ExplainResponse:
    """The response to one request, from an explanation or an error for each of its rows."""
    tensors = zero_tensors(ExplainResponse, card, N=len(results), F=frames)
    errors: dict[int, RowError] = {}
    details: list[ExplanationDetails | None] = []
    for row, result in enumerate(results):
        if isinstance(result, Explanation):
            details.append(_details(result))
            for name, value in _tensors(result, card):
                tensors[name][row] = value
        else:
            details.append(None)
            errors[row] = RowError(result.code, result.title, result.detail)
    arguments = arguments_from_tensors(ExplainResponse, tensors)
    return ExplainResponse(**arguments, details=tuple(details), errors=errors)


def _tensors(explanation: Explanation, card: ModelCard) -> Iterator[tuple[str, Any]]:
    """One row of every tensor, by its name in the file."""
    assert explanation.question.label is not None
    yield "label", card.labels_of.index(explanation.question.label)
    yield "target", explanation.question.target
    for name in TENSORS:
        yield name, getattr(explanation, name)
    gradients = explanation.integrated_gradients
    if gradients is not None:
        yield "gradients", measure.signed_shares(explanation.frames[0], gradients)
    for name in READINGS:
        reading: Prediction = getattr(explanation, name)
        for part in Predictions.__dataclass_fields__:
            yield f"{name}.{part}", getattr(reading, part)[0].float().cpu().numpy()


def _details(explanation: Explanation) -> ExplanationDetails:
    gradients, agreement = explanation.integrated_gradients, explanation.judge_agreement
    return ExplanationDetails(
        changes=explanation.changes,
        causes=explanation.causes,
        regions=explanation.regions,
        attribution=explanation.attribution,
        scores=explanation.scores,
        trust=explanation.trust,
        reasons=explanation.reasons,
        sentence=explanation.sentence,
        gradients=None if gradients is None else measure.region_gradients(gradients),
        judge_agreement=None
        if agreement is None
        else (agreement.before, agreement.after, agreement.agrees),
    )
