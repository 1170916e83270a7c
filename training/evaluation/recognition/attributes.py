"""How well expression, pose and the two sides of a face are read.

Shape letters: N faces, E classes of expression, D one-sided Action Units.
"""

from dataclasses import dataclass

import numpy as np

from affect.card import ModelCard
from affect.labels import EXPRESSIONS, POSE
from training.evaluation.core import metrics
from training.evaluation.core.metrics import Interval, mean_interval, summary
from training.evaluation.core.predictions import Faces, Floats, Read

ONE_SIDED_BY = 0.4  # sides that truly differ by at least this are compared
FEWEST_FACES = 5


@dataclass(frozen=True)
class ExpressionFigures:
    """The likeliest class against the annotated one."""

    faces: int
    balanced_accuracy: Interval  # mean recall of the classes that faces show
    recall: dict[str, Interval]


@dataclass(frozen=True)
class PoseFigures:
    """Mean absolute error in degrees."""

    faces: int
    error: dict[str, Interval]  # yaw, pitch, roll


@dataclass(frozen=True)
class SideFigures:
    """One Action Unit on faces whose sides truly differ by ONE_SIDED_BY or more."""

    code: str
    faces: int
    right_sign: Interval  # share on which the stronger side is read as stronger


@dataclass(frozen=True)
class AttributeFigures:
    """What there is to be measured; None and empty where the model or the data lack it."""

    expression: ExpressionFigures | None
    pose: PoseFigures | None
    sides: tuple[SideFigures, ...]


def measure_attributes(
    card: ModelCard, faces: Faces, read: Read, weights: Floats
) -> AttributeFigures:
    """All of them; `weights` are of `metrics.resamplings`."""
    return AttributeFigures(
        _expression(card, faces, read, weights),
        _pose(faces, read, weights),
        _sides(card, faces, read, weights),
    )


def _expression(
    card: ModelCard, faces: Faces, read: Read, weights: Floats
) -> ExpressionFigures | None:
    truth = faces.annotations.expression
    known = truth >= 0
    if not card.expressions or not known.any():
        return None
    order = np.array([EXPRESSIONS.index(name) for name in card.expressions])
    predicted = order[read.expression.argmax(1)]
    recalls = {
        EXPRESSIONS[index]: metrics.recall(
            np.where(known, truth == index, np.nan),
            (predicted == index).astype(np.float64),
            weights,
        )
        for index in np.unique(truth[known])
    }
    return ExpressionFigures(
        int(known.sum()),
        summary(metrics.mean_over_labels(list(recalls.values()))),
        {name: summary(values) for name, values in recalls.items()},
    )


def _pose(faces: Faces, read: Read, weights: Floats) -> PoseFigures | None:
    truth = faces.annotations.pose.astype(np.float64)
    known = np.isfinite(truth).all(1)
    if not read.pose.shape[1] or not known.any():
        return None
    error = np.abs(read.pose - truth)
    return PoseFigures(
        int(known.sum()),
        {axis: mean_interval(error[:, k], weights) for k, axis in enumerate(POSE)},
    )


def _sides(card: ModelCard, faces: Faces, read: Read, weights: Floats) -> tuple[SideFigures, ...]:
    all_sides = []
    for column, code in enumerate(card.one_sided):
        truth = faces.annotations.sides[:, :, card.vocabulary.index(code)].astype(np.float64)
        tilt = truth[:, 0] - truth[:, 1]
        is_one_sided = np.abs(np.nan_to_num(tilt)) >= ONE_SIDED_BY
        if is_one_sided.sum() >= FEWEST_FACES:
            observed = read.sides[:, 0, column] - read.sides[:, 1, column]
            right = np.where(is_one_sided, np.sign(observed) == np.sign(tilt), np.nan)
            all_sides.append(
                SideFigures(code, int(is_one_sided.sum()), mean_interval(right, weights))
            )
    return tuple(all_sides)
