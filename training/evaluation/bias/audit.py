"""Which nuisance changes move the decisions? Measured in two ways, one of which checks the other.

Rendered: both versions of a face are drawn by the renderer, so the change is true and nothing else
differs. Latent: the generator makes the other version from a direction of its latent code, which
needs no renderer, so it can be asked of any data with attributes. Where both are possible, the
first validates the second. Shape letters: N faces, K Action Units, Z latent, A attributes.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from affect.labels import DIMENSIONS
from affect.model import AffectModel
from affect.picture_grid import picture_grid
from training.evaluation.bias.nuisances import (
    NUISANCES,
    NuisanceChange,
    NuisancePairs,
    render_pairs,
    true_rows,
)
from training.evaluation.core import metrics
from training.evaluation.core.metrics import Interval, mean_interval
from training.evaluation.core.predictions import U8, Decisions, Floats, decide, in_batches
from training.evaluation.recognition.recognition import presence
from training.renderer.expressions import VOCABULARY

EXAMPLES = 3
SMALLEST_SHARE = 0.05  # of faces, below which a kind is left out


@dataclass(frozen=True)
class Shift:
    """How one change moves the readings.

    Means over faces, intervals over people; NaN where the run does not learn the label.
    """

    flipped: Interval  # share of AU decisions that flip
    faces_flipped: Interval  # share of faces with at least one that flips
    valence: Interval  # mean change
    arousal: Interval
    va_moved: Interval  # mean |change| of valence and arousal
    # change of the share of faces on which each AU is called present, the largest first
    aus: dict[str, Interval]
    auc: tuple[Interval, Interval] | None  # mean AU AUC before and after, where the truth is known


@dataclass(frozen=True)
class Finding:
    """One nuisance, rendered."""

    name: str
    kind: str
    shift: Shift


@dataclass(frozen=True)
class Audit:
    """All findings, the strongest first.

    The floor is what another background and other noise do.
    """

    faces: int
    findings: tuple[Finding, ...]
    floor: float


def audit(model: AffectModel, *, people: int, seed: int) -> tuple[Audit, dict[str, U8]]:
    """Findings, and for each a picture (2 S, EXAMPLES * S, 3): faces whose decisions it turns most,
    before over after.
    """
    findings, pictures = [], {}
    for nuisance in NUISANCES:
        pairs = render_pairs(nuisance, people=people, seed=seed, size_px=model.card.image_px)
        before, after = decide(model, pairs.before), decide(model, pairs.after)
        findings.append(_finding(model, nuisance, pairs, (before, after), seed))
        pictures[nuisance.name] = _examples(pairs, before, after)
    findings.sort(key=lambda finding: -_strength(finding.shift))
    floor = next(_strength(one.shift) for one in findings if one.name == NUISANCES[-1].name)
    return Audit(people, tuple(findings), floor), pictures


def shift_of(
    model: AffectModel, before: Decisions, after: Decisions, truth: Floats | None, weights: Floats
) -> Shift:
    """How readings of N faces differ from those of their other versions.

    `truth` (N, K + 2) may be unknown.
    """
    flipped = (before.present != after.present).astype(np.float64)
    va_change = after.va - before.va
    aus = {}
    if model.card.learns_aus:
        change = after.present - before.present
        aus = {
            code: mean_interval(change[:, k], weights)
            for k, code in enumerate(model.card.vocabulary)
        }
    else:
        flipped[:] = np.nan
    if not model.card.learns_va:
        va_change[:] = np.nan
    return Shift(
        flipped=mean_interval(flipped.mean(1), weights),
        faces_flipped=mean_interval(
            np.where(np.isnan(flipped[:, 0]), np.nan, flipped.any(1)), weights
        ),
        valence=mean_interval(va_change[:, DIMENSIONS.index("valence")], weights),
        arousal=mean_interval(va_change[:, DIMENSIONS.index("arousal")], weights),
        va_moved=mean_interval(np.abs(va_change).mean(1), weights),
        aus=dict(sorted(aus.items(), key=lambda one: -abs(one[1].value))),
        auc=None
        if truth is None or not aus
        else (_auc(model, before, truth, weights), _auc(model, after, truth, weights)),
    )


def _finding(
    model: AffectModel,
    nuisance: NuisanceChange,
    pairs: NuisancePairs,
    decided: tuple[Decisions, Decisions],
    seed: int,
) -> Finding:
    weights = metrics.resamplings(np.arange(len(pairs.states)), np.random.default_rng(seed))
    truth = model.card.labels_of.project(true_rows(pairs).astype(np.float32), VOCABULARY).astype(
        np.float64
    )
    return Finding(nuisance.name, nuisance.kind, shift_of(model, *decided, truth, weights))


def _auc(model: AffectModel, decided: Decisions, truth: Floats, weights: Floats) -> Interval:
    present = presence(model.card, truth)
    aucs = [
        metrics.auc(present[:, k], decided.intensity[:, k], weights)
        for k in range(present.shape[1])
    ]
    return metrics.summary(metrics.mean_over_labels([one for one in aucs if np.isfinite(one[0])]))


def _strength(shift: Shift) -> float:
    """The rank of a finding: decisions that flip, or without AUs the change of VA."""
    return shift.flipped.value if np.isfinite(shift.flipped.value) else shift.va_moved.value


def _examples(pairs: NuisancePairs, before: Decisions, after: Decisions) -> U8:
    change = (
        np.abs(after.present - before.present).sum(1) + np.abs(after.va - before.va).sum(1) / 10
    )
    most_changed = np.argsort(-change, kind="stable")[:EXAMPLES]
    return picture_grid(
        [*pairs.before[most_changed], *pairs.after[most_changed]], len(most_changed)
    )


# -- the same by the generator ---------------------------------------------------------------------


@dataclass(frozen=True)
class LatentFinding:
    """One attribute moved along its direction of the latent code, everything drawn by the
    generator.
    """

    attribute: str
    # share of the asked change that is found again in the latent code of the drawn picture
    reached: float
    shift: Shift
    by_chance: float  # share of decisions that a random direction of the same length flips


@dataclass(frozen=True)
class Attribute:
    """One attribute of N faces as a number, and the two ends it is moved between."""

    name: str
    values: Floats  # (N,)
    start: float
    end: float


def attributes_of(groups: dict[str, NDArray[np.str_]]) -> list[Attribute]:
    """Group attributes as numbers: those that begin with one as they are, kinds as indicators
    against the commonest.
    """
    attributes = []
    for name, texts in groups.items():
        numbers = [re.match(r"\d+", text) for text in texts]
        kinds, counts = np.unique(texts, return_counts=True)
        title = name.replace("_", " ")
        if len(kinds) < 2:
            continue
        if all(numbers):
            values = np.array([float(number.group()) for number in numbers if number])
            start, end = np.quantile(values, [0.05, 0.95])
            if start < end:
                attributes.append(
                    Attribute(f"{title}: {start:g} to {end:g}", values, float(start), float(end))
                )
            continue
        common = kinds[counts.argmax()]
        for kind, count in zip(kinds, counts, strict=True):
            if kind != common and count >= SMALLEST_SHARE * len(texts):
                attributes.append(
                    Attribute(
                        f"{title}: {common} to {kind}", (texts == kind).astype(np.float64), 0.0, 1.0
                    )
                )
    return attributes


def directions(
    latents: Floats, attributes: Floats, labels: Floats, *, ridge: float = 1.0
) -> Floats:
    """(A, Z) change of the latent code per unit of each attribute, the others and the state held:
    ridge regression of latents (N, Z) on attributes (N, A) and labels (N, L).
    """
    on_data = np.concatenate([attributes, labels], axis=1)
    centred, spread = on_data - on_data.mean(0), on_data.std(0) + 1e-9
    scaled = centred / spread
    effect = np.linalg.solve(
        scaled.T @ scaled + ridge * np.eye(scaled.shape[1]), scaled.T @ (latents - latents.mean(0))
    )
    return np.asarray((effect / spread[:, None])[: attributes.shape[1]])


def latent_audit(
    model: AffectModel, images: U8, attributes: Sequence[Attribute], *, seed: int
) -> tuple[tuple[LatentFinding, ...], dict[str, U8]]:
    """Move each attribute of N faces from one end to the other in the latent code; their pictures
    as in `audit`.
    """
    if not attributes:
        return (), {}
    latents, labels = in_batches(model, lambda x: _encode(model, x), images)
    values = np.stack([attribute.values for attribute in attributes], axis=1)
    all_directions = directions(latents, values, labels)
    # (Z, A)
    probe = np.linalg.lstsq(np.c_[latents, np.ones(len(latents))], values, rcond=None)[0][:-1]
    rng = np.random.default_rng(seed)
    weights = metrics.resamplings(np.arange(len(images)), rng)
    unchanged = decide(model, _draw(model, latents, labels))
    findings, pictures = [], {}
    for a, attribute in enumerate(attributes):
        step = all_directions[a] * (attribute.end - attribute.start)
        first = latents + (attribute.start - values[:, a])[:, None] * all_directions[a]
        before, after = _draw(model, first, labels), _draw(model, first + step, labels)
        decided = decide(model, before), decide(model, after)
        measured = [
            in_batches(model, lambda x: _encode(model, x), one)[0] @ probe[:, a]
            for one in (before, after)
        ]
        random_direction = rng.normal(size=len(step))
        random_direction *= float(np.linalg.norm(step)) / float(np.linalg.norm(random_direction))
        chance = shift_of(
            model,
            unchanged,
            decide(model, _draw(model, latents + random_direction, labels)),
            None,
            weights,
        )
        reached = float((measured[1] - measured[0]).mean()) / (attribute.end - attribute.start)
        findings.append(
            LatentFinding(
                attribute.name, reached, shift_of(model, *decided, None, weights), _strength(chance)
            )
        )
        pictures[attribute.name] = _examples(NuisancePairs(before, after, []), *decided)
    return tuple(sorted(findings, key=lambda one: -_strength(one.shift))), pictures


def _encode(model: AffectModel, x: Tensor) -> tuple[Tensor, ...]:
    output = model.read(x)
    return output.latent, output.labels


def _draw(model: AffectModel, latents: Floats, labels: Floats) -> U8:
    parts: list[NDArray[np.uint8]] = []
    for start in range(0, len(latents), 64):
        z, y = (
            torch.from_numpy(rows[start : start + 64]).float().to(model.platt.device)
            for rows in (latents, labels)
        )
        with torch.inference_mode():
            parts.append(model.to_images(model.generate(z, y)).cpu().numpy())
    return np.concatenate(parts)
