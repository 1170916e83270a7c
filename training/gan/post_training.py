"""After the last step: statistics of real faces for generation and for the card, read by the
averaged weights.
"""

import platform
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from affect.card import Calibration, DataSummary, ModelCard
from affect.labels import AROUSAL, VALENCE, mask_labels
from affect.model import TABLE_ROWS, AffectModel
from affect.precision import round_to_bfloat16
from training.database.annotations import Annotated
from training.database.card import DataCard
from training.database.reader import Database
from training.gan.config import TrainConfig
from training.renderer.affect_rule import weights_of

READ_IMAGES = 8192  # real faces that the latent's Gaussian and the label table come from
CHUNK_IMAGES = 256
QUANTILES = np.linspace(0, 1, 101)

INTENDED_USE = (
    "Research on dual-annotated expression data, on conditional generation and on "
    "counterfactual explanation",
    "Building and testing systems against the interface before training on licensed data",
)
LIMITS = (
    "A reading is a guess about muscle movements in a picture, not about what a person feels",
    "Not for decisions about people: hiring, teaching, policing, medicine; in the EU, "
    "Regulation (EU) 2024/1689 Article 5(1)(f) prohibits "
    "inferring emotions at work and in education, and other emotion recognition is "
    "high-risk (Annex III)",
    "Arousal from still pictures is weakly supported in the literature",
    "Pictures drawn with it are marked by signed claims, which any re-encoding loses, and by a "
    "watermark, which JPEG 60 and half the size do not remove, but turning, mirroring and crops "
    "below three quarters of a side do; no mark is no proof",
)
ONLY_RENDERED = (
    "Trained on rendered faces only; on photographs its readings have not been measured",
)
PHOTOGRAPHED = (
    "Learnt from photographs too, whose labels no person gave: pseudo-labels from geometry",
    "What draws from the latent alone learnt from renders only; photographs taught reading and the "
    "editing of a given face",
)
RENDERED_LIMITS = (
    "Valence and arousal follow the renderer's generative rule, not annotations of people",
    "Group figures compare rendered groups; they say nothing about real ones",
)


def limits_of(sources: Sequence[str], photographs: Sequence[str] = ()) -> tuple[str, ...]:
    """What the card must say of a model trained on these sources, and on photographs of those.

    A set of photographs that nobody annotated has the source "pictures".
    """
    if "rendered" not in sources:
        return LIMITS
    sources_known = PHOTOGRAPHED if "pictures" in (*sources, *photographs) else ()
    return LIMITS + (sources_known or (() if photographs else ONLY_RENDERED)) + RENDERED_LIMITS


def new_card(config: TrainConfig, data: DataCard, annotated: Annotated | None = None) -> ModelCard:
    """The card of a run that begins: sizes and sources; calibration and quality come with
    evaluation.
    """
    return ModelCard(
        version="1.0",
        labels=config.labels,
        vocabulary=data.vocabulary,
        image_px=config.image_px,
        network=config.network,
        **(vars(annotated) if annotated and config.network.reader else {}),
        affect_rule=data.affect_rule,
        rule_weights=weights_of(data.affect_rule, data.vocabulary),
        calibration={code: Calibration(threshold=0.5) for code in data.vocabulary},
        data=DataSummary(
            name=data.name,
            images=0,
            sources=tuple(data.sources),
            licence=data.licence,
            positive_intensity=data.positive_intensity,
        ),
        intended_use=INTENDED_USE,
        limits=limits_of(data.sources),
        preset=config.preset,
        seed=config.seed,
        libraries={
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    )


@torch.no_grad()
def post_train(
    model: AffectModel,
    database: Database,
    config: TrainConfig,
    *,
    seen_images: int,
    photographs: Database | None = None,
) -> None:
    """Round the weights, fit the latent's Gaussian, fill the label table, measure the reference
    quantiles. Changes `model` and its card.
    """
    round_to_bfloat16(model)  # first: what is measured from here on is what is served
    model.replace_card(
        model.card.model_copy(update={"mirrored": config.network.kind == "affectgan"})
    )  # the paper's model stays the paper's
    labels = mask_labels(database.labels("train"), config.labels)
    _fit(model, database, labels, config, photographs)
    reference = _reference(model, database, config, photographs)
    of_people = photographs.card if photographs else None
    model.replace_card(
        model.card.model_copy(
            update={
                "reference": reference,
                "data": _summary(model.card.data, len(labels), of_people),
                "limits": limits_of(database.card.sources, of_people.sources if of_people else ()),
                "seen_images": seen_images,
            }
        )
    )


def _fit(
    model: AffectModel,
    database: Database,
    labels: np.ndarray,
    config: TrainConfig,
    photographs: Database | None,
) -> None:
    """Fit the feature distribution behind realism; and, where the generator was trained or never
    fitted, the latent's Gaussian and the label table.
    """
    rng, side_px = np.random.default_rng(config.seed), config.image_px
    rows = np.sort(rng.permutation(len(labels))[:READ_IMAGES])
    if config.draws or bool(torch.isnan(model.label_table).all()):
        latents, read, _, features = _read(model, database, "train", rows, side_px)
        fit_latents(model, latents)
        _fill_table(model, labels[rows], read, rng)
    else:  # the latents did not change
        features = _features(model, database, "train", rows, side_px)
    fit_features(model, _with_people(model, features, photographs, "train", side_px))


def _reference(
    model: AffectModel, database: Database, config: TrainConfig, photographs: Database | None
) -> dict[str, list[float]]:
    """Quantiles of what the model reads off faces that it did not learn from, by name."""
    split = "validation" if len(database.labels("validation")) else "train"
    held_out = np.arange(len(database.labels(split)))[:READ_IMAGES]
    _, read, critic, features = _read(model, database, split, held_out, config.image_px)
    features = _with_people(model, features, photographs, split, config.image_px)
    reference = {
        "critic": _quantiles(critic),
        "strangeness": _quantiles(model.strangeness(features)),
    }
    for column, name in enumerate((*model.card.vocabulary, VALENCE, AROUSAL)):
        reference[name] = _quantiles(read[:, column])
    return reference


def _summary(data: DataSummary, images: int, photographs: DataCard | None) -> DataSummary:
    """What was learnt from, photographs named beside the database that they were shown with."""
    if photographs is None:
        return data.model_copy(update={"images": images})
    sources = dict.fromkeys((*data.sources, *photographs.sources))
    licence = f"{data.licence}; photographs: {photographs.licence}"
    is_same_licence = photographs.licence in data.licence
    return data.model_copy(
        update={
            "images": images,
            "sources": tuple(sources),
            "licence": data.licence if is_same_licence else licence,
        }
    )


def _fill_table(
    model: AffectModel, labels: np.ndarray, read: Tensor, rng: np.random.Generator
) -> None:
    """Label rows (N, K + 2) of real faces into the table; what nobody annotated is as the model
    reads it.
    """
    table = torch.from_numpy(labels).to(read)
    table = torch.where(torch.isnan(table), read, table)
    table = model.mask(table[torch.from_numpy(rng.permutation(len(table)))][:TABLE_ROWS])
    model.label_table[: len(table)] = table
    model.label_table[len(table) :] = float("nan")


def _with_people(
    model: AffectModel, features: Tensor, photographs: Database | None, split: str, side_px: int
) -> Tensor:
    """Features (N, H) and those of photographs, repeated until they are as many, so that both count
    as in distribution. Only realism learns from photographs here; the prior of latents never does.
    """
    if photographs is None or not photographs.count(split):
        return features
    rows = np.arange(photographs.count(split))[:READ_IMAGES]
    photograph_features = _features(model, photographs, split, rows, side_px)
    times = photograph_repeats(len(features), len(photograph_features))
    return torch.cat([features, photograph_features.repeat(times, 1)])


def photograph_repeats(faces: int, photographs: int) -> int:
    """How often photographs are counted beside other faces, so that both weigh about the same."""
    return max(1, faces // photographs)


def fit_latents(model: AffectModel, latents: Tensor) -> None:
    """Mean and Cholesky factor of (N, Z) latents into the model: the prior that `generate` draws
    people from.
    """
    mean, factor = _gaussian(latents, ridge=1e-4)
    model.latent_mean.copy_(mean)
    model.latent_factor.copy_(factor)


def fit_features(model: AffectModel, features: Tensor) -> None:
    """Mean and whitener of (N, H) features into the model: they define the distance behind realism.
    The ridge evens out directions that hardly vary.
    """
    model.replace_card(model.card.model_copy(update={"unit_features": True}))
    mean, factor = _gaussian(model.comparable(features), ridge=1e-2)
    model.feature_mean.copy_(mean)
    model.feature_whitener.copy_(torch.linalg.inv(factor.double()))


def _gaussian(rows: Tensor, *, ridge: float) -> tuple[Tensor, Tensor]:
    """Mean (D,) and lower Cholesky factor (D, D) of rows (N, D); the ridge is a share of the mean
    variance.
    """
    mean = rows.mean(0)
    centred = (rows - mean).double()
    covariance = centred.T @ centred / max(len(rows) - 1, 1)
    # fewer faces than dimensions leave it singular
    ridge = ridge * float(covariance.diagonal().mean()) + 1e-8
    return mean, torch.linalg.cholesky(
        covariance + ridge * torch.eye(len(mean), dtype=torch.double, device=mean.device)
    ).float()


def _read(
    model: AffectModel, database: Database, split: str, rows: np.ndarray, side_px: int
) -> list[Tensor]:
    """Latents, label rows, critic's scores and features of the given rows of a split."""
    outputs = (model.read(x) for x in _pixels(model, database, split, rows, side_px))
    parts = ((one.latent, one.labels, one.critic, one.features) for one in outputs)
    return [torch.cat(column) for column in zip(*parts, strict=True)]


def _features(
    model: AffectModel, database: Database, split: str, rows: np.ndarray, side_px: int
) -> Tensor:
    """The features of `_read` alone: where a reading network gives them, the trunk sees nothing."""
    pixels = _pixels(model, database, split, rows, side_px)
    return torch.cat([model.read_state(x).features for x in pixels])


def _pixels(
    model: AffectModel, database: Database, split: str, rows: np.ndarray, side_px: int
) -> Iterator[Tensor]:
    for start in range(0, len(rows), CHUNK_IMAGES):
        images = database.images(split, rows[start : start + CHUNK_IMAGES], side_px)
        yield model.to_pixels(torch.from_numpy(images).to(model.platt.device))


def _quantiles(values: Tensor) -> list[float]:
    return [round(float(q), 6) for q in np.quantile(values.double().cpu().numpy(), QUANTILES)]
