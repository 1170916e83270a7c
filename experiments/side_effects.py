"""What else changes with a counterfactual, as independent judges see it, and ways to have less of
it.

python -m experiments.side_effects --data D --judge J [--judge J2] [--faces 64] [--way pruned ...]

A reading beside the asked counts as changed when a judge's moves by more than .1, and, told apart,
by more than it moves between two renders of one state (background, camera noise and light differ):
the judge's own unrest, of which no counterfactual is the cause. Causes that the answer names do
not count as side effects in the second count. Shape letters: N rows, S side in px, K Action Units,
L = K + 2 labels (a move).
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from affect.counterfactual.expression import VISIBLE, Expression
from affect.counterfactual.judge_agreement import follows
from affect.counterfactual.question import CounterfactualQuestion, resolve_question
from affect.counterfactual.search import Rows, SearchResult, edit_and_read, margin_and_reach, search
from affect.factory import load_model
from affect.judge import Judge
from affect.labels import DIMENSIONS
from affect.model import AffectModel
from affect.rows import take_rows
from training.database.reader import Database
from training.evaluation.bias.nuisances import NUISANCES, render_pairs
from training.evaluation.core.predictions import U8, Floats, load_faces
from training.evaluation.explanation.grading import CHANGED

SAME_STATE = ("another background and other noise", "light: frontal to lateral")
QUANTILE = 0.95  # of a judge's movements between renders of one state
REGIONS_KEPT = (0.5, 0.7, 0.8, 0.9)  # share of the pixels that are put back, tried in turn
STEPS, RATE, WEIGHT = 12, 0.06, 0.15  # of the descent on side effects

Way = Callable[[AffectModel, Rows, Expression, SearchResult], U8]


def plain(model: AffectModel, rows: Rows, space: Expression, result: SearchResult) -> U8:
    """As it is served."""
    return result.best.images.numpy()


def pruned(model: AffectModel, rows: Rows, space: Expression, result: SearchResult) -> U8:
    """Components of the move that the answer does not need are taken back, the least needed first:
    as many as leave it valid with its clearance.
    """
    count, labels = result.move.shape
    index = torch.arange(count)
    without = result.move[:, None] * (1 - torch.eye(labels))
    alone = edit_and_read(
        model, rows, without.flatten(0, 1), index.repeat_interleave(labels), space.draw
    )
    rank = (-alone.reach.view(count, labels)).argsort(1).argsort(1)  # 0: least needed
    low, high, best = torch.zeros(count), torch.full((count,), float(labels)), result.best
    images = best.images.clone()
    for _ in range(5):
        middle = ((low + high) / 2).floor()
        kept = result.move * (rank >= middle[:, None])
        tried = edit_and_read(model, rows, kept, index, space.draw)
        enough = (tried.reach >= 1) & (tried.margin > 0)
        images[enough] = tried.images[enough]
        low, high = torch.where(enough, middle, low), torch.where(enough, high, middle)
    return images.numpy()


def local(model: AffectModel, rows: Rows, space: Expression, result: SearchResult) -> U8:
    """Pixels are put back where the face changed least, as many as leave the answer valid."""
    faces, images = model.to_images(rows.x), result.best.images.clone()
    change = (images.float() - faces.float()).numpy()
    for share in REGIONS_KEPT:
        mask = np.stack([_mask(one, share) for one in np.abs(change).mean(3)])[..., None]
        mixed = (faces.float() + torch.from_numpy(change * mask)).round().clamp(0, 255).byte()
        margin, reach = margin_and_reach(model, model.read_state(model.to_pixels(mixed)), rows)
        enough = (reach >= 1) & (margin > 0)
        images[enough] = mixed[enough]
    return images.numpy()


def _mask(change: Floats, share: float) -> Floats:
    """(S, S) 1 where a face changed most, 0 in `share` of its pixels, soft between."""
    smooth = cv2.GaussianBlur(change.astype(np.float32), (0, 0), len(change) / 32)
    line = np.quantile(smooth, share)
    return np.clip(2 * smooth / max(float(line), 1e-9) - 1, 0, 1)


def descended(model: AffectModel, rows: Rows, space: Expression, result: SearchResult) -> U8:
    """The move goes down the gradient of what the model reads beside the asked, in units of its own
    unrest, while the answer keeps its clearance.
    """
    unrest, questioned = _unrest(model, rows.x), rows.column[:, None]
    best, cost = result.best.images.clone(), torch.full((len(rows.x),), torch.inf)
    move = result.move.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([move], lr=RATE)
    state = rows.output.labels
    for _ in range(STEPS + 1):
        aim = state + move
        drawn = model.edit(rows.x, aim, state, rows.output)
        output = model.read_state(drawn)
        margin, reach = margin_and_reach(model, output, rows)
        shift = (torch.cat([output.logits.sigmoid(), output.va], 1) - state).abs() / unrest
        others = (shift - 1).clamp(min=0).scatter(1, questioned, 0).mean(1)
        images = model.to_images(drawn)
        taken = (reach >= 1) & (margin > 0) & (others < cost)
        best[taken], cost = images[taken], torch.where(taken, others.detach(), cost)
        optimiser.zero_grad()
        ((1.15 - reach).clamp(min=0) + WEIGHT * others).sum().backward()
        optimiser.step()
    return best.numpy()


@torch.no_grad()
def _unrest(model: AffectModel, x: Tensor) -> Tensor:
    """(L,) how far readings move when the picture moves by a pixel: QUANTILE over faces."""
    before, after = (
        torch.cat([one.logits.sigmoid(), one.va], 1)
        for one in (model.read_state(x), model.read_state(x.roll((1, 1), (2, 3))))
    )
    return (after - before).abs().quantile(QUANTILE, dim=0).clamp(min=0.02)


WAYS: dict[str, Way] = {
    "as served": plain,
    "pruned": pruned,
    "local": local,
    "descended": descended,
    "pruned, local": lambda m, r, s, f: local(m, r, s, _after(f, pruned(m, r, s, f))),
}


def _after(result: SearchResult, images: U8) -> SearchResult:
    return replace(result, best=replace(result.best, images=torch.from_numpy(images)))


def questions(model: AffectModel, images: U8, rng: np.random.Generator) -> Rows:
    """One question a face: every second about an AU, to turn, else about valence or arousal, the
    other side.
    """
    x = model.to_pixels(torch.from_numpy(images))
    output = model.read(x)
    factual, resolved_or_errors = model.calibrate(output), []
    for i in range(len(images)):
        labels = DIMENSIONS if i % 2 else model.card.vocabulary
        question = CounterfactualQuestion(str(rng.choice(labels)))
        resolved_or_errors.append(
            resolve_question(model, question, take_rows(factual, slice(i, i + 1)))
        )
    resolved = [one for one in resolved_or_errors if isinstance(one, CounterfactualQuestion)]
    assert len(resolved) == len(images)
    names = model.card.labels_of.names
    column = torch.tensor([names.index(str(one.label)) for one in resolved])
    target = torch.tensor([float(one.target or 0.0) for one in resolved])
    return replace(Rows.of(x, output, column, target), redrawn=x)


def unrest(judge: Judge, people: int, side: int) -> tuple[Floats, float]:
    """(L,) QUANTILE of a judge's movements between two renders of one state, and how many of its
    AUs move by more than CHANGED.
    """
    kinds = [one for one in NUISANCES if one.name in SAME_STATE]
    moved = []
    for kind in kinds:
        pairs = render_pairs(kind, people=people, seed=20261127, size_px=side)
        before, after = (read(judge, images) for images in (pairs.before, pairs.after))
        moved.append(np.abs(after - before))
    every = np.concatenate(moved)
    return np.quantile(every, QUANTILE, axis=0), float((every[:, :-2] > CHANGED).sum(1).mean())


@torch.no_grad()
def read(judge: Judge, images: U8) -> Floats:
    """(N, L) label rows."""
    labels = judge.read(AffectModel.to_pixels(torch.from_numpy(images)))
    return labels.double().numpy()


@dataclass(frozen=True)
class Answers:
    """What a way came to."""

    faces: U8  # (N, S, S, 3)
    images: U8  # (N, S, S, 3)
    column: NDArray[np.intp]  # (N,) asked
    moved: Floats  # (N,) by how much the model's reading of it moves
    valid: NDArray[np.bool_]  # (N,)
    named: NDArray[np.bool_]  # (N, L) asked, or moved on purpose


def answers(
    model: AffectModel, rows: Rows, space: Expression, result: SearchResult, way: str
) -> Answers:
    """All rows by one way, from what the search found."""
    with torch.enable_grad() if way == "descended" else torch.no_grad():
        images = WAYS[way](model, rows, space, result)
    output = model.read(model.to_pixels(torch.from_numpy(images)))
    margin, _ = margin_and_reach(model, output, rows)
    moved = (output.labels - rows.output.labels).gather(1, rows.column[:, None]).squeeze(1)
    named = result.move.abs() > VISIBLE
    named.scatter_(1, rows.column[:, None], True)
    return Answers(
        model.to_images(rows.x).numpy(),
        images,
        rows.column.numpy(),
        moved.double().numpy(),
        (margin > 0).numpy(),
        named.numpy(),
    )


def counts(judge: Judge, floor: Floats, edited: Answers) -> str:
    """How many AUs beside the asked a judge sees move, and whether it follows."""
    shift = read(judge, edited.images) - read(judge, edited.faces)
    size, aus, index = np.abs(shift), len(judge.card.vocabulary), np.arange(len(shift))
    questioned = np.zeros_like(edited.named)
    questioned[index, edited.column] = True
    beside = ((size > CHANGED) & ~questioned)[:, :aus].sum(1)
    above = ((size > np.maximum(CHANGED, floor)) & ~edited.named)[:, :aus].sum(1)
    right = follows(shift[index, edited.column], edited.moved)[edited.valid]
    of_au = edited.column < aus
    return (
        f"{beside.mean():.2f} ({beside[of_au].mean():.2f}, {beside[~of_au].mean():.2f}) | "
        f"{above.mean():.2f} | {right.mean():.2f}"
    )


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", type=Path, default=Path("weights"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--judge", type=Path, action="append", required=True)
    parser.add_argument("--faces", type=int, default=64)
    parser.add_argument("--way", action="append", choices=WAYS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    model = load_model(options.weights)
    judges = [Judge.load(folder) for folder in options.judge]
    rng = np.random.default_rng(11)
    faces = load_faces(Database.open(options.data), model, "test", 4 * options.faces, rng)
    images = faces.images[np.sort(rng.permutation(len(faces))[: options.faces])]
    floors = []
    for judge in judges:
        floor, several = unrest(judge, 32, model.card.image_px)
        floors.append(floor)
        print(f"{judge.card.kind}: {several:.2f} AUs move between two renders of one state")
    titles = "".join(f" {one.card.kind}: others (AU, VA) | unnamed | follows |" for one in judges)
    print(f"| way | valid | change of pixels |{titles}", flush=True)
    with torch.no_grad():
        rows = questions(model, images, rng)
        space = Expression(model)
        result = search(model, rows, space)[0]
        for name in options.way or WAYS:
            edited = answers(model, rows, space, result, name)
            size = np.abs(edited.images.astype(float) - edited.faces).mean() / 255
            cells = [counts(*pair, edited) for pair in zip(judges, floors, strict=True)]
            valid = edited.valid.mean()
            print(f"| {name} | {valid:.3f} | {size:.4f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
