"""The losses of a face without a twin: the face is moved to another state, read, and moved back.

After StarGAN (Choi et al. 2018, eq. 4-6): no picture says how the moved face should look, so its
labels are read off it, its person must be recognised in it, and moved back it must be the face it
came from. Shape letters: B faces, S side in px, K Action Units.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from affect.model import AffectModel, ModelOutput
from training.gan import losses
from training.gan.config import TrainConfig
from training.gan.distributed import StepRandom


def moving(
    paired: Tensor, edits: Tensor, still: Tensor, config: TrainConfig, rng: StepRandom
) -> Tensor:
    """(B,) which faces without a twin go to another state: every edit that is not to stay, and a
    share of those drawn from the latent.
    """
    return ~paired & torch.where(edits, ~still, rng.rand(len(paired)) < config.moved)


def add_noise(drawn: Tensor, moved: Tensor, config: TrainConfig, rng: StepRandom) -> Tensor:
    """Drawn faces (R, 3, S, S) with noise on those of the first B that moved: imperceptible
    patterns that only the reader uses, or that encode the original, do not survive it (Bashkirova
    et al. 2019).
    """
    copies = drawn[: len(moved)]
    noise = config.moved_noise * rng.pixel_noise(copies) * moved[:, None, None, None]
    return torch.cat([(copies + noise).clamp(-1, 1), drawn[len(moved) :]])


@dataclass(frozen=True)
class MovedFaces:
    """Faces before a move."""

    x: Tensor  # (B, 3, S, S)
    y: Tensor  # (B, K + 2) their state; NaN = not annotated
    face: ModelOutput  # as they were read
    edits: Tensor  # (B,) bool
    moved: Tensor  # (B,) bool: which of them move


def cycle_loss(model: AffectModel, start: MovedFaces, drawn: Tensor, read: ModelOutput) -> Tensor:
    """|G(G(x, y'), y) - x|, mean over all B rows, nothing from those that did not move.

    `drawn` (B, 3, S, S) after the move, `read` what was read off it there. A state that is not
    annotated is taken as it was read.
    """
    x, y, edits, moved = start.x, start.y, start.edits, start.moved
    target = torch.where(torch.isnan(y), start.face.labels, y).detach()
    move = (target - read.labels.detach()) * edits[:, None]
    condition = model.decoder_condition(model.mask(target), model.mask(move))
    redrawn, change = model.decoder(read.latent, condition, read.maps, edits.to(x.dtype))
    shape = (-1, 1, 1, 1)
    restored = torch.where(
        edits.view(shape), (drawn + change.float()).clamp(-1, 1), redrawn.float()
    )
    return losses.reconstruction_loss(torch.where(moved.view(shape), restored, x), x, x)
