"""The space of expressions: Action Units are moved through the generator, the person and the scene
stay.

Valence and arousal follow the AUs as they do on real faces. Shape letters: N rows, R candidates, K
AUs (the axes), L = K + 2 labels (a move).
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from affect.counterfactual.composition import Palette, compose
from affect.counterfactual.rule import PART
from affect.counterfactual.search import Cause, Rows, visible_causes
from affect.labels import DIMENSIONS
from affect.model import NEIGHBOURHOOD, AffectModel
from affect.precision import mixed

# How many AUs are moved together, and how hard. One AU pushed beyond the training range preserves
# more of the face than two.
SETS = ((1, 1.0), (1, 1.75), (2, 1.0))
VISIBLE = 0.05  # of an intensity: what is asked to move by less is not reported


class Expression:
    """Moves are changes of state (R, L); see `affect.counterfactual.search.Space`."""

    overdrive = 2.0
    edits = 2

    def __init__(self, model: AffectModel) -> None:
        self.model = model
        self.knows_aus = bool(model.known[0])
        # (K, 2) what each AU adds to valence and arousal by the rule that was learnt from; NaN
        # where there is none
        no_rule = (float("nan"), float("nan"))
        rule = [model.card.rule_weights.get(code, no_rule) for code in model.card.vocabulary]
        self.rule = torch.tensor(rule, device=model.platt.device).reshape(-1, 2)
        # (T, L) states of real faces
        self.table = model.label_table[~torch.isnan(model.label_table[:, model.known]).any(1)]

    def prepared(self, rows: Rows) -> Rows:
        """With what the decoder makes of the faces' maps (see `draw` for its precision)."""
        with mixed(rows.x.device.type):
            additions = tuple(self.model.additions(rows.output))
        rows = rows.without_maps()
        return replace(rows, additions=additions, palette=Palette.of(rows.x))

    def sketch(self, rows: Rows, move: Tensor) -> Tensor:
        """(R, S, S, 3) uint8 faces after a change of state, as the decoder adds it."""
        with mixed(rows.x.device.type):
            return self.model.to_images(self._edited(rows, move)[0])

    def draw(self, rows: Rows, move: Tensor) -> Tensor:
        """(R, S, S, 3) uint8 faces after a change of state, composed (composition.py)."""
        with mixed(rows.x.device.type):
            edited, aim = self._edited(rows, move)
            drawn = self.model.generate(rows.output.latent, aim)
        palette = rows.palette or Palette.of(rows.x)
        return self.model.to_images(compose(rows.x, edited.float(), drawn.float(), palette))

    def _edited(self, rows: Rows, move: Tensor) -> tuple[Tensor, Tensor]:
        """The faces (R, 3, S, S) after a change of state, and the state (R, L) that is asked for.

        Under bfloat16, which moves pixels by 2 of 255 at most, .02 in the mean, for half the time.
        """
        aim = rows.output.labels + move
        aim = torch.cat([aim[:, :-2].clamp(0, 1), aim[:, -2:].clamp(-1, 1)], dim=1)
        additions = rows.additions or None
        return self.model.edit(rows.x, aim, aim - move, rows.output, additions), aim

    def excluded(self, rows: Rows) -> Tensor:
        """(N, K) the AUs that have no part in the questioned valence or arousal: moving them would
        change the reading without the meaning, as when eyes close to look happier.
        """
        if not self.knows_aus:
            return torch.zeros(len(rows.x), 0, dtype=torch.bool, device=rows.x.device)
        return self._rule_of(rows).abs() < PART

    def _rule_of(self, rows: Rows) -> Tensor:
        """(N, K) what each AU adds to the questioned dimension, in the direction of the question;
        NaN for questions about AUs, and where no rule is known.
        """
        aus = rows.output.logits.shape[1]
        weights = self.rule.T[(rows.column - aus).clamp(min=0)] * rows.direction[:, None]
        return weights.masked_fill((rows.column < aus)[:, None], torch.nan)

    def axes(self, rows: Rows) -> Tensor:
        """(N, K, L) each AU alone to its far end; none in a run that does not know AUs."""
        state = rows.output.labels
        count, aus = len(state), state.shape[1] - 2
        if not self.knows_aus:
            return state.new_zeros(count, 0, state.shape[1])
        moved_states = state[:, None].repeat(1, aus, 1)
        diagonal = torch.arange(aus, device=state.device)
        moved_states[:, diagonal, diagonal] = _far_end(state[:, :-2])
        ends = self._with_va(state.repeat_interleave(aus, 0), moved_states.flatten(0, 1))
        return ends.view_as(moved_states) - state[:, None]

    def proposals(self, rows: Rows, gain: Tensor, excluded: Tensor, *, first: bool) -> Tensor:
        """(N, C, L) the AUs of the largest gain in the sizes of SETS, then the move of real faces.

        A questioned AU moves alone in the first answer only.
        """
        state = rows.output.labels
        if not self.knows_aus:
            return (_to_target(rows, state) - state)[:, None]
        order, ends = _rank(rows, state, gain, excluded, self._rule_of(rows))
        extra = torch.zeros_like(rows.column) if first else (rows.column < gain.shape[1]).long()
        moves = [
            push * (self._end_state(rows, state, order, ends, size + extra) - state)
            for size, push in SETS
        ]
        moves.append(self._as_real_faces_move(rows, state, excluded) - state)
        return torch.stack(moves, dim=1)

    def leading_axes(self, rows: Rows, gain: Tensor, move: Tensor) -> Tensor:
        """(N, K) the AU of the largest contribution, a questioned AU itself left out."""
        if not self.knows_aus:
            return torch.zeros_like(gain, dtype=torch.bool)
        aus = rows.output.labels[:, :-2]
        # (N, K) of the way to the far end; behind it, the near end
        share = (move[:, :-2] / (_far_end(aus) - aus)).clamp(min=-1)
        questioned = torch.arange(aus.shape[1], device=aus.device)[None] == rows.column[:, None]
        contribution = (share * gain).masked_fill(questioned, -torch.inf)
        leading: Tensor = (
            F.one_hot(contribution.argmax(1), aus.shape[1]).bool()
            & (contribution.amax(1) > 0)[:, None]
        )
        return leading

    def attribution(self, rows: Rows, gain: Tensor) -> list[dict[str, float]]:
        """By AU, in a run that knows them."""
        codes = self.model.card.vocabulary if self.knows_aus else ()
        return [
            {code: round(by, 4) for code, by in zip(codes, row, strict=True)}
            for row in gain.tolist()
        ]

    def causes(self, rows: Rows, move: Tensor) -> list[list[Cause]]:
        """AUs by the intensity that the generator was asked for."""
        aus = move.shape[1] - 2
        start = rows.output.labels[:, :aus]
        return visible_causes(
            self.model.card.vocabulary if self.knows_aus else (),
            start,
            (start + move[:, :aus]).clamp(0, 1),
            VISIBLE,
        )

    def _end_state(
        self, rows: Rows, state: Tensor, order: Tensor, ends: Tensor, size: Tensor
    ) -> Tensor:
        """(N, L) the state with the first `size` (N,) AUs at the ends that help, valence and
        arousal following.
        """
        rank = order.argsort(dim=1)
        end = torch.cat(
            [torch.where(rank < size[:, None], ends, state[:, :-2]), state[:, -2:]], dim=1
        )
        return _to_target(rows, self._with_va(state, end))

    def _as_real_faces_move(self, rows: Rows, state: Tensor, excluded: Tensor) -> Tensor:
        """(N, L) the state of real faces that meet the question, as near to this one as there are
        (kernel regression).
        """
        if not len(self.table):
            return _to_target(rows, state)
        # The questioned label weighs as much as all others together: rows that meet the question,
        # and among them the nearest.
        weight = torch.full_like(state, 1 / state.shape[1]) * self.model.known
        weight.scatter_(1, rows.column[:, None], 1.0)
        goal = _to_target(rows, state)
        # (N, T)
        distance = (weight[:, None] * (goal[:, None] - self.table.nan_to_num()[None]) ** 2).sum(2)
        end = torch.softmax(-distance / (2 * NEIGHBOURHOOD**2), dim=1) @ self.table.nan_to_num()
        fixed = torch.cat([excluded, torch.zeros_like(excluded[:, :2])], dim=1) | ~self.model.known
        return _to_target(rows, torch.where(fixed, state, end))

    def _with_va(self, start: Tensor, end: Tensor) -> Tensor:
        """`end` (R, L) with valence and arousal moved as real faces' move with those AUs (kernel
        regression on the label table).
        """
        if not len(self.table) or not bool(self.model.known.all()):
            return end

        def expected(aus: Tensor) -> Tensor:
            distance = torch.cdist(aus, self.table[:, :-2]) ** 2
            return (
                torch.softmax(-distance / (2 * (2 * NEIGHBOURHOOD) ** 2), dim=1)
                @ self.table[:, -len(DIMENSIONS) :]
            )

        va = start[:, -2:] + expected(end[:, :-2]) - expected(start[:, :-2])
        return torch.cat([end[:, :-2], va.clamp(-1, 1)], dim=1)


def _far_end(aus: Tensor) -> Tensor:
    """(N, K) the end that each intensity (N, K) is farther from."""
    return (aus < 0.5).to(aus.dtype)


def _rank(
    rows: Rows, state: Tensor, gain: Tensor, excluded: Tensor, rule: Tensor
) -> tuple[Tensor, Tensor]:
    """AUs by falling gain (N, K), a questioned AU first, and the end to which each must move to
    help (N, K).

    An AU whose move to the far end harms helps, in proportion, by moving to the near end. Where a
    `rule` (N, K) is known, an AU moves its way only.
    """
    aus, far = state[:, :-2], _far_end(state[:, :-2])
    gain_at_near = -gain * (aus - (1 - far)).abs() / (aus - far).abs().clamp(min=0.5)
    to_far = torch.where(rule.isnan(), gain >= gain_at_near, (rule > 0) == (far > 0.5))
    ends = torch.where(to_far, far, 1 - far)
    worth = torch.where(to_far, gain, gain_at_near).masked_fill(excluded, -torch.inf)
    ends = torch.where(worth > 0, ends, aus)  # an AU that cannot help, or is excluded, stays
    rows_of_aus = (rows.column < aus.shape[1]).nonzero().squeeze(1)
    worth[rows_of_aus, rows.column[rows_of_aus]] = torch.inf
    ends[rows_of_aus, rows.column[rows_of_aus]] = rows.target[rows_of_aus]
    return worth.argsort(dim=1, descending=True), ends


def _to_target(rows: Rows, end: Tensor) -> Tensor:
    """(N, L) the states with the questioned label at its target."""
    return end.scatter(1, rows.column[:, None], rows.target[:, None])
