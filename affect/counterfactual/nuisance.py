"""The space of what should not matter: skin, light, pose, glasses are moved along directions of the
latent code, the state stays.

A face is changed by what the generator draws differently, x + G(z + d, y) - G(z, y), so its own
detail stays where the generator sees no reason to change it. The directions are of the model's
weights (`training/evaluation/bias/nuisance_directions.py`). Shape letters: N rows, R candidates, A
nuisances (the axes, and a move), Z latent.
"""

from typing import Literal

import torch
from torch import Tensor

from affect.counterfactual.search import Cause, Rows, visible_causes
from affect.model import AffectModel

Step = Literal["one", "two", "all"]
SETS: tuple[Step, ...] = ("one", "two", "all")
VISIBLE = 0.05  # of the way: smaller moves are not reported
# a face that is nearly at an end already is moved by at least this much: its position is only an
# estimate
SMALLEST = 0.25


class Nuisance:
    """Moves are shares (R, A) of the way between the two ends of each nuisance; see
    `affect.counterfactual.search.Space`.
    """

    overdrive = 1.0  # faces beyond the ends were never learnt
    edits = 1

    def __init__(self, model: AffectModel) -> None:
        self.model = model
        self.names = model.card.nuisances

    def prepared(self, rows: Rows) -> Rows:
        """Without feature maps, which nothing needs here."""
        return rows.without_maps()

    def draw(self, rows: Rows, move: Tensor) -> Tensor:
        """(R, S, S, 3) uint8 faces after a change of the latent code."""
        z, y = rows.output.latent, rows.output.labels
        start = self.model.generate(z, y) if rows.redrawn is None else rows.redrawn
        change = self.model.generate(z + move @ self.model.nuisance_directions, y) - start
        return self.model.to_images((rows.x + change).clamp(-1, 1))

    def sketch(self, rows: Rows, move: Tensor) -> Tensor:
        """The same: no cheaper way is known."""
        return self.draw(rows, move)

    def excluded(self, rows: Rows) -> Tensor:
        """(N, A) none."""
        return torch.zeros(len(rows.x), len(self.names), dtype=torch.bool, device=rows.x.device)

    def axes(self, rows: Rows) -> Tensor:
        """(N, A, A) each nuisance alone to the end that the face is farther from."""
        far, _ = self._steps_to_ends(rows)
        return torch.diag_embed(far)

    def proposals(self, rows: Rows, gain: Tensor, excluded: Tensor, *, first: bool) -> Tensor:
        """(N, C, A) the nuisance of the largest gain to the end that helps, two of them, all that
        help.
        """
        help_, offset = self._best_ends(rows, gain)
        help_ = help_.masked_fill(excluded, -torch.inf)
        rank = help_.argsort(dim=1, descending=True).argsort(dim=1)
        count_of = {"one": 1, "two": 2, "all": help_.shape[1]}
        # At least the best one moves, even when it does not help: a failed answer shows the nearest
        # candidate.
        moves = [offset * ((rank == 0) | ((rank < count_of[step]) & (help_ > 0))) for step in SETS]
        return torch.stack(moves, dim=1)

    def leading_axes(self, rows: Rows, gain: Tensor, move: Tensor) -> Tensor:
        """(N, A) the nuisance of the largest contribution."""
        help_, _ = self._best_ends(rows, gain)
        leading = torch.where(move != 0, help_, -torch.inf).argmax(1)
        return torch.zeros_like(move, dtype=torch.bool).scatter(1, leading[:, None], True)

    def attribution(self, rows: Rows, gain: Tensor) -> list[dict[str, float]]:
        """By nuisance in the direction in which it was moved: "light: bright to dim"."""
        towards_second = (self._steps_to_ends(rows)[0] > 0).tolist()
        names_as_moved = [
            [
                name if to_second else reversed_name(name)
                for name, to_second in zip(self.names, row, strict=True)
            ]
            for row in towards_second
        ]
        return [
            {name: round(by, 4) for name, by in zip(*row, strict=True)}
            for row in zip(names_as_moved, gain.tolist(), strict=True)
        ]

    def causes(self, rows: Rows, move: Tensor) -> list[list[Cause]]:
        """Nuisances by where the face is estimated to stand between their ends, 0 and 1."""
        position = self.model.nuisance_positions(rows.output.latent)
        return visible_causes(self.names, position, position + move, VISIBLE)

    def reached(self, rows: Rows, move: Tensor, latent: Tensor) -> Tensor:
        """(N,) the share of the move (N, A) that the latent codes (N, Z) of the pictures show, 1 =
        all of it.
        """
        displacement = self.model.nuisance_positions(latent) - self.model.nuisance_positions(
            rows.output.latent
        )
        share: Tensor = (displacement * move).sum(1) / move.square().sum(1).clamp(min=1e-6)
        return share

    def _best_ends(self, rows: Rows, gain: Tensor) -> tuple[Tensor, Tensor]:
        """For each nuisance how far its better end helps (N, A), and the way there (N, A).

        One whose far end harms helps, in proportion, by moving to the near end.
        """
        far, near = self._steps_to_ends(rows)
        gain_at_near = -gain * near.abs() / far.abs()
        return torch.maximum(gain, gain_at_near), torch.where(gain >= gain_at_near, far, near)

    def _steps_to_ends(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """(N, A) from where each face is estimated to stand to the farther and to the nearer end of
        each nuisance.
        """
        position = self.model.nuisance_positions(rows.output.latent)
        to_first, to_second = -position.clamp(SMALLEST, 1), (1 - position).clamp(SMALLEST, 1)
        low = position < 0.5
        return torch.where(low, to_second, to_first), torch.where(low, to_first, to_second)


def help_of(attribution: dict[str, float], cause: Cause) -> float:
    """The gain of a moved nuisance alone; one that was moved in the other direction is taken to
    have the opposite gain.
    """
    name, start, end = cause
    other = reversed_name(name)
    as_moved, opposite = (name, other) if end > start else (other, name)
    return attribution[as_moved] if as_moved in attribution else -attribution[opposite]


def reversed_name(name: str) -> str:
    """ "light: dim to bright" the other way round: "light: bright to dim"."""
    nuisance, _, ends = name.partition(": ")
    first, _, second = ends.partition(" to ")
    return f"{nuisance}: {second} to {first}"
