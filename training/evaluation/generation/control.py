"""How well a model draws what it is asked for, graded by the judge: cross-talk and the circumplex.

Shape letters: P people, S side in px, K Action Units, D points of the circumplex, Z latent.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from affect.model import AffectModel
from training.evaluation.core import metrics
from training.evaluation.core.metrics import Interval, summary
from training.evaluation.core.predictions import U8, Floats
from training.evaluation.judge.evaluator import Control, JudgeEvaluator

CROSS_TALK_PEOPLE = 32
RAISED = 0.9  # intensity to which cross-talk raises an AU
DIRECTIONS, RADII, CIRCUMPLEX_PEOPLE = 12, (0.4, 0.8), 16


@dataclass(frozen=True)
class CrossTalk:
    """Row k: change of the judge's reading of every AU when AU k alone is raised from 0 to
    RAISED.
    """

    aus: tuple[str, ...]
    matrix: tuple[tuple[float, ...], ...]
    wanted: Interval  # mean of the diagonal, over people
    unwanted: Interval  # mean of |off the diagonal|


@dataclass(frozen=True)
class CircumplexPoint:
    """What was asked, and the mean and spread of what the judge read over people."""

    asked: tuple[float, float]
    read: tuple[float, float]
    spread: tuple[float, float]


@dataclass(frozen=True)
class Direction:
    """One direction of the circumplex: which share of the way asked for the judge sees gone."""

    degrees: int  # 0 is pleasure, 90 is arousal
    reach: Interval


def cross_talk(
    model: AffectModel, evaluator: JudgeEvaluator, generator: Generator
) -> CrossTalk | None:
    """Raise one AU at a time on the same people at rest; None in a run without AUs."""
    aus = model.card.vocabulary
    if not model.card.learns_aus or not aus:
        return None
    rest = np.zeros((1 + len(aus), len(aus) + 2))
    rest[1:, :-2] = RAISED * np.eye(len(aus))
    rest[:, -2:] = np.nan
    latents = model.sample_latents(CROSS_TALK_PEOPLE, generator)
    read = np.stack(
        [evaluator.read(_of_people(model, latents, row, generator))[0][:, :-2] for row in rest]
    )  # (1 + K, P, K)
    change = (read[1:] - read[:1]).swapaxes(1, 2)  # (K, K, P)
    diagonal = np.eye(len(aus), dtype=bool)
    weights = metrics.resamplings(np.arange(len(latents)), np.random.default_rng(0))
    of_person = np.stack(
        [np.nanmean(change[diagonal], axis=0), np.nanmean(np.abs(change[~diagonal]), axis=0)]
    )  # (2, P)
    wanted, unwanted = (summary(weights @ values / weights.sum(1)) for values in of_person)
    return CrossTalk(
        aus,
        tuple(tuple(round(float(v), 4) for v in row) for row in change.mean(2)),
        wanted,
        unwanted,
    )


def circumplex(
    model: AffectModel, evaluator: JudgeEvaluator, generator: Generator
) -> tuple[tuple[CircumplexPoint, ...], Control, tuple[Direction, ...]] | None:
    """Ask for directions of valence and arousal, and nothing else; None in a run without them."""
    if not model.card.learns_va:
        return None
    angles = np.arange(DIRECTIONS) * 2 * np.pi / DIRECTIONS
    requested_points = [(r * np.cos(a), r * np.sin(a)) for r in RADII for a in angles]
    latents = model.sample_latents(CIRCUMPLEX_PEOPLE, generator)
    read = []
    for point in requested_points:
        row = np.full(len(model.card.vocabulary) + 2, np.nan)
        row[-2:] = point
        read.append(evaluator.read(_of_people(model, latents, row, generator))[0][:, -2:])
    points = tuple(
        CircumplexPoint(p, _pair(s.mean(0)), _pair(s.std(0)))
        for p, s in zip(requested_points, read, strict=True)
    )
    requested = np.full(
        (len(requested_points) * len(latents), len(model.card.vocabulary) + 2), np.nan
    )
    requested[:, -2:] = np.repeat(requested_points, len(latents), axis=0)
    rows = np.full_like(requested, np.nan)
    rows[:, -2:] = np.concatenate(read)
    control = evaluator.control(
        requested, rows, np.tile(np.arange(len(latents)), len(requested_points))
    )
    return points, control, _directions(np.array(requested_points), np.stack(read))


def _directions(requested_points: Floats, read: Floats) -> tuple[Direction, ...]:
    """Reach of every direction from requested_points (D, 2) and what was read there of P people
    (D, P, 2), from the middle of all readings on.
    """
    centre, weights = (
        read.mean((0, 1)),
        metrics.resamplings(np.arange(read.shape[1]), np.random.default_rng(0)),
    )
    # (D, P)
    progress = ((read - centre) * requested_points[:, None]).sum(2) / (requested_points**2).sum(1)[
        :, None
    ]
    degrees = (
        np.rint(np.degrees(np.arctan2(requested_points[:, 1], requested_points[:, 0]))).astype(int)
        % 360
    )
    return tuple(
        Direction(int(d), metrics.mean_interval(progress[degrees == d].mean(0), weights))
        for d in np.unique(degrees)
    )


def _of_people(model: AffectModel, latents: Tensor, row: Floats, generator: Generator) -> U8:
    """Every person in one asked state (K + 2,)."""
    labels = (
        torch.from_numpy(np.repeat(row[None], len(latents), axis=0)).float().to(model.platt.device)
    )
    with torch.inference_mode():
        images = model.to_images(
            model.generate(latents, model.sample_labels(model.mask(labels), generator))
        )
    return np.asarray(images.cpu().numpy())


def _pair(values: Floats) -> tuple[float, float]:
    return (round(float(values[0]), 4), round(float(values[1]), 4))
