"""Measures of a counterfactual: where it changed, how stable its reading is, how the prediction
spreads over the pixels.

Shape letters: N rows, S side in px, F frames, L labels. Pixel differences are shares of full scale.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from affect.catalogue import Region
from affect.counterfactual.search import Rows, Space, margin_and_reach
from affect.model import AffectModel, ModelOutput
from affect.reading_network import ReadingOutput

U8 = NDArray[np.uint8]
Floats = NDArray[np.floating]

MAP_FULL = 0.25  # a pixel that changes by this share of full scale is white in the map
MAP_BLUR, SIGNED_BLUR = (
    64,
    128,
)  # parts of the side over which the map and the signed maps are blurred
NOISE_SD = 4 / 255  # standard deviation of the noise of `stability`
GRADIENT_STEPS = 8
SUPPORT_ROWS = 256  # real label rows whose distance to their neighbours scales `support`


def region_masks(side: int) -> dict[str, NDArray[np.bool_]]:
    """(S, S) masks that tile the aligned crop: the six regions of FACS and the outside of the
    face.
    """
    y, x = (np.mgrid[0:side, 0:side] + 0.5) / side
    inside = ((x - 0.5) / 0.42) ** 2 + ((y - 0.5) / 0.56) ** 2 < 1
    middle = np.abs(x - 0.5)
    boxes = {
        Region.BROW: y < 0.30,
        Region.EYE: (y >= 0.30) & (y < 0.43),
        Region.NOSE: (y >= 0.43) & (y < 0.66) & (middle < 0.13),
        Region.CHEEK: ((y >= 0.43) & (y < 0.66) & (middle >= 0.13))
        | ((y >= 0.66) & (y < 0.88) & (middle >= 0.22)),
        Region.MOUTH: (y >= 0.66) & (y < 0.88) & (middle < 0.22),
        Region.CHIN: y >= 0.88,
    }
    return {region.value: inside & box for region, box in boxes.items()} | {"outside": ~inside}


def region_shares(shift: Floats) -> dict[str, float]:
    """Share of the change (S, S) per region; they add up to 1, or are all 0 where nothing
    changed.
    """
    total = float(shift.sum()) + 1e-9
    return {
        name: round(float(shift[mask].sum()) / total, 4)
        for name, mask in region_masks(len(shift)).items()
    }


def change_map(shift: Floats) -> U8:
    """(S, S) grey of a change (S, S), scaled by a fixed amount, so faint changes look faint; 0
    where nothing near changed.

    Averaged over a 64th of the side: where a face changes, its neighbourhood does, while single
    pixels differ by noise. Against the pixels that truly changed between twins that brings the
    map's AUC from .866 to .909 (LOG).
    """
    grey: U8 = np.round(np.clip(_blurred(shift, MAP_BLUR) / MAP_FULL, 0, 1) * 255).astype(np.uint8)
    return grey


def signed_map(fact: U8, counter: U8) -> U8:
    """(S, S, 3) warm where the face grew brighter, cool where darker, over a faint grey face."""
    change = (counter.astype(np.float32) - fact).mean(2) / 255
    return _over_face(fact, change / MAP_FULL)


def signed_shares(fact: U8, shares: Floats) -> U8:
    """(S, S, 3) warm where pixels speak for a large number, cool where against it; full where one
    pixel in a hundred is.
    """
    return _over_face(
        fact, (shares / (np.quantile(np.abs(shares), 0.99) + 1e-12)).astype(np.float32)
    )


def region_gradients(shares: Floats) -> dict[str, float]:
    """Signed share of Integrated Gradients (S, S) per region, in parts of their total size."""
    total = float(np.abs(shares).sum()) + 1e-12
    return {
        name: round(float(shares[mask].sum()) / total, 4)
        for name, mask in region_masks(len(shares)).items()
    }


def _blurred(values: Floats, parts: int) -> Floats:
    """(S, S) values under a Gaussian whose deviation is one of `parts` parts of the side."""
    return np.asarray(
        cv2.GaussianBlur(np.asarray(values, np.float32), (0, 0), max(len(values) / parts, 0.5)),
        np.float32,
    )


def _over_face(fact: U8, change: Floats) -> U8:
    """(S, S, 3) a signed map (S, S), full at 1, over a faint grey face."""
    smooth = _blurred(change, SIGNED_BLUR)
    strength = np.clip(np.abs(smooth), 0, 1)[..., None] ** 0.7
    face = 150 + 0.35 * (fact.mean(2, keepdims=True) - 128)
    warm, cool = np.array([214, 84, 32], np.float32), np.array([38, 102, 190], np.float32)
    colour = np.where(smooth[..., None] > 0, warm, cool)
    mixed: U8 = np.round(face * (1 - strength) + colour * strength).clip(0, 255).astype(np.uint8)
    return mixed


def interpolate_frames(
    space: Space, rows: Rows, move: Tensor, ends: tuple[Tensor, Tensor], frames: int
) -> Tensor:
    """(N, F, S, S, 3) between `ends`, the faces and their counterfactuals (N, S, S, 3), through
    shares of the move (N, M) that made them.
    """
    steps = [space.draw(rows, float(share) * move) for share in np.linspace(0, 1, frames)[1:-1]]
    return torch.stack([ends[0], *steps, ends[1]], dim=1)


def stability(model: AffectModel, rows: Rows, images: Tensor, satisfied: Tensor) -> Tensor:
    """(N,) share of two slightly noised copies of the counterfactuals whose decision is the same
    (`satisfied`, bool (N,)).
    """
    x = model.to_pixels(images)
    noise = (
        2 * NOISE_SD * torch.randn(x.shape[1:], generator=Generator().manual_seed(0)).to(x.device)
    )
    agree = torch.zeros(len(x), device=x.device)
    for sign in (1, -1):
        margin, _ = margin_and_reach(model, model.read_state((x + sign * noise).clamp(-1, 1)), rows)
        agree += ((margin > 0) == satisfied).float() / 2
    return agree


def support(model: AffectModel, after: Tensor) -> Tensor:
    """(N,) share of real faces whose state lies farther from its nearest neighbour than the states
    `after` (N, L) from theirs.
    """
    table = model.label_table[~torch.isnan(model.label_table[:, model.known]).any(1)][
        :, model.known
    ]
    if len(table) < 2:
        return torch.full((len(after),), 0.5, device=after.device)
    # the nearest is the row itself
    neighbour_distance = torch.cdist(table[:SUPPORT_ROWS], table).kthvalue(2, dim=1).values
    nearest = torch.cdist(after[:, model.known], table).amin(1)
    return (neighbour_distance[None] >= nearest[:, None]).float().mean(1)


def integrated_gradients(model: AffectModel, rows: Rows) -> tuple[Tensor, Tensor]:
    """Which pixels made the decision: (N, S, S) signed shares of its number, and the completeness
    error (N,).

    Integrated Gradients (Sundararajan et al. 2017, eq. 1), midpoint rule, from mid grey. The number
    is the AU's logit, or valence or arousal. Completeness: the shares add up to the number less
    that of the grey picture; the error is relative.
    """
    with torch.inference_mode(False), torch.enable_grad():
        x, column = rows.x.clone(), rows.column.clone()
        total = torch.zeros_like(x)
        for step in range(GRADIENT_STEPS):
            interpolated = (x * (step + 0.5) / GRADIENT_STEPS).requires_grad_(True)
            (gradient,) = torch.autograd.grad(
                _number(model.read_state(interpolated), column).sum(), interpolated
            )
            total += gradient / GRADIENT_STEPS
        shares = (total * x).sum(1)
        span = _number(rows.output, column) - _number(model.read_state(torch.zeros_like(x)), column)
        error = (shares.sum((1, 2)) - span).abs() / span.abs().clamp(min=1e-6)
    return shares.detach(), error.detach()


def _number(output: ModelOutput | ReadingOutput, column: Tensor) -> Tensor:
    return torch.cat([output.logits, output.va], dim=1).gather(1, column[:, None]).squeeze(1)


def diversity(fact: U8, counters: Sequence[U8]) -> float:
    """The diversity of several answers about one face: 1 - cosine of their changes of pixels, mean
    over pairs; 0 alike, 1 unrelated.
    """
    changes = np.stack([(counter.astype(np.float64) - fact).ravel() for counter in counters])
    changes /= np.linalg.norm(changes, axis=1, keepdims=True).clip(1e-9)
    first, second = np.triu_indices(len(changes), k=1)
    return float(1 - (changes[first] * changes[second]).sum(1).mean())


def percentile(quantiles: Sequence[float] | None, value: float) -> float:
    """Share of real faces whose score is lower; without a reference 0.5."""
    if not quantiles:
        return 0.5
    return float(np.searchsorted(quantiles, value, side="right") / len(quantiles))
