"""One way to answer questions about faces, graded: by the model, by the judge, by the pixels.

Shape letters: N questions, S side in px, K Action Units, F features of the judge.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from affect.counterfactual.search import progress
from affect.model import AffectModel
from training.evaluation.core.metrics import Interval
from training.evaluation.core.predictions import U8, Faces, Floats, batches, in_batches
from training.evaluation.explanation import baselines
from training.evaluation.explanation.questions import Asked
from training.evaluation.generation.generation import JudgeEvaluator
from training.evaluation.judge import distances
from training.evaluation.recognition.recognition import presence

CHANGED = 0.1  # a reading that moves by more counts as changed


@dataclass(frozen=True)
class _Look:
    """What the model sees in N pictures."""

    labels: Floats  # (N, K + 2)
    identity: Floats  # (N, E)
    realism: Floats  # (N,)

    @classmethod
    def at(cls, model: AffectModel, images: U8) -> "_Look":
        def one(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            output = model.read(x)
            return output.labels, output.identity, model.calibrate(output).realism

        return cls(*in_batches(model, one, images))


@dataclass(frozen=True)
class JudgeThresholds:
    """What the judge and the identity embedding are held to."""

    # (K,) above which the judge's reading of an AU is "present": as often as it truly is
    thresholds: Floats
    stranger_distance: float  # in the judge's features
    identity: float  # cosine at which as many twins are parted as strangers are joined

    @classmethod
    def of(
        cls, model: AffectModel, evaluator: JudgeEvaluator, faces: Faces, rng: np.random.Generator
    ) -> "JudgeThresholds":
        labels, features = evaluator.read(faces.images)
        truth = presence(model.card, faces.truth)
        shares = np.nanmean(truth, axis=0)
        thresholds = np.array(
            [np.quantile(labels[:, k], 1 - share) for k, share in enumerate(shares)]
        )
        strangers = rng.permutation(len(faces))
        apart = float(np.linalg.norm(features - features[strangers], axis=1).mean())
        return cls(
            thresholds,
            apart,
            _equal_error(_Look.at(model, faces.images).identity, faces, strangers),
        )


@dataclass(frozen=True)
class Graded:
    columns: dict[str, Floats]  # (N,) each, NaN where a figure does not apply
    frechet: Interval


def grade(
    model: AffectModel,
    evaluator: JudgeEvaluator,
    asked: Asked,
    shown: U8,
    thresholds: JudgeThresholds,
    rng: np.random.Generator,
) -> Graded:
    images, index = asked.faces.images, np.arange(len(shown))
    before, features = evaluator.read(images)
    after, shown_features = evaluator.read(shown)
    fact, seen = _Look.at(model, images), _Look.at(model, shown)
    read_before, read_after = fact.labels, seen.labels
    aus = len(model.card.vocabulary)
    margin = _margins(model, asked, shown)
    valid = margin > 0
    is_au = asked.column < aus
    moved = (after - before)[index, asked.column]
    wish = np.where(
        is_au,
        2 * (asked.target >= 0.5) - 1,
        np.sign(asked.target - read_before[index, asked.column]),
    )
    agreement, knows = _agreement(
        model, asked, before, after, read_before, read_after, wish, thresholds
    )
    others = np.abs(after - before)[:, :aus] > CHANGED
    others[index[is_au], asked.column[is_au]] = False
    same = (fact.identity * seen.identity).sum(1)
    columns = {
        "validity": valid.astype(np.float64),
        "agreement": np.where(valid & knows, agreement, np.nan),
        "moved": np.where(valid & np.isfinite(moved), wish * moved > 0, np.nan),
        "proximity": np.abs(shown.astype(np.float64) - images).mean((1, 2, 3)) / 255,
        "feature_distance": np.linalg.norm(shown_features - features, axis=1)
        / thresholds.stranger_distance,
        "identity": same,
        "identity_kept": (same > thresholds.identity).astype(np.float64),
        "labels_changed": others.sum(1).astype(np.float64),
        "realism": seen.realism,
    }
    half = len(shown) // 2
    return Graded(columns, distances.frechet_interval(features[half:], shown_features[:half], rng))


def _agreement(
    model: AffectModel,
    asked: Asked,
    before: Floats,
    after: Floats,
    read_before: Floats,
    read_after: Floats,
    wish: Floats,
    thresholds: JudgeThresholds,
) -> tuple[Floats, NDArray[np.bool_]]:
    """(N,) whether the judge's decision turns too, and whether it could: an AU that the judge saw
    as the model did before.

    Valence and arousal: the judge's reading moves the same way by at least half of what the model's
    does.
    """
    aus, index = len(model.card.vocabulary), np.arange(len(before))
    threshold = np.concatenate([thresholds.thresholds, [0.0, 0.0]])[asked.column]
    saw, sees = before[index, asked.column], after[index, asked.column]
    wanted = asked.target >= 0.5
    turned = (sees >= threshold) == wanted
    knows = (saw >= threshold) != wanted
    followed = wish * (sees - saw) >= 0.5 * np.abs(read_after - read_before)[index, asked.column]
    is_au = asked.column < aus
    return np.where(is_au, turned, followed).astype(np.float64), np.where(
        is_au, knows, True
    ) & np.isfinite(saw)


def _margins(model: AffectModel, asked: Asked, shown: U8) -> Floats:
    """(N,) above 0 where the model reads `shown` as was asked."""
    margins = []
    device = model.platt.device
    for rows in batches(len(shown)):
        column, target = (
            torch.from_numpy(asked.column[rows]).to(device),
            torch.from_numpy(asked.target[rows]).float().to(device),
        )
        question = baselines.rows_of(model, asked.faces.images[rows], column, target)
        with torch.inference_mode():
            output = model.read(model.to_pixels(torch.from_numpy(shown[rows]).to(device)))
            margins.append(progress(model, output, question)[0].double().cpu().numpy())
    return np.concatenate(margins)


def _equal_error(identities: Floats, faces: Faces, strangers: NDArray[np.intp]) -> float:
    """The cosine at which twins fall below as often as strangers lie above; 0.5 without twins."""
    paired = faces.twin_of >= 0
    if not paired.any():
        return 0.5
    same = np.sort((identities * identities[faces.twin_of]).sum(1)[paired])
    other = faces.identity != faces.identity[strangers]
    apart = np.sort((identities * identities[strangers]).sum(1)[other])
    at = np.linspace(-1, 1, 401)
    missed, joined = (
        np.searchsorted(same, at) / len(same),
        1 - np.searchsorted(apart, at) / max(len(apart), 1),
    )
    return float(at[np.abs(missed - joined).argmin()])
