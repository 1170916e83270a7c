"""Strong augmentation for the reading network alone: cameras, light, hands and rough crops.

Each row is changed by itself, twins too, so that nothing but the state is left to read. What
rng sees the mild augmentation of `augmentation.py`.
Shape letters: R rows, S side in px. Everything is drawn from the step's own generator.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from training.gan.distributed import StepRandom

SHIFT, TURN, ZOOM = 0.045, 0.10, 0.07  # sides, radians, log scale (sd)
COLOUR, GAMMA, CONTRAST, SATURATION = 0.18, 0.30, 0.25, 0.35  # sd of log factors
GREY = 0.12  # share of rows without colour
FIELD = 0.35  # sd of the log light at the picture's edge, from one side to the other
HIDDEN = 0.15  # share of rows partly hidden
NOISY, NOISE = 0.35, 0.12  # share of noisy rows, largest sd of the noise (pixels in [-1, 1])
CACHED_ROWS = 16  # rows at a time on a processor: more exceed its cache (1.6 times slower)
SMALLEST = 0.3  # of the side, to which a row may be reduced before it is enlarged again


@dataclass(frozen=True)
class Turned:
    """The geometric change of labels that have sides."""

    mirrored: Tensor  # (R,) bool
    degrees: Tensor  # (R,) by which the picture was turned clockwise


def augment_strongly(x: Tensor, rng: StepRandom, strength: float = 1.0) -> tuple[Tensor, Turned]:
    """(R, 3, S, S) in [-1, 1] -> the same shape and range, and how each row was turned.

    `strength` scales every deviation and every chance below; at 0 faces are only mirrored.
    """
    rows = len(x) if x.is_cuda else max(1, CACHED_ROWS // rng.ranks.world)
    parts = [_augment(part, rng, strength) for part in torch.split(x, rows)]
    augmented, mirrored, degrees = (torch.cat(column) for column in zip(*parts, strict=True))
    return augmented, Turned(mirrored, degrees)


def _augment(x: Tensor, rng: StepRandom, strength: float) -> tuple[Tensor, Tensor, Tensor]:
    augmented, transform = _move(x, rng, strength)
    lit = _relight(augmented, rng, strength)
    return _degrade(lit, rng, strength), transform.mirrored, transform.degrees


def _move(x: Tensor, rng: StepRandom, strength: float) -> tuple[Tensor, Turned]:
    normals, chance = strength * rng.randn(len(x), 4), rng.rand(len(x))
    mirrored = chance < 0.5
    mirror = torch.where(mirrored, -1.0, 1.0)
    angle, scale = TURN * normals[:, 0], torch.exp(ZOOM * normals[:, 1])
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = [
        torch.stack([mirror * cos, -mirror * sin, 2 * SHIFT * normals[:, 2]], dim=1),
        torch.stack([sin, cos, 2 * SHIFT * normals[:, 3]], dim=1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), list(x.shape), align_corners=False)
    resampled = F.grid_sample(
        x, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
    return resampled, Turned(mirrored, -torch.rad2deg(angle))


def _relight(x: Tensor, rng: StepRandom, strength: float) -> Tensor:
    rows, side = len(x), x.shape[-1]
    log = strength * rng.randn(rows, 9)[:, :, None, None]
    position = torch.linspace(-1, 1, side, device=x.device)
    field = FIELD * (log[:, 6:7] * position[None, None, :, None] + log[:, 7:8] * position)
    pixels = (0.5 * (x + 1)).clamp(1e-3, 1) ** torch.exp(GAMMA * log[:, 5:6])
    pixels = pixels * torch.exp(COLOUR * log[:, :3] + field + 0.15 * log[:, 8:9])
    grey = pixels.mean(1, keepdim=True)
    saturation = torch.exp(SATURATION * log[:, 3:4])
    saturation = torch.where(rng.rand(rows)[:, None, None, None] < strength * GREY, 0.0, saturation)
    pixels = grey + saturation * (pixels - grey)
    middle = pixels.mean((1, 2, 3), keepdim=True)
    pixels = middle + torch.exp(CONTRAST * log[:, 4:5]) * (pixels - middle)
    return (2 * pixels - 1).clamp(-1, 1)


def _degrade(x: Tensor, rng: StepRandom, share: float) -> Tensor:
    rows, side = len(x), x.shape[-1]
    # Chances are divided by the share, so that fewer rows fall below each bound.
    kind, strength, chance = (
        part / max(share, 1e-6)
        for part in (rng.rand(rows), share * rng.rand(rows), rng.rand(rows, 2))
    )
    shape = (-1, 1, 1, 1)
    soft = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), 3, 1)
    sharp = (x + (0.4 + 1.2 * strength).view(shape) * (x - soft)).clamp(-1, 1)
    x = torch.where((kind < 0.15).view(shape), soft, x)
    x = torch.where(((kind >= 0.15) & (kind < 0.30)).view(shape), sharp, x)
    # One size a step: rows of different sizes cannot be resampled together.
    size = max(8, round(side * (SMALLEST + (0.9 - SMALLEST) * rng.scalar())))
    small = F.interpolate(x, (size, size), mode="bilinear", antialias=True, align_corners=False)
    enlarged = F.interpolate(small, (side, side), mode="bilinear", align_corners=False)
    x = torch.where(((kind >= 0.30) & (kind < 0.55)).view(shape), enlarged, x)
    noise = rng.pixel_noise(x) * (NOISE * strength).view(shape)
    x = torch.where((chance[:, 0] < NOISY).view(shape), (x + noise).clamp(-1, 1), x)
    return torch.where((chance[:, 1] < HIDDEN).view(shape), _hide(x, rng), x)


def _hide(x: Tensor, rng: StepRandom) -> Tensor:
    rows, side = len(x), x.shape[-1]
    size = side * (0.06 + 0.16 * rng.rand(rows, 2, 1, 1))
    centre = side * rng.rand(rows, 2, 1, 1)
    axis = torch.arange(side, device=x.device)
    across = (axis[None, None, :] - centre[:, 1]).abs() < size[:, 1]
    along = (axis[None, :, None] - centre[:, 0]).abs() < size[:, 0]
    shade = 2 * rng.rand(rows, 3, 1, 1) - 1
    return torch.where((along & across)[:, None], shade, x)
