"""Runs a model on any number of rows in forward passes of a few fixed sizes.

Fixed sizes keep kernels warm and let torch.compile compile once per size. Shape letters as in
affect.protocol.messages.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from affect.editing import moved
from affect.model import AffectModel, Prediction
from affect.protocol.messages import F32, I32, I64, U8, Predictions
from affect.rows import join_rows

# A pass may be padded by this share of its size; beyond it, two smaller passes are cheaper than
# computing nothing.
PADDING = 0.25


def passes(rows: int, sizes: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Cut `rows` into passes (start, stop, size), size one of the rising `sizes` and stop - start
    <= size.
    """
    start = 0
    while start < rows:
        remaining = rows - start
        size = min((size for size in sizes if size >= remaining), default=sizes[-1])
        if size - remaining > PADDING * size:
            size = max((smaller for smaller in sizes if smaller <= remaining), default=size)
        stop = min(start + size, rows)
        yield start, stop, size
        start = stop


def pad(rows: Tensor, size: int) -> Tensor:
    """(n, ...) -> (size, ...), the last row repeated."""
    return (
        rows
        if len(rows) == size
        else torch.cat([rows, rows[-1:].expand(size - len(rows), *rows.shape[1:])])
    )


def numpy_rows(prediction: Prediction, rows: int) -> Predictions:
    """The first rows of a prediction as the protocol carries them."""
    names = ("intensity", "probability", "va", "realism", "expression", "pose", "sides")
    parts = {
        name: getattr(prediction, name)[:rows].detach().float().cpu().numpy() for name in names
    }
    present = prediction.present[:rows].to(torch.uint8).cpu().numpy()
    return Predictions(present=present, **parts)


@torch.inference_mode()
def predict(model: AffectModel, crops: U8, sizes: Sequence[int]) -> Predictions:
    """Read crops (N, S, S, 3)."""
    images = torch.from_numpy(crops).to(model.platt.device)
    read = []
    for start, stop, size in passes(len(crops), sizes):
        read.append(
            numpy_rows(model.predict(model.to_pixels(pad(images[start:stop], size))), stop - start)
        )
    return join_rows(read, np.concatenate)


@torch.inference_mode()
def generate(
    model: AffectModel, labels: F32, seeds: I64, references: U8, reference_of: I32
) -> tuple[U8, F32, Predictions]:
    """Draw N faces; returns (images (N, S, S, 3), complete target labels (N, K + 2), what the
    predictor reads off the images).

    Every row is its own forward pass: the last bits of a convolution depend on the size of its
    batch, and the same seed must give the same bytes whatever else is in the batch.
    """
    device = model.platt.device
    requested_labels, reference_images = (
        torch.from_numpy(labels).to(device),
        torch.from_numpy(references).to(device),
    )
    images, requested, measured = [], [], []
    for row, seed in enumerate(seeds.tolist()):
        source = int(reference_of[row])
        draw = moved if source >= 0 else _draw
        x, y = draw(
            model,
            requested_labels[row : row + 1],
            torch.Generator().manual_seed(seed),
            reference_images[source : source + 1],
        )
        image = model.to_images(x)  # (1, S, S, 3)
        images.append(image.cpu().numpy())
        requested.append(y.cpu().numpy())
        measured.append(numpy_rows(model.predict(model.to_pixels(image)), 1))
    return np.concatenate(images), np.concatenate(requested), join_rows(measured, np.concatenate)


@torch.inference_mode()
def identities(model: AffectModel, crops: U8, sizes: Sequence[int]) -> F32:
    """(N, E) of length 1: crops (N, S, S, 3) of one person lie near each other."""
    images = torch.from_numpy(crops).to(model.platt.device)
    embeddings = [
        model.identify(model.to_pixels(pad(images[start:stop], size)))[: stop - start]
        for start, stop, size in passes(len(crops), sizes)
    ]
    rows: F32 = torch.cat(embeddings).float().cpu().numpy()
    return rows


Draw = Callable[[AffectModel, Tensor, torch.Generator, Tensor], tuple[Tensor, Tensor]]


def _draw(
    model: AffectModel, labels: Tensor, generator: torch.Generator, _: Tensor
) -> tuple[Tensor, Tensor]:
    """A new person in the state of `labels` (1, K + 2)."""
    y = model.mask(model.sample_labels(labels, generator))
    return model.generate(model.sample_latents(1, generator), y), y
