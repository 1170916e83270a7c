"""Augmentation of pairs of faces: the same for a face and its twin, so that only the state differs.

Shape letters: B pairs, S side in px. Everything is drawn from the step's own generator: the same
step, the same pixels.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from training.gan.config import TrainConfig
from training.gan.distributed import StepRandom


def augment_pairs(
    x: Tensor, twin: Tensor, config: TrainConfig, rng: StepRandom
) -> tuple[Tensor, Tensor]:
    """Mirror, move, turn, scale and recolour (B, 3, S, S) in [-1, 1] and their twins alike."""
    grid = _grid(len(x), x.shape[-1], config, rng)
    colour = torch.exp(config.colour * rng.randn(len(x), 6))
    return _recolour(_sample(x, grid), colour), _recolour(_sample(twin, grid), colour)


def corrupt(x: Tensor, rng: StepRandom) -> Tensor:
    """Each row of (B, 3, S, S) blurred, noised, or partly occluded, as by cameras and hands."""
    kind = rng.integers(3, len(x))
    strength = rng.rand(len(x))
    noise = rng.pixel_noise(x) * (0.2 * strength)[:, None, None, None]
    blurred = F.interpolate(
        F.avg_pool2d(x, 2), scale_factor=2, mode="bilinear", align_corners=False
    )
    hidden = _hide(x, rng)
    choices = torch.stack([blurred, (x + noise).clamp(-1, 1), hidden])
    return choices[kind, torch.arange(len(x), device=x.device)]


def _grid(rows: int, side: int, config: TrainConfig, rng: StepRandom) -> Tensor:
    normals = rng.randn(rows, 4)
    angle, scale = config.turn * normals[:, 0], torch.exp(config.zoom * normals[:, 1])
    mirror = torch.where(rng.rand(rows) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    x_row = torch.stack([mirror * cos, -sin, 2 * config.shift * normals[:, 2]], dim=1)
    y_row = torch.stack([mirror * sin, cos, 2 * config.shift * normals[:, 3]], dim=1)
    return F.affine_grid(
        torch.stack([x_row, y_row], dim=1), [rows, 3, side, side], align_corners=False
    )


def _sample(x: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _recolour(x: Tensor, factors: Tensor) -> Tensor:
    """Gain per channel, saturation, contrast and gamma by factors (B, 6) around 1."""
    gains, saturation, contrast, gamma = (
        factors[:, :3, None, None],
        *(f[:, None, None, None] for f in factors[:, 3:].unbind(1)),
    )
    pixels = (0.5 * (x + 1) * gains**0.5).clamp(1e-3, 1) ** gamma
    grey = pixels.mean(1, keepdim=True)
    pixels = grey + saturation * (pixels - grey)
    middle = pixels.mean((1, 2, 3), keepdim=True)
    return (2 * (middle + contrast * (pixels - middle)) - 1).clamp(-1, 1)


def _hide(x: Tensor, rng: StepRandom) -> Tensor:
    rows, side = len(x), x.shape[-1]
    size = side * (0.1 + 0.25 * rng.rand(rows, 2, 1, 1))
    centre = side * rng.rand(rows, 2, 1, 1)
    axis = torch.arange(side, device=x.device)
    inside = ((axis[None, :, None] - centre[:, 0]).abs() < size[:, 0]) & (
        (axis[None, None, :] - centre[:, 1]).abs() < size[:, 1]
    )
    shade = 2 * rng.rand(rows, 3, 1, 1) - 1
    return torch.where(inside[:, None], shade, x)
