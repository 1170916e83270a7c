"""Baselines of explanations: an adversarial attack on the pixels, and the nearest real face with
the target reading.

Shape letters: N rows, S side in px, M faces of a pool.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from affect.counterfactual.question import VA_TOLERANCE
from affect.counterfactual.search import Rows, margin_and_reach
from affect.model import AffectModel
from training.evaluation.core.predictions import U8, batches

ATTACK_STEPS = 12
ATTACK_STEP, ATTACK_MOST = (
    2 / 255,
    10 / 255,
)  # of full scale: a step, and how far a pixel may go in all
THUMBNAIL_PX = 16  # side at which "nearest" is measured


def rows_of(model: AffectModel, images: U8, column: Tensor, target: Tensor) -> Rows:
    """Faces (N, S, S, 3) with one question each, read by the model."""
    with torch.no_grad():
        x = model.to_pixels(torch.from_numpy(images).to(model.platt.device))
        return Rows.of(x, model.read(x), column, target)


def pixel_attack(model: AffectModel, images: U8, column: Tensor, target: Tensor) -> U8:
    """Projected gradient steps on the pixels (Madry et al. 2018) until the 8-bit picture has the
    target reading. (N, S, S, 3)
    """
    parts = [
        _attack(model, rows_of(model, images[rows], column[rows], target[rows]))
        for rows in batches(len(images))
    ]
    return np.concatenate(parts)


def _attack(model: AffectModel, rows: Rows) -> U8:
    x = rows.x.clone()
    for _ in range(ATTACK_STEPS):
        with torch.enable_grad():
            moving = x.clone().requires_grad_(True)
            _, reach = margin_and_reach(model, model.read(moving), rows)
            (gradient,) = torch.autograd.grad(reach.sum(), moving)
        with torch.no_grad():
            _, new_reach = margin_and_reach(
                model, model.read(model.to_pixels(model.to_images(x))), rows
            )
            step = 2 * ATTACK_STEP * gradient.sign() * (new_reach < 1).float()[:, None, None, None]
            most_change = 2 * ATTACK_MOST
            x = (rows.x + (x + step - rows.x).clamp(-most_change, most_change)).clamp(-1, 1)
    return np.asarray(model.to_images(x).cpu().numpy())


@torch.no_grad()
def nearest_face(model: AffectModel, images: U8, column: Tensor, target: Tensor, pool: U8) -> U8:
    """For each face the nearest of M real ones with the target reading; where there is none, the
    one that comes nearest to the target.
    """
    device = model.platt.device
    outputs = [
        model.read(model.to_pixels(torch.from_numpy(pool[rows]).to(device)))
        for rows in batches(len(pool))
    ]
    logits, va = (
        torch.cat([output.logits for output in outputs]),
        torch.cat([output.va for output in outputs]),
    )
    distances = torch.cdist(_thumbnails(images), _thumbnails(pool)).to(device)  # (N, M)
    nearest = np.empty(len(images), np.intp)
    for i in range(len(images)):
        margin = _margins(model, logits, va, int(column[i]), float(target[i]))
        satisfied = margin > 0
        nearest[i] = int(
            torch.where(satisfied, distances[i], torch.inf).argmin()
            if satisfied.any()
            else margin.argmax()
        )
    return pool[nearest]


def _margins(model: AffectModel, logits: Tensor, va: Tensor, column: int, target: float) -> Tensor:
    """(M,) margins of read faces against one question: `margin_and_reach`, without the faces."""
    aus = logits.shape[1]
    if column >= aus:
        return VA_TOLERANCE - (va[:, column - aus] - target).abs()
    scale, shift, threshold = model.platt[column]
    present: Tensor = logits[:, column] * scale + shift - torch.logit(threshold)
    return present if target >= 0.5 else -present


def _thumbnails(images: U8) -> Tensor:
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    small: Tensor = F.interpolate(x, (THUMBNAIL_PX, THUMBNAIL_PX), mode="area").flatten(1)
    return small
