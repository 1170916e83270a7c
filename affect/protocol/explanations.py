"""Explanations as the wire carries them, and questions as they come from it."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from affect.card import ModelCard
from affect.counterfactual import Explanation, Question, QuestionError, measure
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
from affect.protocol.tensor_codec import blank, build

NO_OTHER = RowError(
    "no_other_answer", "No other answer", "whatever else was tried gives the same picture"
)


def questions_of(request: ExplainRequest, card: ModelCard) -> list[Question | RowError | None]:
    """One question per row; in the place of one that makes sense for no face, its error; None for another answer to the one before."""
    faults, names = request.faults(card), card.labels_of.names
    return [
        faults.get(row) or (_question(request, row, names) if request.answer[row] == 0 else None)
        for row in range(len(request))
    ]


def _question(request: ExplainRequest, row: int, names: Sequence[str]) -> Question:
    label, target = int(request.label[row]), float(request.target[row])
    following = request.answer[row + 1 :]
    more = int((np.cumprod(following != 0)).sum())  # rows that want another answer to this one
    family = FAMILIES[int(request.family[row])]
    return Question(
        None if label == ANY_LABEL else names[label],
        None if np.isnan(target) else target,
        family,
        1 + more,
    )


def spread(
    rows: Sequence[Question | RowError | None], explained: Iterable[Explanation | QuestionError]
) -> list[Explanation | QuestionError | RowError]:
    """What to answer in each row of `questions_of`: explanations of the questions in turn, and their other answers behind them."""
    answers, source = list[Explanation | QuestionError | RowError](), iter(explained)
    others: Iterator[Explanation] = iter(())
    for row in rows:
        if row is None:
            answers.append(next(others, NO_OTHER))
            continue
        answer = row if isinstance(row, RowError) else next(source)
        others = iter(answer.alternatives if isinstance(answer, Explanation) else ())
        answers.append(answer)
    return answers


def answer_of(
    found: Sequence[Explanation | QuestionError | RowError], card: ModelCard, frames: int
) -> ExplainResponse:
    """The answer to one request: an explanation or an error for each of its rows."""
    tensors = blank(ExplainResponse, card, N=len(found), F=frames)
    errors: dict[int, RowError] = {}
    words: list[ExplanationDetails | None] = []
    for row, one in enumerate(found):
        words.append(_words(one) if isinstance(one, Explanation) else None)
        if isinstance(one, Explanation):
            for name, value in _tensors(one, card):
                tensors[name][row] = value
        else:
            errors[row] = RowError(one.code, one.title, one.detail)
    return ExplainResponse(**build(ExplainResponse, tensors), words=tuple(words), errors=errors)


def _tensors(one: Explanation, card: ModelCard) -> Iterator[tuple[str, Any]]:
    assert one.question.label is not None
    yield "label", card.labels_of.index(one.question.label)
    yield "target", one.question.target
    for name in (
        "reconstruction",
        "reconstruction_error",
        "counterfactual",
        "valid",
        "map",
        "signed",
        "frames",
    ):
        yield name, getattr(one, name)
    if one.integrated_gradients is not None:
        yield "gradients", measure.signed_shares(one.frames[0], one.integrated_gradients)
    for name in ("factual", "reconstruction_read", "counterfactual_read"):
        read: Prediction = getattr(one, name)
        for part in Predictions.__dataclass_fields__:
            yield f"{name}.{part}", getattr(read, part)[0].float().cpu().numpy()


def _words(one: Explanation) -> ExplanationDetails:
    shares = (
        None
        if one.integrated_gradients is None
        else measure.region_gradients(one.integrated_gradients)
    )
    judge_agreement = (
        (one.judge_agreement.before, one.judge_agreement.after, one.judge_agreement.agrees)
        if one.judge_agreement
        else None
    )
    return ExplanationDetails(
        one.changes,
        one.causes,
        one.regions,
        one.attribution,
        one.scores,
        one.trust,
        one.reasons,
        one.sentence,
        shares,
        judge_agreement,
    )
