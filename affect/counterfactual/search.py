"""The search for the least change that changes a decision.

What may be changed is a space: the expression (expression.py), or what should not matter
(nuisance.py). Every row goes through the same fixed rounds, so rows share forward passes and one
hard row does not hold the others:

1. move along each axis alone and measure the gain (P candidates, sketched: the attribution);
2. move the axes of the largest gain together, in the sets that the space proposes (C candidates;
   only the first where that is enough);
3. bisect to the smallest step that still flips the decision; where no set flips it, extrapolate the
   nearest (BISECTIONS candidates).

Where that is not enough, the same rounds are repeated once from the nearest candidate. Another
answer to the same question repeats the last two rounds without the leading axes of the answers
before it, so answers differ in their cause. A candidate is an edit, quantised to 8 bits, whose
state is read again. Shape letters: N rows, R candidates, S side in px, K AUs, P axes, C proposals,
M length of a move.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from affect.counterfactual.composition import Palette
from affect.counterfactual.question import VA_TOLERANCE
from affect.model import AffectModel, ModelOutput
from affect.precision import mixed
from affect.reading_network import ReadingOutput
from affect.rows import join_rows, take_rows

Cause = tuple[str, float, float]  # what was moved, from, to

BISECTIONS = 4
# Largest forward pass: on a processor, more rows no longer fit into its cache.
CHUNK_ROWS = {"cpu": 16, "cuda": 64}
# A decision that is only just flipped flips back under slight noise, and no other network sees the
# change: the search aims this far beyond the threshold. At 0.8 a judge agreed with .82 of the
# answers, at 2 with .92, for a change of pixels that is hardly larger (LOG).
AU_CLEARANCE = 2.0  # calibrated logits
VA_CLEARANCE = 0.07  # of VA_TOLERANCE


@dataclass
class Rows:
    """Faces with one question each.

    `direction` is +1 where the decision's number must grow, else -1.
    """

    x: Tensor  # (N, 3, S, S)
    output: ModelOutput
    column: Tensor  # (N,) column of the questioned label
    target: Tensor  # (N,) 1 / 0 for AUs, the value for valence and arousal
    direction: Tensor  # (N,)
    # (N, 3, S, S) the faces as the generator alone draws them, where it is known already
    redrawn: Tensor | None = None
    additions: tuple[Tensor, ...] = ()  # see `Space.prepared`, as the next
    palette: Palette | None = None

    def without_maps(self) -> "Rows":
        """The same rows without feature maps, which are large."""
        return replace(self, output=replace(self.output, maps=()))

    @classmethod
    def of(cls, x: Tensor, output: ModelOutput, column: Tensor, target: Tensor) -> "Rows":
        """The rows with their directions."""
        aus = output.logits.shape[1]
        value = output.labels.gather(1, column[:, None]).squeeze(1)
        direction = torch.where(
            column < aus, 2 * (target >= 0.5).float() - 1, torch.sign(target - value)
        )
        return cls(x, output, column, target, direction)


@dataclass
class Candidates:
    """R edited faces as 8-bit pictures, and how near each comes."""

    images: Tensor  # (R, S, S, 3) uint8
    margin: Tensor  # (R,) above 0 exactly when the question is met
    # (R,) progress towards the target, 1 = met with clearance; grows even when a value overshoots
    reach: Tensor


@dataclass
class SearchResult:
    """The best candidate of each row."""

    best: Candidates  # N of them
    output: ModelOutput  # what is read off those, without feature maps
    move: Tensor  # (N, M) the change that the generator was asked for
    gain: Tensor  # (N, P) reach gained by moving along each axis alone


class Space(Protocol):
    """What a search may change: moves are vectors (R, M), one for each row."""

    @property
    def overdrive(self) -> float:
        """How much larger than proposed a move may get where none is enough."""

    @property
    def edits(self) -> int:
        """How many edits, one after the other, an answer may take where one is not enough."""

    def prepared(self, rows: Rows) -> Rows:
        """The rows with what all their candidates have in common, in place of feature maps."""

    def draw(self, rows: Rows, move: Tensor) -> Tensor:
        """(R, S, S, 3) uint8 faces of R rows after their moves, which may be larger than what was
        ever seen.
        """

    def sketch(self, rows: Rows, move: Tensor) -> Tensor:
        """The same in less time and less well drawn: to compare axes by, never to show."""

    def excluded(self, rows: Rows) -> Tensor:
        """(N, P) bool: axes that no answer may go along."""

    def axes(self, rows: Rows) -> Tensor:
        """(N, P, M) the move along each axis alone, all the way to its end; P may be 0."""

    def proposals(self, rows: Rows, gain: Tensor, excluded: Tensor, *, first: bool) -> Tensor:
        """(N, C, M) candidate moves, the simplest first, without `excluded` (N, P) bool; only the
        `first` answer may move the questioned AU alone.
        """

    def leading_axes(self, rows: Rows, gain: Tensor, move: Tensor) -> Tensor:
        """(N, P) bool: the axes that made an answer, which the next answer must not use."""

    def attribution(self, rows: Rows, gain: Tensor) -> list[dict[str, float]]:
        """For each row the reach gained (N, P) along each axis, by name."""

    def causes(self, rows: Rows, move: Tensor) -> list[list[Cause]]:
        """For each row what a move (N, M) moves visibly, the largest first."""


def visible_causes(
    names: Sequence[str], start: Tensor, end: Tensor, visible: float
) -> list[list[Cause]]:
    """For each row of (N, A) values before and after those that move by more than `visible`, the
    largest first.
    """
    moves = (
        [zip(names, *pair, strict=True) for pair in zip(start.tolist(), end.tolist(), strict=True)]
        if names
        else [() for _ in start]
    )
    visible_moves = [
        [(name, round(a, 4), round(b, 4)) for name, a, b in row if abs(b - a) > visible]
        for row in moves
    ]
    return [sorted(row, key=lambda cause: -abs(cause[2] - cause[1])) for row in visible_moves]


def search(model: AffectModel, rows: Rows, space: Space, *, answers: int = 1) -> list[SearchResult]:
    """Every row's least change, then `answers` - 1 others, each without the leading axes of those
    before. All rows share the same rounds.
    """
    gain = _gain(model, rows, space)
    excluded, results = space.excluded(rows), list[SearchResult]()
    for number in range(answers):
        limits = _Limits(excluded, first=number == 0)
        one = _search_once(model, rows, space, gain, limits)
        for _ in range(space.edits - 1):
            one = _search_again(model, rows, space, one, limits)
        results.append(one)
        excluded = excluded | space.leading_axes(rows, gain, one.move)
    return results


class _Limits(NamedTuple):
    """What an answer may not do: see `Space.proposals`."""

    excluded: Tensor  # (N, P) bool
    first: bool


def _search_once(
    model: AffectModel, rows: Rows, space: Space, gain: Tensor, limits: _Limits
) -> SearchResult:
    """Every row's least change by one edit."""
    proposals = space.proposals(rows, gain, limits.excluded, first=limits.first)
    best, move = _smallest_move(model, rows, space, proposals)
    output = replace(model.read(model.to_pixels(best.images)), maps=())
    return SearchResult(
        Candidates(best.images, *margin_and_reach(model, output, rows)), output, move, gain
    )


def _search_again(
    model: AffectModel, rows: Rows, space: Space, result: SearchResult, limits: _Limits
) -> SearchResult:
    """Rows whose question is not met yet are searched again from the nearest candidate: a second
    edit of a photograph reaches further than one (LOG). The result replaces the first where it is
    nearer.
    """
    unmet = (result.best.margin <= 0).nonzero().squeeze(1)
    if not len(unmet):
        return result
    nearest = model.to_pixels(result.best.images[unmet])
    start = Rows.of(nearest, model.read(nearest), rows.column[unmet], rows.target[unmet])
    start = space.prepared(start)
    gain = _gain(model, start, space)
    limits = limits._replace(excluded=limits.excluded[unmet])
    retried = _search_once(model, start, space, gain, limits)
    retried = replace(retried, move=result.move[unmet] + retried.move, gain=result.gain[unmet])
    nearer = retried.best.margin > result.best.margin[unmet]
    index = torch.arange(len(result.move), device=result.move.device)
    index[unmet[nearer]] = len(index) + nearer.nonzero().squeeze(1)
    return take_rows(join_rows([result, retried], torch.cat), index)


def margin_and_reach(
    model: AffectModel, output: ModelOutput | ReadingOutput, rows: Rows
) -> tuple[Tensor, Tensor]:
    """Margin and reach (N,) of readings of these rows' faces; see `Candidates`."""
    scale, shift, threshold = model.platt.unbind(1)
    logits = output.logits * scale + shift - torch.logit(threshold)  # (N, K) above 0: present
    aus = logits.shape[1]
    of_au = (
        logits.gather(1, rows.column.clamp(max=max(aus - 1, 0))[:, None]).squeeze(1)
        * rows.direction
    )
    value = output.va.gather(1, (rows.column - aus).clamp(min=0)[:, None]).squeeze(1)
    signed_distance = rows.direction * (value - rows.target) + VA_TOLERANCE
    is_au = rows.column < aus
    margin = torch.where(is_au, of_au, VA_TOLERANCE - (value - rows.target).abs())
    return margin, torch.where(is_au, of_au / AU_CLEARANCE, signed_distance / VA_CLEARANCE)


def edit_and_read(
    model: AffectModel,
    rows: Rows,
    move: Tensor,
    source: Tensor,
    draw: Callable[[Rows, Tensor], Tensor],
) -> Candidates:
    """Edit the faces of rows `source` (R,) by moves (R, M) with a space's `draw` or `sketch`;
    quantise; read the state, nothing else.
    """
    parts, device = [], rows.x.device.type
    rows_at_once = CHUNK_ROWS.get(device, CHUNK_ROWS["cuda"])
    for start in range(0, len(move), rows_at_once):
        chunk = slice(start, start + rows_at_once)
        part = take_rows(rows, source[chunk])
        images = draw(part, move[chunk])
        with mixed(device):  # the result is read again in full precision
            output = model.read_state(model.to_pixels(images))
        parts.append(Candidates(images, *margin_and_reach(model, output, part)))
    return join_rows(parts, torch.cat)


def _gain(model: AffectModel, rows: Rows, space: Space) -> Tensor:
    """(N, P) reach gained by moving along each axis alone."""
    axes = space.axes(rows)
    count, several, _ = axes.shape
    if not several:
        return axes.new_zeros(count, 0)
    source = torch.arange(count, device=axes.device).repeat_interleave(several)
    sketched = edit_and_read(model, rows, axes.flatten(0, 1), source, space.sketch)
    reach = sketched.reach.view(count, several)
    return reach - margin_and_reach(model, rows.output, rows)[1][:, None]


def _smallest_move(
    model: AffectModel, rows: Rows, space: Space, moves: Tensor
) -> tuple[Candidates, Tensor]:
    """The simplest of the proposals (N, C, M) that is enough, else the nearest; scaled as small or
    as large as needed. Where the first is enough the others are not drawn.
    """
    index = torch.arange(len(moves), device=moves.device)
    best, move = edit_and_read(model, rows, moves[:, 0], index, space.draw), moves[:, 0]
    unmet = (best.reach < 1).nonzero().squeeze(1)
    if len(unmet) and moves.shape[1] > 1:
        first = take_rows(best, unmet)
        chosen, choice = _simplest(model, rows, space, moves[unmet], (unmet, first))
        place = index.scatter(0, unmet, len(index) + torch.arange(len(unmet), device=index.device))
        best = take_rows(join_rows([best, chosen], torch.cat), place)
        move = torch.cat([move, moves[unmet, choice]])[place]
    return _bisect(model, rows, space, move, best)


def _simplest(
    model: AffectModel,
    rows: Rows,
    space: Space,
    moves: Tensor,
    first: tuple[Tensor, Candidates],
) -> tuple[Candidates, Tensor]:
    """The simplest of the moves (U, C, M) that is enough, else the nearest, and which (U,). `first`
    are the rows that they belong to (U,) and the candidates of their first moves.
    """
    (source, tried), others = first, moves.shape[1] - 1
    untried = moves[:, 1:].flatten(0, 1)
    more = edit_and_read(model, rows, untried, source.repeat_interleave(others), space.draw)
    reach = torch.cat([tried.reach[:, None], more.reach.view(-1, others)], dim=1)
    enough = reach >= 1
    choice = torch.where(enough.any(1), enough.float().argmax(1), reach.argmax(1))
    index = torch.arange(len(moves), device=moves.device)
    place = torch.where(choice > 0, len(index) + index * others + choice - 1, index)
    return take_rows(join_rows([tried, more], torch.cat), place), choice


def _bisect(
    model: AffectModel, rows: Rows, space: Space, move: Tensor, best: Candidates
) -> tuple[Candidates, Tensor]:
    """The smallest share of `move` (N, M) that is enough, else the best extrapolation; and that
    move. `best` is the candidate of the full move.
    """
    index = torch.arange(len(move), device=move.device)
    within = best.reach >= 1
    low, high = torch.where(within, 0.0, 1.0), torch.where(within, 1.0, space.overdrive)
    share = torch.ones_like(low)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        candidates = edit_and_read(model, rows, middle[:, None] * move, index, space.draw)
        enough = candidates.reach >= 1
        high, low = torch.where(enough, middle, high), torch.where(enough, low, middle)
        better = _better(candidates, best)
        best, share = _merge(better, candidates, best), torch.where(better, middle, share)
    return best, share[:, None] * move


def _better(new: Candidates, old: Candidates) -> Tensor:
    """(N,) a smaller step that is enough beats a larger one; otherwise what comes nearer to the
    target does.
    """
    satisfied = (new.margin > 0) & (new.reach >= 1)
    old_satisfied = (old.margin > 0) & (old.reach >= 1)
    return satisfied | (~old_satisfied & (new.margin > old.margin))


def _merge(chosen: Tensor, new: Candidates, old: Candidates) -> Candidates:
    """Row by row the new candidate where `chosen` (N,), else the old one."""
    index = torch.arange(len(chosen), device=chosen.device)
    both = join_rows([new, old], torch.cat)
    return take_rows(both, torch.where(chosen, index, index + len(chosen)))
