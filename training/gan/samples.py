"""Pictures of what a model draws while it trains: real faces, reconstructions, edits, new people, a
smile on demand.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor
from torch.utils.tensorboard import SummaryWriter

from affect.model import AffectModel
from affect.picture_grid import picture_grid
from training.database.reader import Database

COLUMNS = 12


@torch.no_grad()
def write(
    model: AffectModel, database: Database, folder: Path, *, seen_images: int, board: SummaryWriter
) -> Path:
    """One PNG of six rows: real, from its latent, null edit, edited to its neighbour's state, new
    people, the same smiling.
    """
    folder.mkdir(parents=True, exist_ok=True)
    picture = sheet(model, database)
    path = folder / f"{seen_images:09d}.png"
    Image.fromarray(picture).resize(
        (2 * picture.shape[1], 2 * picture.shape[0]), Image.Resampling.NEAREST
    ).save(path)
    board.add_image("samples", picture, seen_images, dataformats="HWC")
    return path


def sheet(model: AffectModel, database: Database) -> np.ndarray:
    """(6 S, COLUMNS S, 3) uint8."""
    device = model.platt.device
    split = "validation" if len(database.labels("validation")) else "train"
    count = min(COLUMNS, len(database.labels(split)))
    images = torch.from_numpy(database.images(split, np.arange(count), model.card.image_px)).to(
        device
    )
    x = model.to_pixels(images)
    output = model.read(x)
    state = output.labels
    neighbour = state.roll(1, 0)
    generator = Generator().manual_seed(0)
    latents = model.sample_latents(count, generator)
    rows = [
        x,
        model.generate(output.latent, state),
        model.edit(x, state, state, output),
        model.edit(x, neighbour, state, output),
        model.generate(latents, neighbour),
        model.generate(latents, _smile(model, state)),
    ]
    return picture_grid(model.to_images(torch.cat(rows)).cpu().numpy(), count)


def _smile(model: AffectModel, state: Tensor) -> Tensor:
    """Rows of AU12 with what comes with it, everything else at rest."""
    requested = torch.zeros_like(state)
    for code, value in {"AU6": 0.6, "AU12": 0.9, "AU25": 0.7}.items():
        if code in model.card.vocabulary:
            requested[:, model.card.vocabulary.index(code)] = value
    requested[:, -2], requested[:, -1] = 0.6, 0.1
    return requested
