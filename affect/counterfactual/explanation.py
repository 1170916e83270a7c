"""Questions about faces in, explanations out. Every flag is read off the final 8-bit picture.

Shape letters: N rows, S image side in px, K Action Units, L = K + 2 labels, F frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from affect.counterfactual import measure, verbalization
from affect.counterfactual.expression import Expression
from affect.counterfactual.judge_agreement import JudgeAgreement, judge_agreements
from affect.counterfactual.measure import U8
from affect.counterfactual.nuisance import Nuisance, help_of
from affect.counterfactual.question import Question, QuestionError, resolve_question
from affect.counterfactual.search import Cause, Rows, SearchResult, search
from affect.judge import Judge
from affect.labels import DIMENSIONS
from affect.model import AffectModel, ModelOutput, Prediction, select_rows

CHANGED = 0.1  # a reading that moves by more than this is named as changed


@dataclass(frozen=True)
class Explanation:
    """One answer. Pictures are uint8 RGB in the frame of the crop; predictions have one row."""

    question: Question  # as it was understood: label and target are set
    factual: Prediction
    reconstruction: U8  # (S, S, 3) the face as the generator alone would draw it
    reconstruction_read: Prediction
    reconstruction_error: float  # mean absolute difference of pixels in [0, 1]
    counterfactual: U8  # (S, S, 3)
    counterfactual_read: Prediction
    valid: bool  # the counterfactual, as 8-bit picture, is read as was asked
    # label, from, to: every reading that moved, the largest first
    changes: tuple[tuple[str, float, float], ...]
    map: U8  # (S, S) grey, 0 where nothing changed
    signed: U8  # (S, S, 3) for people: warm where brighter, cool where darker
    frames: U8  # (F, S, S, 3) the way from the face to the counterfactual
    # what was moved, from, to: AUs by intensity, or nuisances by where the face stands between
    # their ends
    causes: tuple[Cause, ...]
    regions: dict[str, float]  # share of the change per region of the face and outside it
    # how far moving each AU (or nuisance) alone moves the decision towards the question
    attribution: dict[str, float]
    scores: dict[str, float]
    trust: str  # high, medium or low
    reasons: tuple[str, ...]
    judge_agreement: JudgeAgreement | None  # of an independent judge; None: nobody could be asked
    sentence: str
    # (S, S) signed shares of the decision's number, when asked for
    integrated_gradients: measure.Floats | None = None
    # other answers to the same question, as many as were asked for and differ
    alternatives: tuple["Explanation", ...] = ()


@torch.inference_mode()
def explain(
    model: AffectModel,
    crops: U8,
    questions: Sequence[Question],
    *,
    frames: int = 5,
    integrated_gradients: bool | Sequence[bool] = False,
    judge: Judge | None = None,
) -> list[Explanation | QuestionError]:
    """Answer one question about each of N aligned crops (N, S, S, 3).

    A question that makes no sense is answered by its error.

    `integrated_gradients` may be given for each question. `judge` is asked whether it sees each
    change too.
    """
    assert len(crops) == len(questions), (len(crops), len(questions))
    if not len(crops):
        return []
    x = model.to_pixels(torch.tensor(crops, device=model.platt.device))
    output = model.read(x)
    factual = model.calibrate(output)
    understood = [
        resolve_question(model, question, one_row(factual, index))
        for index, question in enumerate(questions)
    ]
    wanted = (
        [integrated_gradients] * len(crops)
        if isinstance(integrated_gradients, bool)
        else list(integrated_gradients)
    )
    answers: list[Explanation | QuestionError | None] = [
        one if isinstance(one, QuestionError) else None for one in understood
    ]
    for alike in _alike(understood):
        asked = [question for index in alike if isinstance(question := understood[index], Question)]
        chosen = torch.tensor(alike, device=x.device)
        rows = _rows(model, x[chosen], select_rows(output, chosen), asked)
        for index, answer in zip(
            alike,
            _answer(model, rows, asked, frames, [wanted[index] for index in alike], judge),
            strict=True,
        ):
            answers[index] = answer
    return [answer for answer in answers if answer is not None]


def _alike(understood: Sequence[Question | QuestionError]) -> list[list[int]]:
    """Rows that are searched together: of the same family, for the same number of answers."""
    kinds: dict[tuple[str, int], list[int]] = {}
    for index, question in enumerate(understood):
        if isinstance(question, Question):
            kinds.setdefault((question.family, question.answers), []).append(index)
    return list(kinds.values())


def _rows(model: AffectModel, x: Tensor, output: ModelOutput, questions: list[Question]) -> Rows:
    names = model.card.labels_of.names
    column = torch.tensor(
        [names.index(question.label or "") for question in questions], device=x.device
    )
    return Rows.of(
        x,
        output,
        column,
        torch.tensor(
            [question.target for question in questions], dtype=torch.float32, device=x.device
        ),
    )


def _answer(
    model: AffectModel,
    rows: Rows,
    questions: list[Question],
    frames: int,
    gradients: list[bool],
    judge: Judge | None,
) -> list[Explanation]:
    """One explanation a row, its other answers in it.

    The questions are alike in family and number of answers.
    """
    rows = replace(rows, redrawn=model.generate(rows.output.latent, rows.output.labels))
    space = Nuisance(model) if questions[0].family == "nuisance" else Expression(model)
    found = search(model, rows, space, answers=questions[0].answers)
    nothing = [False] * len(questions)
    each = [
        _describe(model, rows, questions, one, space, frames, nothing if n else gradients, judge)
        for n, one in enumerate(found)
    ]
    return [_with_alternatives(*answers) for answers in zip(*each, strict=True)]


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
    apart = measure.diversity(first.frames[0], [one.counterfactual for one in distinct])
    return replace(
        first,
        alternatives=tuple(distinct[1:]),
        scores=first.scores | {"diversity": round(apart, 4)},
    )


def _describe(
    model: AffectModel,
    rows: Rows,
    questions: list[Question],
    found: SearchResult,
    space: Expression | Nuisance,
    frames: int,
    gradients: list[bool],
    judge: Judge | None,
) -> list[Explanation]:
    """Everything that is said about each row."""
    best, state = found.best, rows.output.labels
    before, read = model.calibrate(rows.output), model.calibrate(best.output)
    facts = model.to_images(rows.x)
    assert rows.redrawn is not None
    redrawn = model.to_images(rows.redrawn)
    redrawn_read = model.predict(model.to_pixels(redrawn))
    error = (facts.float() - redrawn.float()).abs().mean((1, 2, 3)) / 255
    path, causes = (
        measure.interpolate_frames(space, rows, found.move, facts, best.images, frames),
        space.causes(rows, found.move),
    )
    attribution = space.attribution(rows, found.gain)
    if isinstance(space, Nuisance):  # several go all the way: what helps most is told first
        causes = [
            sorted(row, key=lambda cause: -help_of(alone, cause))
            for row, alone in zip(causes, attribution, strict=True)
        ]
    measured = {
        "validity_margin": best.margin,
        "identity": (rows.output.identity * best.output.identity).sum(1),
        "realism": read.realism,
        "stability": measure.stability(model, rows, best.images, best.margin > 0),
        "support": measure.support(model, best.output.labels),
        "reconstruction_error": error,
    }
    if isinstance(space, Nuisance):
        measured["reached"] = space.reached(rows, found.move, best.output.latent)
    shares = _shares(model, rows, gradients)
    agreements = judge_agreements(
        judge,
        rows.x,
        model.to_pixels(best.images),
        [question.label or "" for question in questions],
        _moved(rows, best.output),
    )
    answers = []
    for i, question in enumerate(questions):
        fact, counter = facts[i].cpu().numpy(), best.images[i].cpu().numpy()
        shift = np.abs(counter.astype(np.float32) - fact).mean(2) / 255  # (S, S)
        regions = measure.region_shares(shift)
        changes = _changes(model, state[i], best.output.labels[i])
        scores = {name: round(float(values[i]), 4) for name, values in measured.items()} | {
            "proximity": round(float(shift.mean()), 5),
            "sparsity": float(sum(name != question.label for name, _, _ in changes)),
            "reconstruction_percentile": round(
                measure.percentile(
                    model.card.reference.get("reconstruction_error"), float(error[i])
                ),
                4,
            ),
            "outside": regions["outside"],
        }
        if i in shares:
            scores["completeness_error"] = round(shares[i][1], 4)
        valid = bool(best.margin[i] > 0)
        level, reasons = verbalization.trust(valid, scores, agreements[i], question.family)
        answers.append(
            Explanation(
                question=question,
                factual=one_row(before, i),
                reconstruction=redrawn[i].cpu().numpy(),
                reconstruction_read=one_row(redrawn_read, i),
                reconstruction_error=float(error[i]),
                counterfactual=counter,
                counterfactual_read=one_row(read, i),
                valid=valid,
                changes=changes,
                map=measure.change_map(shift),
                signed=measure.signed_map(fact, counter),
                frames=path[i].cpu().numpy(),
                causes=tuple(causes[i]),
                regions=regions,
                attribution=attribution[i],
                scores=scores,
                trust=level,
                reasons=reasons,
                judge_agreement=agreements[i],
                sentence=_sentence(
                    model, question, one_row(before, i), one_row(read, i), causes[i], valid
                ),
                integrated_gradients=shares[i][0] if i in shares else None,
            )
        )
    return answers


def _shares(
    model: AffectModel, rows: Rows, wanted: list[bool]
) -> dict[int, tuple[measure.Floats, float]]:
    """Integrated Gradients (S, S) and their completeness error of the rows that want them."""
    chosen = [i for i, want in enumerate(wanted) if want]
    if not chosen:
        return {}
    shares, error = measure.integrated_gradients(
        model, rows.take(torch.tensor(chosen, device=rows.x.device))
    )
    return {i: (shares[place].cpu().numpy(), float(error[place])) for place, i in enumerate(chosen)}


def _moved(rows: Rows, after: ModelOutput) -> list[float]:
    """By how much the reading of each row's questioned label moved: an AU's intensity, or valence
    or arousal.
    """
    moved: list[float] = (
        (after.labels - rows.output.labels).gather(1, rows.column[:, None]).squeeze(1).tolist()
    )
    return moved


def _changes(
    model: AffectModel, before: Tensor, after: Tensor
) -> tuple[tuple[str, float, float], ...]:
    names = model.card.labels_of.names
    moved = [
        (name, float(a), float(b))
        for name, known, a, b in zip(names, model.known, before, after, strict=True)
        if bool(known)
    ]
    named = [(name, round(a, 4), round(b, 4)) for name, a, b in moved if abs(b - a) > CHANGED]
    return tuple(sorted(named, key=lambda change: -abs(change[2] - change[1])))


def _sentence(
    model: AffectModel,
    question: Question,
    before: Prediction,
    after: Prediction,
    causes: list[Cause],
    valid: bool,
) -> str:
    label, codes = question.label or "", model.card.vocabulary
    if label in DIMENSIONS:
        column = DIMENSIONS.index(label)
        change = (label, float(before.va[0, column]), float(after.va[0, column]))
    else:
        column = codes.index(label)
        change = (label, float(before.probability[0, column]), float(after.probability[0, column]))
    if question.family == "nuisance":
        return verbalization.nuisance_sentence(label, change, causes, valid)
    units: list[verbalization.Change] = []
    if bool(model.known[0]):
        units = [
            (code, float(before.intensity[0, k]), float(after.intensity[0, k]))
            for k, code in enumerate(codes)
        ]
    return verbalization.sentence(
        label, change, units, {code: end - start for code, start, end in causes}, valid
    )


def one_row(prediction: Prediction, index: int) -> Prediction:
    """One row of a prediction, still with its first axis."""
    cut = slice(index, index + 1)
    return Prediction(
        **{field.name: getattr(prediction, field.name)[cut] for field in fields(prediction)}
    )
