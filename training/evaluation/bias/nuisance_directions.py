"""Where in the latent code skin, light, pose, glasses lie: learnt from rendered faces in two
versions that differ in nothing else.

Direction: d = mean over people of E(after) - E(before). Place: w = S^-1 d, scaled so that the
versions' means stand at 0 and 1, with S the spread of latent codes within versions, pooled over all
nuisances (Fisher's discriminant). Shape letters: N people, A nuisances, Z latent.
"""

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from affect.counterfactual.nuisance import Nuisance
from affect.counterfactual.search import Rows
from affect.model import AffectModel
from training.evaluation.bias.nuisances import NUISANCES, NuisanceChange, render_pairs
from training.evaluation.core.predictions import U8, Floats, in_batches

# of a change that the drawn faces must show: nuisances that the generator cannot draw are left out
REACHED = 1 / 3
RIDGE = 0.05  # share of the mean variance added to S
# the last is the control: another background, other noise
TAUGHT = tuple(one for one in NUISANCES if one.name != NUISANCES[-1].name)


def learn(model: AffectModel, *, people: int, seed: int) -> dict[str, float]:
    """Put the directions and places into the weights and the names into the card, of those that the
    generator can draw. A model whose latent code says nothing of a face (the seed paper's) learns
    none. Returns for every nuisance the share of it that drawn faces show.
    """
    pairs = [
        _rendered(model, nuisance, people, seed)
        for nuisance in tqdm(TAUGHT, desc="nuisances", unit="nuisance", leave=False)
    ]
    latent_pairs = [np.stack([_latents(model, images) for images in one]) for one in pairs]
    if not any(np.ptp(versions, axis=(0, 1)).any() for versions in latent_pairs):
        return {}
    directions, probes = (torch.from_numpy(rows).float() for rows in fit(latent_pairs))
    model.learn_nuisances([one.name for one in TAUGHT], directions, probes)
    reached = [_reached(model, before, axis) for axis, (before, _) in enumerate(pairs)]
    learned = [axis for axis, share in enumerate(reached) if share >= REACHED]
    model.learn_nuisances(
        [TAUGHT[axis].name for axis in learned], directions[learned], probes[learned]
    )
    return {one.name: share for one, share in zip(TAUGHT, reached, strict=True)}


def fit(latent_pairs: list[Floats]) -> tuple[Floats, Floats]:
    """Directions (A, Z) and places (A, Z + 1) from the latent codes (2, N, Z) of both versions of
    each nuisance.
    """
    inner = np.concatenate(
        [
            (versions - versions.mean(1, keepdims=True)).reshape(-1, versions.shape[2])
            for versions in latent_pairs
        ]
    )
    spread = inner.T @ inner / len(inner)
    spread += RIDGE * np.diag(spread).mean() * np.eye(len(spread))
    directions, probes = [], []
    for first, second in ((versions[0].mean(0), versions[1].mean(0)) for versions in latent_pairs):
        direction = second - first
        weights = np.linalg.solve(spread, direction)
        weights /= max(weights @ direction, 1e-9)
        directions.append(direction)
        probes.append(np.append(weights, -weights @ first))
    return np.stack(directions), np.stack(probes)


def _rendered(
    model: AffectModel, nuisance: NuisanceChange, people: int, seed: int
) -> tuple[U8, U8]:
    pairs = render_pairs(nuisance, people=people, seed=seed, size_px=model.card.image_px)
    return pairs.before, pairs.after


def _latents(model: AffectModel, images: U8) -> Floats:
    """(N, Z)"""
    return in_batches(model, lambda x: (model.read(x).latent,), images)[0]


def _reached(model: AffectModel, images: U8, axis: int) -> float:
    """How much of the way along one nuisance is found again in these faces (N, S, S, 3) drawn at
    its other end.
    """
    space = Nuisance(model)

    def one(x: Tensor) -> tuple[Tensor, ...]:
        unasked = torch.zeros(len(x), dtype=torch.long, device=x.device)
        rows = Rows.of(x, model.read(x), unasked, x.new_ones(len(x)))
        move = x.new_zeros(len(x), len(model.card.nuisances))
        move[:, axis] = 1
        return (
            space.reached(rows, move, model.read(model.to_pixels(space.draw(rows, move))).latent),
        )

    return float(in_batches(model, one, images)[0].mean())
