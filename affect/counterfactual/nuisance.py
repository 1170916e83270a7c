"""The space of what should not matter: skin, light, pose, glasses are moved along directions of the
latent code, the state stays.

A face is changed by what the generator draws differently, x + G(z + d, y) - G(z, y), so its own
detail stays where the generator sees no reason to change it. The directions are of the model's
weights (`training/evaluation/bias/nuisance_directions.py`). Shape letters: N rows, R tries, A
nuisances (the axes, and a move), Z latent.
"""

from typing import Literal

import torch
from torch import Tensor

from affect.counterfactual.search import Cause, Rows, visible_causes
from affect.model import AffectModel

Step = Literal["one", "two", "all"]
SETS: tuple[Step, ...] = ("one", "two", "all")
VISIBLE = 0.05  # of the way: what is asked to move by less is not reported
# a face that is nearly at an end already is asked for this much more of it: where it stands is only
# estimated
SMALLEST = 0.25


class Nuisance:
    """Moves are shares (R, A) of the way between the two ends of each nuisance; see
    `affect.counterfactual.search.Space`.
    """

    overdrive = 1.0  # beyond their ends are no faces
    edits = 1

    def __init__(self, model: AffectModel) -> None:
        self.model = model
        self.names = model.card.nuisances

    def draw(self, rows: Rows, move: Tensor) -> Tensor:
        """(R, S, S, 3) uint8 faces after a change of the latent code."""
        z, y = rows.output.latent, rows.output.labels
        start = self.model.generate(z, y) if rows.redrawn is None else rows.redrawn
        change = self.model.generate(z + move @ self.model.nuisance_directions, y) - start
        return self.model.to_images((rows.x + change).clamp(-1, 1))

    def barred(self, rows: Rows) -> Tensor:
        """(N, A) none."""
        return torch.zeros(len(rows.x), len(self.names), dtype=torch.bool, device=rows.x.device)

    def axes(self, rows: Rows) -> Tensor:
        """(N, A, A) each nuisance alone to the end that the face is farther from."""
        far, _ = self._ways(rows)
        return torch.diag_embed(far)

    def proposals(self, rows: Rows, gain: Tensor, barred: Tensor, *, first: bool) -> Tensor:
        """(N, C, A) the most telling nuisance to the end that helps, two of them, all that help."""
        help_, way = self._best_ends(rows, gain)
        help_ = help_.masked_fill(barred, -torch.inf)
        rank = help_.argsort(dim=1, descending=True).argsort(dim=1)
        most = {"one": 1, "two": 2, "all": help_.shape[1]}
        # At least the best one moves, even when it does not help: an honest failure shows the
        # nearest try.
        moves = [way * ((rank == 0) | ((rank < most[step]) & (help_ > 0))) for step in SETS]
        return torch.stack(moves, dim=1)

    def leading_axes(self, rows: Rows, gain: Tensor, move: Tensor) -> Tensor:
        """(N, A) the nuisance that did most of it."""
        help_, _ = self._best_ends(rows, gain)
        leader = torch.where(move != 0, help_, -torch.inf).argmax(1)
        return torch.zeros_like(move, dtype=torch.bool).scatter(1, leader[:, None], True)

    def attribution(self, rows: Rows, gain: Tensor) -> list[dict[str, float]]:
        """By nuisance in the direction in which it was tried: "light: bright to dim"."""
        up = (self._ways(rows)[0] > 0).tolist()
        named = [
            [
                name if to_second else turned(name)
                for name, to_second in zip(self.names, row, strict=True)
            ]
            for row in up
        ]
        return [
            {name: round(by, 4) for name, by in zip(*row, strict=True)}
            for row in zip(named, gain.tolist(), strict=True)
        ]

    def causes(self, rows: Rows, move: Tensor) -> list[list[Cause]]:
        """Nuisances by where the face is estimated to stand between their ends, 0 and 1."""
        place = self.model.nuisance_positions(rows.output.latent)
        return visible_causes(self.names, place, place + move, VISIBLE)

    def reached(self, rows: Rows, move: Tensor, latent: Tensor) -> Tensor:
        """(N,) how much of the move (N, A) is found again in the latent codes (N, Z) of the
        pictures, 1 = all of it.
        """
        came = self.model.nuisance_positions(latent) - self.model.nuisance_positions(
            rows.output.latent
        )
        share: Tensor = (came * move).sum(1) / move.square().sum(1).clamp(min=1e-6)
        return share

    def _best_ends(self, rows: Rows, gain: Tensor) -> tuple[Tensor, Tensor]:
        """For each nuisance how far its better end helps (N, A), and the way there (N, A).

        One whose far end harms helps, in proportion, by moving to the near end.
        """
        far, near = self._ways(rows)
        back = -gain * near.abs() / far.abs()
        return torch.maximum(gain, back), torch.where(gain >= back, far, near)

    def _ways(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """(N, A) from where each face is estimated to stand to the farther and to the nearer end of
        each nuisance.
        """
        place = self.model.nuisance_positions(rows.output.latent)
        to_first, to_second = -place.clamp(SMALLEST, 1), (1 - place).clamp(SMALLEST, 1)
        low = place < 0.5
        return torch.where(low, to_second, to_first), torch.where(low, to_first, to_second)


def help_of(attribution: dict[str, float], cause: Cause) -> float:
    """How far a nuisance that was moved helps by itself; one that was tried the other way round is
    taken to do the opposite.
    """
    name, start, end = cause
    towards, away = (name, turned(name)) if end > start else (turned(name), name)
    return attribution[towards] if towards in attribution else -attribution[away]


def turned(name: str) -> str:
    """ "light: dim to bright" the other way round: "light: bright to dim"."""
    what, _, ends = name.partition(": ")
    first, _, second = ends.partition(" to ")
    return f"{what}: {second} to {first}"
