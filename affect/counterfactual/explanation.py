"""Questions about faces in, explanations out: rows with questions alike share one search.

Shape letters: N rows, S image side in px.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from affect.counterfactual import measure
from affect.counterfactual.description import Explanation, Task, describe
from affect.counterfactual.expression import Expression
from affect.counterfactual.measure import U8
from affect.counterfactual.nuisance import Nuisance
from affect.counterfactual.question import CounterfactualQuestion, QuestionError, resolve_question
from affect.counterfactual.search import Rows, search
from affect.judge import Judge
from affect.model import AffectModel, ModelOutput
from affect.rows import take_rows


@torch.inference_mode()
def explain(
    model: AffectModel,
    crops: U8,
    questions: Sequence[CounterfactualQuestion],
    *,
    frames: int = 5,
    integrated_gradients: bool | Sequence[bool] = False,
    judge: Judge | None = None,
) -> list[Explanation | QuestionError]:
    """Answer one question about each of N aligned crops (N, S, S, 3).

    A question that makes no sense is answered by its error. `integrated_gradients` may be given for
    each question. `judge` reads each change too.
    """
    assert len(crops) == len(questions), (len(crops), len(questions))
    if not len(crops):
        return []
    x = model.to_pixels(torch.tensor(crops, device=model.platt.device))
    output = model.read(x)
    factual = model.calibrate(output)
    answers: list[CounterfactualQuestion | Explanation | QuestionError] = [
        resolve_question(model, question, take_rows(factual, slice(i, i + 1)))
        for i, question in enumerate(questions)
    ]
    gradients = (
        [integrated_gradients] * len(crops)
        if isinstance(integrated_gradients, bool)
        else list(integrated_gradients)
    )
    for group in _groups_of_rows(answers):
        questions_of_group = [
            one for i in group if isinstance(one := answers[i], CounterfactualQuestion)
        ]
        rows_of_group = torch.tensor(group, device=x.device)
        rows = _rows(model, x[rows_of_group], take_rows(output, rows_of_group), questions_of_group)
        space = _space(model, questions_of_group[0])
        task = Task(model, space.prepared(rows), questions_of_group, space, frames, judge)
        for i, answer in zip(group, _answer(task, [gradients[i] for i in group]), strict=True):
            answers[i] = answer
    return [one for one in answers if not isinstance(one, CounterfactualQuestion)]


def _groups_of_rows(questions: Sequence[object]) -> list[list[int]]:
    """Rows that are searched together: of the same family, for the same number of answers."""
    kinds: dict[tuple[str, int], list[int]] = {}
    for index, question in enumerate(questions):
        if isinstance(question, CounterfactualQuestion):
            kinds.setdefault((question.family, question.answers), []).append(index)
    return list(kinds.values())


def _rows(
    model: AffectModel, x: Tensor, output: ModelOutput, questions: list[CounterfactualQuestion]
) -> Rows:
    names = model.card.labels_of.names
    columns = [names.index(question.label or "") for question in questions]
    targets = torch.tensor([question.target for question in questions], dtype=torch.float32)
    rows = Rows.of(x, output, torch.tensor(columns, device=x.device), targets.to(x.device))
    return replace(rows, redrawn=model.generate(output.latent, output.labels))


def _space(model: AffectModel, question: CounterfactualQuestion) -> Expression | Nuisance:
    return Nuisance(model) if question.family == "nuisance" else Expression(model)


def _answer(task: Task, gradients: Sequence[bool]) -> list[Explanation]:
    """One explanation a row, with its alternatives; only the first answer has pixel shares."""
    results = search(task.model, task.rows, task.space, answers=task.questions[0].answers)
    no_gradients = [False] * len(gradients)
    described = [
        describe(task, one, no_gradients if n else gradients) for n, one in enumerate(results)
    ]
    return [_with_alternatives(*answers) for answers in zip(*described, strict=True)]


def _with_alternatives(first: Explanation, *others: Explanation) -> Explanation:
    """The first answer with those of the others that are not the same picture again, and how far
    they lie apart.
    """
    distinct = [first]
    for other in others:
        if not any(np.array_equal(other.counterfactual, one.counterfactual) for one in distinct):
            distinct.append(other)
    if len(distinct) == 1:
        return first
    diversity = measure.diversity(first.frames[0], [one.counterfactual for one in distinct])
    return replace(
        first,
        alternatives=tuple(distinct[1:]),
        scores=first.scores | {"diversity": round(diversity, 4)},
    )
