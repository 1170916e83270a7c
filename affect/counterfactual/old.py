"""Why was this face read so? The least change to *this* face, drawn by the generator, that changes the reading.

Expression counterfactuals: Action Units are moved, the person and the scene stay. Every row goes through the same fixed
rounds, so rows share forward passes and one hard row does not hold the others:

  1  read the face                                    2  move each AU alone: how does the decision answer? (attribution)
  3  add AUs, most telling first, until it flips      4  bisect to the smallest step that still flips it
  5  quantise to 8 bits and read again: every flag comes from that picture alone

Shape letters: N rows, S image side in px, K Action Units, L = K + 2 labels, F frames. Budget: about 30 forward passes a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from affect.catalogue import CATALOGUE, Region
from affect.labels import DIMENSIONS, allowed_range
from affect.model import NEIGHBOURHOOD, AffectModel, Prediction, Reading, only

U8 = NDArray[np.uint8]

VA_TOLERANCE = 0.1  # a wanted valence or arousal is reached within this
OTHER_SIDE = 0.2  # how far beyond zero "the other side" of a valence or arousal lies at least
SET_SIZES = (1, 2, 4)  # how many AUs are moved together in the tries
BISECTIONS = 4
CHANGED = 0.1  # a reading that moves by more than this is named as changed
MAP_FULL = 0.25  # a pixel that changes by this share of full scale is white in the map
CHUNK_ROWS = 64  # largest forward pass
NOISE_SD = 4 / 255  # of the stability probe


class QuestionError(ValueError):
    """A question that cannot be asked of this face. `code`: unknown_label, already_so, bad_target, not_learned."""

    def __init__(self, code: str, title: str, detail: str) -> None:
        super().__init__(f"{title}: {detail}")
        self.code, self.title, self.detail = code, title, detail


@dataclass(frozen=True)
class Question:
    """What should be otherwise. `label` None asks about the strongest decision; `target` None asks for the other side.

    `target` of an AU: 1.0 wanted present, 0.0 wanted absent; of valence and arousal: the wanted value in [-1, 1].
    """

    label: str | None = None
    target: float | None = None


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
    sentence: str


@dataclass
class _Rows:
    """The rows of a request whose questions make sense, as tensors."""

    x: Tensor  # (N, 3, S, S)
    reading: Reading
    column: Tensor  # (N,) column of the questioned label
    target: Tensor  # (N,) 1 / 0 for AUs, the value for VA
    questions: list[Question]

    def take(self, rows: Tensor) -> "_Rows":
        return _Rows(self.x[rows], only(self.reading, rows), self.column[rows], self.target[rows], [self.questions[int(i)] for i in rows])


@torch.inference_mode()
def explain(model: AffectModel, crops: U8, questions: Sequence[Question], *, frames: int = 5) -> list[Explanation | QuestionError]:
    """Answer one question about each of N aligned crops (N, S, S, 3). A question that makes no sense is answered by its error."""
    assert len(crops) == len(questions), (len(crops), len(questions))
    if not len(crops):
        return []
    x = model.to_pixels(torch.from_numpy(np.ascontiguousarray(crops)).to(model.platt.device))
    reading = model.read(x)
    factual = model.judge(reading)
    understood = [_understand(model, question, _row(factual, index)) for index, question in enumerate(questions)]
    good = [index for index, question in enumerate(understood) if isinstance(question, Question)]
    answers: list[Explanation | QuestionError] = [q if isinstance(q, QuestionError) else QuestionError("", "", "") for q in understood]
    if good:
        asked = [question for question in understood if isinstance(question, Question)]
        names = model.card.labels_of.names
        column = torch.tensor([names.index(question.label or "") for question in asked], device=x.device)
        target = torch.tensor([question.target for question in asked], dtype=torch.float32, device=x.device)
        chosen = torch.tensor(good, device=x.device)
        found = _search(model, _Rows(x[chosen], only(reading, chosen), column, target, asked), frames)
        for index, answer in zip(good, found, strict=True):
            answers[index] = answer
    return answers


def _understand(model: AffectModel, question: Question, factual: Prediction) -> Question | QuestionError:
    """The question with label and target filled in, or why it cannot be asked."""
    names, card = model.card.labels_of.names, model.card
    label = question.label or _strongest(model, factual)
    if label not in names:
        return QuestionError("unknown_label", "Unknown label", f"{label!r} is not one of {', '.join(names)}")
    if not bool(model.known[names.index(label)]):
        return QuestionError(
            "not_learned", "Label not learned", f"this model was trained on {card.labels!r} labels and does not know {label}"
        )
    low, high = allowed_range(label)
    if question.target is not None and not low <= question.target <= high:
        return QuestionError(
            "bad_target", "Target out of range", f"{label} cannot become {question.target}; give a number from {low:g} to {high:g}"
        )
    if label in DIMENSIONS:
        value = float(factual.va[0, DIMENSIONS.index(label)])
        wanted = (
            question.target if question.target is not None else float(np.clip(-np.sign(value or 1.0) * max(abs(value), OTHER_SIDE), -1, 1))
        )
        if abs(value - wanted) <= VA_TOLERANCE:
            return QuestionError(
                "already_so", "Already so", f"{label} is read as {value:.2f}, which is within {VA_TOLERANCE} of {wanted:.2f}"
            )
        return Question(label, wanted)
    present = bool(factual.present[0, names.index(label)])
    wanted_present = (question.target >= 0.5) if question.target is not None else not present
    if wanted_present == present:
        state, probability = "present" if present else "absent", float(factual.probability[0, names.index(label)])
        return QuestionError("already_so", "Already so", f"{label} is already read as {state} (probability {probability:.2f})")
    return Question(label, float(wanted_present))


def _strongest(model: AffectModel, factual: Prediction) -> str:
    """The most confident present AU; without one, the dimension that is furthest from neutral."""
    codes = model.card.vocabulary
    if bool(model.known[0]) and bool(factual.present[0].any()):
        return codes[int(torch.where(factual.present[0], factual.probability[0], -1).argmax())]
    if bool(model.known[-1]):
        return DIMENSIONS[int(factual.va[0].abs().argmax())]
    return codes[int(factual.probability[0].argmax())]


# -- the search ------------------------------------------------------------------------------------------------------


def _search(model: AffectModel, rows: _Rows, frames: int) -> list[Explanation]:
    state = rows.reading.labels  # (N, L)
    count, device = len(state), state.device
    start = _progress(model, model.judge(rows.reading), rows.reading, rows)
    gain = _sensitivity(model, rows, state) - start[:, None]  # (N, K)
    order = _order(model, rows, gain)
    ends = torch.stack([_end_state(model, rows, state, order, gain, size) for size in SET_SIZES], dim=1)  # (N, C, L)
    _, reached = _try(model, rows, ends.flatten(0, 1), torch.arange(count, device=device).repeat_interleave(len(SET_SIZES)))
    reached = reached.view(count, -1)
    # The fewest AUs that do it; if none does, the set that comes nearest.
    flips = reached > 0
    best = torch.where(flips.any(1), flips.float().argmax(1), reached.argmax(1))
    end = ends[torch.arange(count, device=device), best]
    share = _bisect(model, rows, state, end)
    final = state + share[:, None] * (end - state)
    images, _ = _try(model, rows, final, torch.arange(count, device=device))
    return _describe(model, rows, state, final, images, gain, frames)


def _sensitivity(model: AffectModel, rows: _Rows, state: Tensor) -> Tensor:
    """(N, K) progress of the decision after each AU alone has gone all the way to its other end."""
    count, aus = len(state), state.shape[1] - 2
    moved = state[:, None].repeat(1, aus, 1)  # (N, K, L)
    diagonal = torch.arange(aus, device=state.device)
    moved[:, diagonal, diagonal] = (state[:, :-2] < 0.5).to(state.dtype)
    moved[:, :, -2:] = _with_va(model, state.repeat_interleave(aus, 0), moved.flatten(0, 1)).view(count, aus, -1)[:, :, -2:]
    source = torch.arange(count, device=state.device).repeat_interleave(aus)
    return _try(model, rows, moved.flatten(0, 1), source)[1].view(count, aus)


def _order(model: AffectModel, rows: _Rows, gain: Tensor) -> Tensor:
    """(N, K) AUs from the most telling on; an AU that is itself questioned always comes first."""
    ranked = gain.clone()
    own = rows.column < gain.shape[1]
    ranked[own, rows.column[own]] = torch.inf
    return ranked.argsort(dim=1, descending=True)


def _end_state(model: AffectModel, rows: _Rows, state: Tensor, order: Tensor, gain: Tensor, size: int) -> Tensor:
    """(N, L) the state with the first `size` AUs at their other end (those that help), VA following."""
    end = state.clone()
    index = torch.arange(len(state), device=state.device)
    for rank in range(min(size, order.shape[1])):
        au = order[:, rank]
        helps = (gain[index, au] > 0) | (rank == 0)
        end[index, au] = torch.where(helps, (state[index, au] < 0.5).to(state.dtype), end[index, au])
    own = rows.column < gain.shape[1]
    end[index[own], rows.column[own]] = rows.target[own]
    end = _with_va(model, state, end)
    end[index[~own], rows.column[~own]] = rows.target[~own]
    return end


def _with_va(model: AffectModel, start: Tensor, end: Tensor) -> Tensor:
    """`end` (R, L) with valence and arousal moved as real faces' move with those AUs (kernel regression on the label table)."""
    table = model.label_table[~torch.isnan(model.label_table[:, model.known]).any(1)]
    if not len(table) or not bool(model.known[-1]) or not bool(model.known[0]):
        return end

    def expected(aus: Tensor) -> Tensor:
        distance = torch.cdist(aus, table[:, :-2]) ** 2
        return torch.softmax(-distance / (2 * (2 * NEIGHBOURHOOD) ** 2), dim=1) @ table[:, -2:]

    moved = start[:, -2:] + expected(end[:, :-2]) - expected(start[:, :-2])
    return torch.cat([end[:, :-2], moved.clamp(-1, 1)], dim=1)


def _bisect(model: AffectModel, rows: _Rows, state: Tensor, end: Tensor) -> Tensor:
    """(N,) smallest share of the way at which the question is met; 1 where even the end does not meet it."""
    index = torch.arange(len(state), device=state.device)
    low, high = torch.zeros(len(state), device=state.device), torch.ones(len(state), device=state.device)
    met_at_end = _try(model, rows, end, index)[1] > 0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        met = (_try(model, rows, state + middle[:, None] * (end - state), index)[1] > 0) & met_at_end
        high = torch.where(met, middle, high)
        low = torch.where(met | ~met_at_end, low, middle)
    return high


def _try(model: AffectModel, rows: _Rows, y: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
    """Edit the faces of rows `source` (R,) to states y (R, L): the 8-bit pictures (R, S, S, 3) and their progress (R,)."""
    images, progress = [], []
    for start in range(0, len(y), CHUNK_ROWS):
        part = rows.take(source[start : start + CHUNK_ROWS])
        image = model.to_images(model.edit(part.x, y[start : start + CHUNK_ROWS], part.reading.labels, part.reading))
        reading = model.read(model.to_pixels(image))
        images.append(image)
        progress.append(_progress(model, model.judge(reading), reading, part))
    return torch.cat(images), torch.cat(progress)


def _progress(model: AffectModel, read: Prediction, reading: Reading, rows: _Rows) -> Tensor:
    """(N,) above 0 exactly when the question is met. AU: signed distance of the calibrated logit from the threshold's."""
    scale, shift, threshold = model.platt.unbind(1)
    logits = reading.logits * scale + shift - torch.logit(threshold)
    au = rows.column < logits.shape[1]
    index = torch.arange(len(logits), device=logits.device)
    wanted = torch.where(rows.target >= 0.5, 1.0, -1.0)
    of_au = logits[index, rows.column.clamp(max=logits.shape[1] - 1)] * wanted
    dimension = (rows.column - logits.shape[1]).clamp(min=0)
    of_va = VA_TOLERANCE - (read.va[index, dimension] - rows.target).abs()
    # An AU exactly at its threshold counts as present (see AffectModel.judge), so "absent" must lie strictly below.
    return torch.where(au, of_au, of_va)


# -- what it means -----------------------------------------------------------------------------------------------------


def _describe(
    model: AffectModel, rows: _Rows, state: Tensor, final: Tensor, images: Tensor, gain: Tensor, frames: int
) -> list[Explanation]:
    """Everything that is said about each row, from the final 8-bit pictures."""
    after = model.read(model.to_pixels(images))
    before, read = model.judge(rows.reading), model.judge(after)
    redrawn = model.to_images(model.generate(rows.reading.latent, state))
    redrawn_read = model.predict(model.to_pixels(redrawn))
    facts = model.to_images(rows.x)
    error = (facts.float() - redrawn.float()).abs().mean((1, 2, 3)) / 255
    path = _path(model, rows, state, final, facts, images, frames)
    progress = _progress(model, read, after, rows)
    steady = _stability(model, rows, images, progress)
    identity = (rows.reading.identity * after.identity).sum(1)
    answers = []
    for i, question in enumerate(rows.questions):
        fact, counter = facts[i].cpu().numpy(), images[i].cpu().numpy()
        shift = np.abs(counter.astype(np.float32) - fact).mean(2) / 255  # (S, S)
        regions = _shares(shift)
        changes = _changes(model, state[i], after.labels[i])
        valid = bool(progress[i] > 0)
        percentile = _percentile(model.card.reference.get("reconstruction_error"), float(error[i]))
        scores = {
            "validity_margin": round(float(progress[i]), 4),
            "proximity": round(float(shift.mean()), 5),
            "sparsity": float(sum(name != question.label for name, _, _ in changes)),
            "identity": round(float(identity[i]), 4),
            "realism": round(float(read.realism[i]), 4),
            "stability": round(float(steady[i]), 4),
            "reconstruction_error": round(float(error[i]), 4),
            "reconstruction_percentile": round(percentile, 4),
            "outside": round(regions["outside"], 4),
        }
        level, reasons = _trust(valid, scores)
        answers.append(
            Explanation(
                question=question,
                factual=_row(before, i),
                reconstruction=redrawn[i].cpu().numpy(),
                reconstruction_read=_row(redrawn_read, i),
                reconstruction_error=float(error[i]),
                counterfactual=counter,
                counterfactual_read=_row(read, i),
                valid=valid,
                changes=changes,
                map=_map(shift),
                signed=_signed(fact, counter),
                frames=path[i].cpu().numpy(),
                regions=regions,
                attribution={code: round(float(g), 4) for code, g in zip(model.card.vocabulary, gain[i], strict=True)},
                scores=scores,
                trust=level,
                reasons=reasons,
                sentence=_sentence(model, question, state[i], after.labels[i], final[i], before, read, i, valid),
            )
        )
    return answers


def _path(model: AffectModel, rows: _Rows, state: Tensor, final: Tensor, facts: Tensor, images: Tensor, frames: int) -> Tensor:
    """(N, F, S, S, 3) from the face itself to its counterfactual."""
    steps = []
    for share in np.linspace(0, 1, frames)[1:-1]:
        y = state + float(share) * (final - state)
        steps.append(model.to_images(model.edit(rows.x, y, state, rows.reading)))
    return torch.stack([facts, *steps, images], dim=1)


def _stability(model: AffectModel, rows: _Rows, images: Tensor, progress: Tensor) -> Tensor:
    """(N,) share of two slightly noised copies whose decision is the counterfactual's."""
    x = model.to_pixels(images)
    agree = torch.zeros(len(x), device=x.device)
    generator = Generator().manual_seed(0)
    for _ in range(2):
        noise = 2 * NOISE_SD * torch.randn(x.shape[1:], generator=generator).to(x.device)
        reading = model.read((x + noise).clamp(-1, 1))
        agree += ((_progress(model, model.judge(reading), reading, rows) > 0) == (progress > 0)).float() / 2
    return agree


def _changes(model: AffectModel, before: Tensor, after: Tensor) -> tuple[tuple[str, float, float], ...]:
    names = model.card.labels_of.names
    moved = [(name, float(a), float(b)) for name, known, a, b in zip(names, model.known, before, after, strict=True) if bool(known)]
    named = [(name, round(a, 4), round(b, 4)) for name, a, b in moved if abs(b - a) > CHANGED]
    return tuple(sorted(named, key=lambda change: -abs(change[2] - change[1])))


def region_masks(side: int) -> dict[str, NDArray[np.bool_]]:
    """(S, S) masks that tile the aligned crop: the six regions of FACS and the outside of the face."""
    y, x = (np.mgrid[0:side, 0:side] + 0.5) / side
    inside = ((x - 0.5) / 0.42) ** 2 + ((y - 0.5) / 0.56) ** 2 < 1
    middle = np.abs(x - 0.5)
    boxes = {
        Region.BROW: y < 0.30,
        Region.EYE: (y >= 0.30) & (y < 0.43),
        Region.NOSE: (y >= 0.43) & (y < 0.66) & (middle < 0.13),
        Region.CHEEK: ((y >= 0.43) & (y < 0.66) & (middle >= 0.13)) | ((y >= 0.66) & (y < 0.88) & (middle >= 0.22)),
        Region.MOUTH: (y >= 0.66) & (y < 0.88) & (middle < 0.22),
        Region.CHIN: y >= 0.88,
    }
    return {region.value: inside & box for region, box in boxes.items()} | {"outside": ~inside}


def _shares(shift: NDArray[np.floating]) -> dict[str, float]:
    total = float(shift.sum()) + 1e-9
    return {name: round(float(shift[mask].sum()) / total, 4) for name, mask in region_masks(len(shift)).items()}


def _map(shift: NDArray[np.floating]) -> U8:
    """Changes below half a grey level are none; scaled by a fixed amount, so faint changes look faint."""
    shown = np.where(shift < 0.5 / 255, 0, shift).astype(np.float32)
    grey: U8 = np.round(np.clip(shown / MAP_FULL, 0, 1) * 255).astype(np.uint8)
    return grey


def _signed(fact: U8, counter: U8) -> U8:
    """Warm where the face grew brighter, cool where darker, over a faint grey face."""
    change = (counter.astype(np.float32) - fact).mean(2) / 255
    change = cv2.GaussianBlur(change, (0, 0), max(len(fact) / 128, 0.5))
    strength = np.clip(np.abs(change) / MAP_FULL, 0, 1)[..., None] ** 0.7
    face = 150 + 0.35 * (fact.mean(2, keepdims=True) - 128)
    warm, cool = np.array([214, 84, 32], np.float32), np.array([38, 102, 190], np.float32)
    colour = np.where(change[..., None] > 0, warm, cool)
    mixed: U8 = np.round(face * (1 - strength) + colour * strength).clip(0, 255).astype(np.uint8)
    return mixed


def _percentile(quantiles: Sequence[float] | None, value: float) -> float:
    """Share of real faces whose score is lower; NaN-free: without a reference 0.5 says "unknown"."""
    if not quantiles:
        return 0.5
    return float(np.searchsorted(quantiles, value, side="right") / len(quantiles))


def _trust(valid: bool, scores: dict[str, float]) -> tuple[str, tuple[str, ...]]:
    """How far to trust an answer, and the measured reasons against it."""
    serious, mild = [], []
    if not valid:
        serious.append(f"the question was not met (margin {scores['validity_margin']:.2f}); this is the nearest try")
    if scores["identity"] < 0.5:
        serious.append(f"the person may have changed (identity {scores['identity']:.2f} of 1)")
    elif scores["identity"] < 0.8:
        mild.append(f"the person changed a little (identity {scores['identity']:.2f} of 1)")
    if scores["realism"] < 0.02:
        serious.append(f"the picture looks unlike real faces (realism {scores['realism']:.2f})")
    if scores["stability"] < 1:
        mild.append(f"slight noise changes the decision back (stable in {scores['stability']:.0%} of tries)")
    if scores["reconstruction_percentile"] > 0.95:
        mild.append(f"the generator draws this face poorly (error larger than for {scores['reconstruction_percentile']:.0%} of real faces)")
    if scores["outside"] > 0.35:
        mild.append(f"{scores['outside']:.0%} of the change lies outside the face")
    level = "low" if serious else "medium" if mild else "high"
    return level, tuple(serious + mild) or ("the question is met, the person is kept, and slight noise does not undo it",)


def _sentence(
    model: AffectModel,
    question: Question,
    state: Tensor,
    after: Tensor,
    final: Tensor,
    before: Prediction,
    read: Prediction,
    i: int,
    valid: bool,
) -> str:
    label = question.label or ""
    column = model.card.labels_of.index(label)
    moves = [(code, float(final[k] - state[k])) for k, code in enumerate(model.card.vocabulary) if abs(float(final[k] - state[k])) > 0.02]
    moves.sort(key=lambda move: -abs(move[1]))
    told = [f"{code} ({CATALOGUE[code].name}) were {'raised' if by > 0 else 'reduced'} by {abs(by):.2f}" for code, by in moves[:3]]
    if label in DIMENSIONS:
        start, end = float(state[column]), float(after[column])
        verb = "stay near" if abs(end - start) < 0.02 else "rise from" if end > start else "fall from"
        effect = f"{label.capitalize()} would {verb} {start:.2f}" + ("" if verb == "stay near" else f" to {end:.2f}")
    else:
        was, now = float(before.probability[i, column]), float(read.probability[i, column])
        effect = f"{label} ({CATALOGUE[label].name}) would go from {was:.2f} to {now:.2f} in probability"
    cause = f" if {' and '.join(told)}" if told else " with no Action Unit changed"
    return f"{effect}{cause}{'.' if valid else '; that is not enough to change the decision.'}"


def _row(prediction: Prediction, index: int) -> Prediction:
    """One row of a prediction, still with its first axis."""
    p = prediction
    cut = slice(index, index + 1)
    return Prediction(p.intensity[cut], p.probability[cut], p.present[cut], p.va[cut], p.realism[cut])
