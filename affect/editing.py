"""A given face moved to a requested state: edited, read, and edited again by what is missing.

The generator learnt to move faces of its own kind; on photographs one edit moves a face by less
than was asked for, most of all its brows and lids. So what is asked for is raised by what the
reading lacks, until it is there or the move is OVERDRIVE times as large as asked for. What is shown
is composed (affect/counterfactual/composition.py).
"""

import torch
from torch import Tensor

from affect.counterfactual.composition import Palette, compose
from affect.model import AffectModel

EDITS = 3  # the first included
OVERDRIVE = 2.0  # how much larger than asked for a move may get
NEAR = 0.05  # of an intensity, valence or arousal: what is as near as that is reached


def moved(
    model: AffectModel, requested: Tensor, generator: torch.Generator, reference: Tensor
) -> tuple[Tensor, Tensor]:
    """One face, an aligned uint8 crop (1, S, S, 3), in a requested state (1, K + 2), NaN where
    nothing is asked (`AffectModel.target_labels` completes it): the face (1, 3, S, S) in [-1, 1],
    and the complete state.
    """
    x = model.to_pixels(reference)
    output = model.read(x)
    y = model.mask(model.target_labels(output.labels, requested, generator))
    start, additions = output.labels, tuple(model.additions(output))
    asked = ~torch.isnan(requested) & ~torch.isnan(y)
    further = torch.zeros_like(start)  # by which more is asked for than was requested
    most = torch.where(asked, (OVERDRIVE - 1) * (y - start).abs(), 0.0)
    for edit in range(EDITS):
        edited = model.edit(x, y, start - further, output, additions)
        if edit + 1 == EDITS:
            break
        lack = torch.where(asked, y - model.labels(model.to_pixels(model.to_images(edited))), 0.0)
        if not (lack.abs() > NEAR).any():
            break
        further = torch.maximum(torch.minimum(further + lack, most), -most)
    drawn = model.generate(output.latent, y)
    return compose(x, edited, drawn, Palette.of(x)), y
