"""How a change is put into a face so that it looks drawn from one hand.

The decoder adds a change to the pixels. On photographs, whose teeth, lids and lips differ from
those that it learnt most from, what it takes away shines through: closed lips with a row of orange
teeth, an eye's outline in the lid, blue lids, a purple mouth. Two corrections, each only where the
change is visible and fading out around it:

- colour: what was changed gets no colour that the face does not have nearby (chroma between its
  extremes within COLOUR_PARTS), and colour is as smooth there as JPEG keeps it;
- detail: where much was changed, fine detail of luminance is not what is left of the old mouth but
  that of the same person as the generator draws it from its latent code in the new state, which
  knows nothing of the old one.

Shape letters: R faces, S side in px. Values of pixels in [-1, 1].
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

# Lengths in parts of the side: the deviation over which colour and masks are smooth, the deviation
# below which luminance is detail, the radius within which the face must have a colour.
SMOOTH_PARTS, DETAIL_PARTS, COLOUR_PARTS = 64, 42, 32
COLOUR_MARGIN = 2 / 127.5  # by which a colour may lie beyond those nearby
# From which change on a correction begins, and from which on it is full.
COLOUR_CHANGE = (6 / 127.5, 20 / 127.5)
DETAIL_CHANGE = (10 / 127.5, 35 / 127.5)
# RGB to luminance and two colour differences (ITU-R BT.601).
YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


@dataclass(frozen=True)
class Palette:
    """Which colours R faces have nearby, place by place; the same for every edit of a face."""

    least: Tensor  # (R, 2, S, S) colour differences
    most: Tensor

    @classmethod
    def of(cls, x: Tensor) -> "Palette":
        """Of faces (R, 3, S, S)."""
        side = x.shape[-1]
        smooth = _blurred(_ycc(x)[:, 1:], side / (2 * SMOOTH_PARTS))
        return cls(-_largest(-smooth, side) - COLOUR_MARGIN, _largest(smooth, side) + COLOUR_MARGIN)


def compose(x: Tensor, edited: Tensor, drawn: Tensor, palette: Palette) -> Tensor:
    """(R, 3, S, S) the edited faces, corrected. `x` are the faces before, with their `palette`,
    `drawn` those that the generator draws from their latent codes in the new state.
    """
    before, after, detail = _ycc(x), _ycc(edited), _ycc(drawn)[:, :1]
    side = x.shape[-1]
    shift = (after - before).abs()
    changed = _blurred(torch.stack([shift.sum(1), shift[:, 0]], dim=1), side / SMOOTH_PARTS)
    of_colour, of_detail = (
        _ramp(changed[:, :1], COLOUR_CHANGE),
        _ramp(changed[:, 1:], DETAIL_CHANGE),
    )
    luminance, colour = after[:, :1], after[:, 1:]
    near = _blurred(colour, side / SMOOTH_PARTS).clamp(palette.least, palette.most)
    redone = detail + _blurred(luminance - detail, side / DETAIL_PARTS)
    parts = [torch.lerp(luminance, redone, of_detail), torch.lerp(colour, near, of_colour)]
    return _rgb(torch.cat(parts, dim=1)).clamp(-1, 1)


def _largest(values: Tensor, side: int) -> Tensor:
    """(R, C, S, S) of all within COLOUR_PARTS to each side."""
    radius = max(side // COLOUR_PARTS, 1)
    rows = F.max_pool2d(values, (1, 2 * radius + 1), 1, (0, radius))
    return F.max_pool2d(rows, (2 * radius + 1, 1), 1, (radius, 0))


def _ramp(values: Tensor, ends: tuple[float, float]) -> Tensor:
    low, high = ends
    return ((values - low) / (high - low)).clamp(0, 1)


def _blurred(values: Tensor, deviation: float) -> Tensor:
    """(R, C, S, S) under a Gaussian of a deviation in px, by two products with its matrix: a fifth
    of the time of a convolution.
    """
    place = torch.arange(values.shape[-1], device=values.device, dtype=values.dtype)
    weights = torch.exp(-0.5 * ((place - place[:, None]) / deviation) ** 2)
    weights = weights / weights.sum(1, keepdim=True)
    return weights @ values @ weights.T


def _ycc(x: Tensor) -> Tensor:
    return torch.einsum("dc,rchw->rdhw", x.new_tensor(YCC), x)


def _rgb(x: Tensor) -> Tensor:
    return torch.einsum("dc,rchw->rdhw", torch.linalg.inv(x.new_tensor(YCC)), x)
