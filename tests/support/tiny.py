"""A tiny model with random weights, finished as training would finish it: real code, real files,
nothing learned.
"""

from pathlib import Path
from typing import Literal

import torch

from affect.card import Calibration, ModelCard
from affect.factory import initialise_model
from affect.model import AffectModel, smoke_card

NUISANCES = ("light: dim to bright", "skin: light to dark")


def tiny_card(labels: Literal["au", "va", "both"] = "both", *, reader: bool = False) -> ModelCard:
    """With `reader` it reads expression, pose and sides too."""
    card = smoke_card(labels=labels, reader=reader)
    calibration = {
        code: Calibration(scale=1.2, shift=0.1, threshold=0.4) for code in card.vocabulary
    }
    reference = {"critic": [float(score) for score in range(-5, 6)]}
    return card.model_copy(
        update={"version": "1.0", "calibration": calibration, "reference": reference}
    )


def tiny_model(card: ModelCard | None = None) -> AffectModel:
    model = initialise_model(card or tiny_card(), seed=3).eval()
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        # beyond the zero-initialised branches, so that every input matters
        for weights in model.parameters():
            weights.add_(0.05 * torch.randn(weights.shape, generator=rng))
    model.label_table[:] = torch.rand(model.label_table.shape, generator=rng)
    along = torch.randn(len(NUISANCES), len(model.latent_mean), generator=rng)
    halfway = torch.full((len(NUISANCES), 1), 0.5)
    model.learn_nuisances(NUISANCES, along, torch.cat([0.01 * along, halfway], dim=1))
    return model


def tiny_run(folder: Path, card: ModelCard | None = None) -> Path:
    """A run folder with that model in it."""
    tiny_model(card).save(folder / "model")
    return folder
