"""Questions about faces in, explanations out. Every flag is read off the final 8-bit picture.

Shape letters: N rows, S image side in px, K Action Units, L = K + 2 labels, F frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from affect.counterfactual import measure, words
from affect.counterfactual.measure import U8
from affect.counterfactual.opinion import Opinion, opinions
from affect.counterfactual.question import Question, QuestionError, understand
from affect.counterfactual.search import Found, Rows, search
from affect.judge import Judge
from affect.labels import DIMENSIONS
from affect.model import AffectModel, Prediction, Reading, only

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
    changes: tuple[tuple[str, float, float], ...]  # label, from, to: every reading that moved, the largest first
    map: U8  # (S, S) grey, 0 where nothing changed
    signed: U8  # (S, S, 3) for people: warm where brighter, cool where darker
    frames: U8  # (F, S, S, 3) the way from the face to the counterfactual
    regions: dict[str, float]  # share of the change per region of the face and outside it
    attribution: dict[str, float]  # how far moving each AU alone moves the decision towards the question
    scores: dict[str, float]
    trust: str  # high, medium or low
    reasons: tuple[str, ...]
    opinion: Opinion | None  # of an independent judge; None: nobody could be asked
    sentence: str
    integrated_gradients: measure.Floats | None = None  # (S, S) signed shares of the decision's number, when asked for


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
    """Answer one question about each of N aligned crops (N, S, S, 3). A question that makes no sense is answered by its error.

    `integrated_gradients` may be given for each question. `judge` is asked whether it sees each change too.
    """
    assert len(crops) == len(questions), (len(crops), len(questions))
    if not len(crops):
        return []
    x = model.to_pixels(torch.tensor(crops, device=model.platt.device))
    reading = model.read(x)
    factual = model.judge(reading)
    understood = [understand(model, question, one_row(factual, index)) for index, question in enumerate(questions)]
    good = [index for index, question in enumerate(understood) if isinstance(question, Question)]
    asked = [question for question in understood if isinstance(question, Question)]
    found: list[Explanation] = []
    if good:
        names = model.card.labels_of.names
        column = torch.tensor([names.index(question.label or "") for question in asked], device=x.device)
        target = torch.tensor([question.target for question in asked], dtype=torch.float32, device=x.device)
        chosen = torch.tensor(good, device=x.device)
        rows = Rows.of(x[chosen], only(reading, chosen), column, target)
        wanted = [integrated_gradients] * len(crops) if isinstance(integrated_gradients, bool) else integrated_gradients
        found = _describe(model, rows, asked, search(model, rows), frames, [wanted[index] for index in good], judge)
    answers = iter(found)
    return [question if isinstance(question, QuestionError) else next(answers) for question in understood]


def _describe(
    model: AffectModel, rows: Rows, questions: list[Question], found: Found, frames: int, gradients: list[bool], judge: Judge | None
) -> list[Explanation]:
    """Everything that is said about each row."""
    best, state = found.best, rows.reading.labels
    before, read = model.judge(rows.reading), model.judge(best.reading)
    facts = model.to_images(rows.x)
    redrawn = model.to_images(model.generate(rows.reading.latent, state))
    redrawn_read = model.predict(model.to_pixels(redrawn))
    error = (facts.float() - redrawn.float()).abs().mean((1, 2, 3)) / 255
    path = measure.way(model, rows, found.move, facts, best.images, frames)
    measured = {
        "validity_margin": best.margin,
        "identity": (rows.reading.identity * best.reading.identity).sum(1),
        "realism": read.realism,
        "stability": measure.stability(model, rows, best.images, best.margin > 0),
        "support": measure.support(model, best.reading.labels),
        "reconstruction_error": error,
    }
    shares = _shares(model, rows, gradients)
    told = opinions(
        judge, rows.x, model.to_pixels(best.images), [question.label or "" for question in questions], _moved(rows, best.reading)
    )
    answers = []
    for i, question in enumerate(questions):
        fact, counter = facts[i].cpu().numpy(), best.images[i].cpu().numpy()
        shift = np.abs(counter.astype(np.float32) - fact).mean(2) / 255  # (S, S)
        regions = measure.region_shares(shift)
        changes = _changes(model, state[i], best.reading.labels[i])
        scores = {name: round(float(values[i]), 4) for name, values in measured.items()} | {
            "proximity": round(float(shift.mean()), 5),
            "sparsity": float(sum(name != question.label for name, _, _ in changes)),
            "reconstruction_percentile": round(measure.percentile(model.card.reference.get("reconstruction_error"), float(error[i])), 4),
            "outside": regions["outside"],
        }
        if i in shares:
            scores["completeness_error"] = round(shares[i][1], 4)
        valid = bool(best.margin[i] > 0)
        level, reasons = words.trust(valid, scores, told[i])
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
                regions=regions,
                attribution=_attribution(model, found.gain[i]),
                scores=scores,
                trust=level,
                reasons=reasons,
                opinion=told[i],
                sentence=_sentence(model, question, one_row(before, i), one_row(read, i), found.move[i], valid),
                integrated_gradients=shares[i][0] if i in shares else None,
            )
        )
    return answers


def _shares(model: AffectModel, rows: Rows, wanted: list[bool]) -> dict[int, tuple[measure.Floats, float]]:
    """Integrated Gradients (S, S) and their completeness error of the rows that want them."""
    chosen = [i for i, want in enumerate(wanted) if want]
    if not chosen:
        return {}
    shares, error = measure.integrated_gradients(model, rows.take(torch.tensor(chosen, device=rows.x.device)))
    return {i: (shares[place].cpu().numpy(), float(error[place])) for place, i in enumerate(chosen)}


def _moved(rows: Rows, after: Reading) -> list[float]:
    """By how much the reading of each row's questioned label moved: an AU's intensity, or valence or arousal."""
    moved: list[float] = (after.labels - rows.reading.labels).gather(1, rows.column[:, None]).squeeze(1).tolist()
    return moved


def _changes(model: AffectModel, before: Tensor, after: Tensor) -> tuple[tuple[str, float, float], ...]:
    names = model.card.labels_of.names
    moved = [(name, float(a), float(b)) for name, known, a, b in zip(names, model.known, before, after, strict=True) if bool(known)]
    named = [(name, round(a, 4), round(b, 4)) for name, a, b in moved if abs(b - a) > CHANGED]
    return tuple(sorted(named, key=lambda change: -abs(change[2] - change[1])))


def _attribution(model: AffectModel, gain: Tensor) -> dict[str, float]:
    return {code: round(float(g), 4) for code, g in zip(model.card.vocabulary, gain, strict=True)} if bool(model.known[0]) else {}


def _sentence(model: AffectModel, question: Question, before: Prediction, after: Prediction, move: Tensor, valid: bool) -> str:
    label, codes = question.label or "", model.card.vocabulary
    units: list[words.Change] = []
    if bool(model.known[0]):
        units = [(code, float(before.intensity[0, k]), float(after.intensity[0, k])) for k, code in enumerate(codes)]
    if label in DIMENSIONS:
        column = DIMENSIONS.index(label)
        change = (label, float(before.va[0, column]), float(after.va[0, column]))
    else:
        column = codes.index(label)
        change = (label, float(before.probability[0, column]), float(after.probability[0, column]))
    asked = {code: float(move[k]) for k, code in enumerate(codes) if abs(float(move[k])) > words.VISIBLE}
    return words.sentence(label, change, units, asked, valid)


def one_row(prediction: Prediction, index: int) -> Prediction:
    """One row of a prediction, still with its first axis."""
    p, cut = prediction, slice(index, index + 1)
    return Prediction(p.intensity[cut], p.probability[cut], p.present[cut], p.va[cut], p.realism[cut])
