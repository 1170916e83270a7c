"""The search for the least change of Action Units that changes a decision.

The person and the scene stay; AUs are moved through the generator. Every row goes through the same fixed rounds, so rows
share forward passes and one hard row does not hold the others:

  move each AU alone: how does the decision answer? (K tries: the attribution)
  move the most telling together, in sets, and as real faces move (sets)
  bisect to the smallest step that still flips it; where no set flips it, push the nearest further (BISECTIONS tries)

A try is an edit, quantised to 8 bits, and read again. Shape letters: N rows, R tries, S side in px, K AUs, L = K + 2 labels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from affect.counterfactual.question import VA_TOLERANCE
from affect.labels import DIMENSIONS
from affect.model import NEIGHBOURHOOD, AffectModel, Reading, only

# How many AUs are moved together, and how hard. One AU pushed beyond what was seen keeps more of the face than two.
SETS = ((1, 1.0), (1, 1.75), (2, 1.0))
BISECTIONS = 4
OVERDRIVE = 2.0  # how much larger a move may get where none is enough
CHUNK_ROWS = 64  # largest forward pass
# A decision that is just turned turns back in slight noise: the search aims this far beyond the line.
AU_CLEARANCE = 0.8  # calibrated logits
VA_CLEARANCE = 0.07  # of VA_TOLERANCE


@dataclass
class Rows:
    """Faces with one question each. `direction` is +1 where the decision's number must grow, else -1."""

    x: Tensor  # (N, 3, S, S)
    reading: Reading
    column: Tensor  # (N,) column of the questioned label
    target: Tensor  # (N,) 1 / 0 for AUs, the value for valence and arousal
    direction: Tensor  # (N,)

    @classmethod
    def of(cls, x: Tensor, reading: Reading, column: Tensor, target: Tensor) -> "Rows":
        """Work the directions out."""
        aus = reading.logits.shape[1]
        value = reading.labels.gather(1, column[:, None]).squeeze(1)
        direction = torch.where(column < aus, 2 * (target >= 0.5).float() - 1, torch.sign(target - value))
        return cls(x, reading, column, target, direction)

    def take(self, rows: Tensor) -> "Rows":
        """Some of the rows, in this order."""
        return Rows(self.x[rows], only(self.reading, rows), self.column[rows], self.target[rows], self.direction[rows])


@dataclass
class Tries:
    """R edited faces as 8-bit pictures, and what is read off those."""

    images: Tensor  # (R, S, S, 3) uint8
    reading: Reading  # without feature maps
    margin: Tensor  # (R,) above 0 exactly when the question is met
    reach: Tensor  # (R,) how far the decision has come, 1 = met with clearance; grows even when a value overshoots


@dataclass
class Found:
    """The best try of each row."""

    best: Tries  # N of them
    move: Tensor  # (N, L) the change of state that the generator was asked for
    gain: Tensor  # (N, K) reach gained by moving each AU alone to its other end


def search(model: AffectModel, rows: Rows) -> Found:
    """Look for every row's least change, in the same rounds for all."""
    state = rows.reading.labels  # (N, L)
    index = torch.arange(len(state), device=state.device)
    _, start = progress(model, rows.reading, rows)
    gain = _sensitivity(model, rows, state) - start[:, None]
    order, ends = _rank(rows, state, gain)
    moves = [push * (_end_state(model, rows, state, order, ends, size) - state) for size, push in SETS]
    moves.append(_as_real_faces_move(model, rows, state) - state)
    stacked = torch.stack(moves, dim=1)  # (N, C, L)
    tried = attempt(model, rows, stacked.flatten(0, 1), index.repeat_interleave(len(moves)))
    reach = tried.reach.view(len(state), -1)
    # The fewest AUs that do it; if none does, the set that comes nearest.
    enough = reach >= 1
    choice = torch.where(enough.any(1), enough.float().argmax(1), reach.argmax(1))
    best = _pick(tried, index * len(moves) + choice)
    return Found(*_bisect(model, rows, stacked[index, choice], best), gain)


def edited(model: AffectModel, rows: Rows, move: Tensor) -> Tensor:
    """(N, S, S, 3) uint8 faces of the rows after a change of state (N, L), which may be larger than the labels' range."""
    state = rows.reading.labels
    aim = state + move
    aim = torch.cat([aim[:, :-2].clamp(0, 1), aim[:, -2:].clamp(-1, 1)], dim=1)
    return model.to_images(model.edit(rows.x, aim, aim - move, rows.reading))


def progress(model: AffectModel, reading: Reading, rows: Rows) -> tuple[Tensor, Tensor]:
    """Margin and reach (N,) of readings of these rows' faces; see `Tries`."""
    scale, shift, threshold = model.platt.unbind(1)
    logits = reading.logits * scale + shift - torch.logit(threshold)  # (N, K) above 0: present
    aus = logits.shape[1]
    of_au = logits.gather(1, rows.column.clamp(max=max(aus - 1, 0))[:, None]).squeeze(1) * rows.direction
    value = reading.va.gather(1, (rows.column - aus).clamp(min=0)[:, None]).squeeze(1)
    come = rows.direction * (value - rows.target) + VA_TOLERANCE
    is_au = rows.column < aus
    margin = torch.where(is_au, of_au, VA_TOLERANCE - (value - rows.target).abs())
    return margin, torch.where(is_au, of_au / AU_CLEARANCE, come / VA_CLEARANCE)


def attempt(model: AffectModel, rows: Rows, move: Tensor, source: Tensor) -> Tries:
    """Edit the faces of rows `source` (R,) by moves (R, L); quantise; read."""
    images, readings, margins, reaches = [], [], [], []
    for start in range(0, len(move), CHUNK_ROWS):
        chunk = slice(start, start + CHUNK_ROWS)
        part = rows.take(source[chunk])
        image = edited(model, part, move[chunk])
        reading = model.read(model.to_pixels(image))
        margin, reach = progress(model, reading, part)
        images.append(image)
        readings.append(reading)
        margins.append(margin)
        reaches.append(reach)
    return Tries(torch.cat(images), _joined(readings), torch.cat(margins), torch.cat(reaches))


def _sensitivity(model: AffectModel, rows: Rows, state: Tensor) -> Tensor:
    """(N, K) reach after each AU alone has gone all the way to its far end."""
    count, aus = len(state), state.shape[1] - 2
    if not bool(model.known[0]):
        return progress(model, rows.reading, rows)[1][:, None].expand(count, aus)
    moved = state[:, None].repeat(1, aus, 1)  # (N, K, L)
    diagonal = torch.arange(aus, device=state.device)
    moved[:, diagonal, diagonal] = _far_end(state)
    moved = _with_va(model, state.repeat_interleave(aus, 0), moved.flatten(0, 1))
    source = torch.arange(count, device=state.device).repeat_interleave(aus)
    return attempt(model, rows, moved - state.repeat_interleave(aus, 0), source).reach.view(count, aus)


def _far_end(state: Tensor) -> Tensor:
    return (state[:, :-2] < 0.5).to(state.dtype)


def _rank(rows: Rows, state: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
    """AUs from the most telling on (N, K), an AU that is itself questioned first, and to which end each helps (N, K).

    An AU whose move to the far end harms helps, in proportion, by moving to the near end.
    """
    aus, far = state[:, :-2], _far_end(state)
    back = -gain * (aus - (1 - far)).abs() / (aus - far).abs().clamp(min=0.5)
    ends, worth = torch.where(gain >= back, far, 1 - far), torch.maximum(gain, back)
    ends = torch.where(worth > 0, ends, aus)  # an AU that cannot help stays
    own = (rows.column < aus.shape[1]).nonzero().squeeze(1)
    worth[own, rows.column[own]] = torch.inf
    ends[own, rows.column[own]] = rows.target[own]
    return worth.argsort(dim=1, descending=True), ends


def _end_state(model: AffectModel, rows: Rows, state: Tensor, order: Tensor, ends: Tensor, size: int) -> Tensor:
    """(N, L) the state with the first `size` AUs at the ends that help, valence and arousal following."""
    first = order[:, :size]
    end = state.clone()
    if bool(model.known[0]):
        end.scatter_(1, first, ends.gather(1, first))
    return _to_target(rows, _with_va(model, state, end))


def _as_real_faces_move(model: AffectModel, rows: Rows, state: Tensor) -> Tensor:
    """(N, L) the state of real faces that meet the question, as near to this one as there are (kernel regression)."""
    table = _table(model)
    if not len(table):
        return _to_target(rows, state)
    # What is asked counts as much as everything else together: rows that meet the question, and among them the nearest.
    weight = torch.full_like(state, 1 / state.shape[1]) * model.known
    weight.scatter_(1, rows.column[:, None], 1.0)
    wish = _to_target(rows, state)
    distance = (weight[:, None] * (wish[:, None] - table.nan_to_num()[None]) ** 2).sum(2)  # (N, M)
    end = torch.softmax(-distance / (2 * NEIGHBOURHOOD**2), dim=1) @ table.nan_to_num()
    return _to_target(rows, torch.where(model.known, end, state))


def _to_target(rows: Rows, state: Tensor) -> Tensor:
    """(N, L) the states with the questioned label where the question wants it."""
    return state.scatter(1, rows.column[:, None], rows.target[:, None])


def _table(model: AffectModel) -> Tensor:
    """(M, L) label rows of real faces, without the empty ones."""
    return model.label_table[~torch.isnan(model.label_table[:, model.known]).any(1)]


def _with_va(model: AffectModel, start: Tensor, end: Tensor) -> Tensor:
    """`end` (R, L) with valence and arousal moved as real faces' move with those AUs (kernel regression on the label table)."""
    table = _table(model)
    if not len(table) or not bool(model.known.all()):
        return end

    def expected(aus: Tensor) -> Tensor:
        distance = torch.cdist(aus, table[:, :-2]) ** 2
        return torch.softmax(-distance / (2 * (2 * NEIGHBOURHOOD) ** 2), dim=1) @ table[:, -len(DIMENSIONS) :]

    moved = start[:, -2:] + expected(end[:, :-2]) - expected(start[:, :-2])
    return torch.cat([end[:, :-2], moved.clamp(-1, 1)], dim=1)


def _bisect(model: AffectModel, rows: Rows, move: Tensor, best: Tries) -> tuple[Tries, Tensor]:
    """The smallest share of `move` (N, L) that is enough, else the best of pushing further; and that move. `best` is its try."""
    index = torch.arange(len(move), device=move.device)
    within = best.reach >= 1
    low, high = torch.where(within, 0.0, 1.0), torch.where(within, 1.0, OVERDRIVE)
    share = torch.ones_like(low)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        tried = attempt(model, rows, middle[:, None] * move, index)
        enough = tried.reach >= 1
        high, low = torch.where(enough, middle, high), torch.where(enough, low, middle)
        better = _better(tried, best)
        best, share = _merge(better, tried, best), torch.where(better, middle, share)
    return best, share[:, None] * move


def _better(new: Tries, old: Tries) -> Tensor:
    """(N,) a smaller step that is enough beats a larger one; otherwise what comes nearer to the target does."""
    met = (new.margin > 0) & (new.reach >= 1)
    old_met = (old.margin > 0) & (old.reach >= 1)
    return met | (~old_met & (new.margin > old.margin))


def _joined(readings: list[Reading]) -> Reading:
    def column(name: str) -> Tensor:
        return torch.cat([getattr(reading, name) for reading in readings])

    return Reading(
        logits=column("logits"),
        va=column("va"),
        latent=column("latent"),
        identity=column("identity"),
        critic=column("critic"),
        features=column("features"),
        maps=(),
    )


def _pick(tries: Tries, rows: Tensor) -> Tries:
    return Tries(tries.images[rows], only(tries.reading, rows), tries.margin[rows], tries.reach[rows])


def _merge(chosen: Tensor, new: Tries, old: Tries) -> Tries:
    """Row by row the new try where `chosen` (N,), else the old one."""
    count = len(chosen)
    rows = torch.where(chosen, torch.arange(count, device=chosen.device), torch.arange(count, 2 * count, device=chosen.device))
    both = Tries(
        torch.cat([new.images, old.images]),
        _joined([new.reading, old.reading]),
        torch.cat([new.margin, old.margin]),
        torch.cat([new.reach, old.reach]),
    )
    return _pick(both, rows)
