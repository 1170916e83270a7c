"""Pictures that a model draws, as it is served: what is not asked is completed from the training
distribution.

Shape letters: B pictures, S side in px, K Action Units.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from affect.model import AffectModel
from training.evaluation.core.predictions import U8, Floats, batches, in_batches


@dataclass(frozen=True)
class DrawnFaces:
    """Pictures drawn for asked states (B, K + 2), NaN = not asked."""

    images: U8
    requested: Floats


def draw_samples(model: AffectModel, requested: Floats, generator: Generator) -> DrawnFaces:
    """One new person for every asked state."""
    parts = []
    for rows in batches(len(requested)):
        labels = torch.from_numpy(requested[rows]).float().to(model.platt.device)
        with torch.inference_mode():
            z = model.sample_latents(len(labels), generator)
            parts.append(
                model.to_images(
                    model.generate(z, model.sample_labels(model.mask(labels), generator))
                )
                .cpu()
                .numpy()
            )
    return DrawnFaces(np.concatenate(parts), requested)


def reconstruct(model: AffectModel, images: U8) -> U8:
    """The faces as the generator alone draws them from what was read off them."""
    return redraw(model, images, model.reconstruct)


def edit_to(model: AffectModel, images: U8, requested: Floats, generator: Generator) -> DrawnFaces:
    """Given faces moved to asked states."""
    label_batches = iter(
        [
            torch.from_numpy(requested[rows]).float().to(model.platt.device)
            for rows in batches(len(requested))
        ]
    )

    def one(x: Tensor) -> Tensor:
        output = model.read(x)
        return model.edit(
            x,
            model.target_labels(output.labels, model.mask(next(label_batches)), generator),
            output=output,
        )

    return DrawnFaces(redraw(model, images, one), requested)


def redraw(model: AffectModel, images: U8, function: Callable[[Tensor], Tensor]) -> U8:
    """What a function of faces (B, 3, S, S) draws for all of N images (N, S, S, 3)."""
    return in_batches(model, lambda x: (model.to_images(function(x)),), images)[0].astype(np.uint8)
