"""After the last step: what generation and the card need to know about real faces, read off them by the averaged weights."""

import platform
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from affect.card import Calibration, DataSummary, ModelCard
from affect.labels import AROUSAL, VALENCE, keep
from affect.model import TABLE_ROWS, AffectModel
from training.database.card import DataCard
from training.database.reader import Database
from training.gan.config import TrainConfig

READ_IMAGES = 8192  # real faces that the latent's Gaussian and the label table come from
CHUNK_IMAGES = 256
QUANTILES = np.linspace(0, 1, 101)

INTENDED_USE = (
    "Research on dual-annotated expression data, on conditional generation and on counterfactual explanation",
    "Building and testing systems against the interface before training on licensed data",
)
LIMITS = (
    "A reading is a guess about muscle movements in a picture, not about what a person feels",
    "Not for decisions about people: hiring, teaching, policing, medicine; in the EU, Regulation (EU) 2024/1689 Article 5(1)(f) prohibits "
    "inferring emotions at work and in education, and other emotion recognition is high-risk (Annex III)",
    "Arousal from still pictures is weakly supported in the literature",
)
RENDERED_LIMITS = (
    "Trained on rendered faces only; on photographs its readings have not been measured",
    "Valence and arousal follow the renderer's generative rule, not annotations of people",
    "Group figures compare rendered groups; they say nothing about real ones",
)


def limits_of(sources: Sequence[str]) -> tuple[str, ...]:
    """What the card must say of a model trained on these sources."""
    return LIMITS + (RENDERED_LIMITS if "rendered" in sources else ())


def new_card(config: TrainConfig, data: DataCard) -> ModelCard:
    """The card of a run that begins: sizes and sources; calibration and quality come with evaluation."""
    return ModelCard(
        version="1.0",
        labels=config.labels,
        vocabulary=data.vocabulary,
        image_px=config.image_px,
        network=config.network,
        calibration={code: Calibration(threshold=0.5) for code in data.vocabulary},
        data=DataSummary(
            name=data.name, images=0, sources=tuple(data.sources), licence=data.licence, positive_intensity=data.positive_intensity
        ),
        intended_use=INTENDED_USE,
        limits=limits_of(data.sources),
        preset=config.preset,
        seed=config.seed,
        libraries={"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    )


@torch.no_grad()
def finish(model: AffectModel, database: Database, config: TrainConfig, *, seen_images: int) -> None:
    """Fit the latent's Gaussian, fill the label table, and measure the reference quantiles. Changes `model` and its card."""
    rng = np.random.default_rng(config.seed)
    labels = keep(database.labels("train"), config.labels)
    rows = np.sort(rng.permutation(len(labels))[:READ_IMAGES])
    latents, read, _ = _read(model, database, "train", rows, config.image_px)
    fit_latents(model, latents)
    table = torch.from_numpy(labels[rows]).to(read)
    table = torch.where(torch.isnan(table), read, table)  # what nobody annotated is as the model reads it
    table = model.mask(table[torch.from_numpy(rng.permutation(len(table)))][:TABLE_ROWS])
    model.label_table[: len(table)] = table
    model.label_table[len(table) :] = float("nan")
    split = "validation" if len(database.labels("validation")) else "train"
    held = np.arange(len(database.labels(split)))[:READ_IMAGES]
    _, seen, critic = _read(model, database, split, held, config.image_px)
    reference = {"critic": _quantiles(critic)}
    for column, name in enumerate((*model.card.vocabulary, VALENCE, AROUSAL)):
        reference[name] = _quantiles(seen[:, column])
    summary = model.card.data.model_copy(update={"images": len(labels)})
    model.recard(model.card.model_copy(update={"reference": reference, "data": summary, "seen_images": seen_images}))


def fit_latents(model: AffectModel, latents: Tensor) -> None:
    """Mean and Cholesky factor of (N, Z) latents into the model: the prior that `generate` draws people from."""
    mean = latents.mean(0)
    centred = (latents - mean).double()
    covariance = centred.T @ centred / max(len(latents) - 1, 1)
    ridge = 1e-4 * covariance.diagonal().mean() + 1e-8  # fewer faces than dimensions leave it singular
    model.latent_mean.copy_(mean)
    model.latent_factor.copy_(
        torch.linalg.cholesky(covariance + ridge * torch.eye(len(mean), dtype=torch.double, device=mean.device)).float()
    )


def _read(model: AffectModel, database: Database, split: str, rows: np.ndarray, side_px: int) -> tuple[Tensor, Tensor, Tensor]:
    parts = list(_chunks(model, database, split, rows, side_px))
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts]), torch.cat([p[2] for p in parts])


def _chunks(model: AffectModel, database: Database, split: str, rows: np.ndarray, side_px: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    device = model.platt.device
    for start in range(0, len(rows), CHUNK_IMAGES):
        images = torch.from_numpy(database.images(split, rows[start : start + CHUNK_IMAGES], side_px)).to(device)
        reading = model.read(model.to_pixels(images))
        yield reading.latent, reading.labels, reading.critic


def _quantiles(values: Tensor) -> list[float]:
    return [round(float(q), 6) for q in np.quantile(values.double().cpu().numpy(), QUANTILES)]
