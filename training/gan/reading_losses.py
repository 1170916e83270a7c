"""Losses of the reading network: tensors in, a scalar tensor out. NaN or -1 is "not annotated".

Shape letters: R rows, K Action Units, D one-sided Action Units, E expressions.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F

from affect.reading_network import POSE_UNIT, ReadingOutput
from training.gan import losses


@dataclass(frozen=True)
class ReadingTargets:
    """What R faces show, as far as it is known."""

    labels: Tensor  # (R, K + 2)
    confidence: Tensor  # (R, K + 2) in [0, 1]
    expression: Tensor  # (R,) int64
    expression_weight: Tensor  # (R,) so that rare classes count
    pose: Tensor  # (R, 3) degrees
    sides: Tensor  # (R, 2, D) left, right

    def map(self, change: Callable[[Tensor], Tensor]) -> "ReadingTargets":
        """The same function of every tensor."""
        return ReadingTargets(*(change(getattr(self, field.name)) for field in fields(self)))

    def turned(self, mirrored: Tensor, degrees: Tensor) -> "ReadingTargets":
        """The targets of rows that were mirrored (R,) and then turned clockwise by degrees (R,)."""
        sign = torch.where(mirrored, -1.0, 1.0)
        yaw, pitch, roll = self.pose.unbind(1)
        pose = torch.stack([sign * yaw, pitch, sign * roll + degrees], dim=1)
        sides = torch.where(mirrored[:, None, None], self.sides.flip(1), self.sides)
        return ReadingTargets(
            self.labels, self.confidence, self.expression, self.expression_weight, pose, sides
        )


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Mean of values by weights of the same shape; 0 where nothing weighs."""
    return (values * weight).sum() / weight.sum().clamp(min=1e-6)


def au_reading_loss(logits: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Binary cross-entropy to intensities (R, K), each label by its confidence."""
    elementwise = F.binary_cross_entropy_with_logits(logits, torch.nan_to_num(y), reduction="none")
    return weighted_mean(elementwise, weight * ~torch.isnan(y))


def expression_loss(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy over the rows whose class is known. (R, E), (R,), (R,)."""
    per_face = F.cross_entropy(
        logits, target.long().clamp(min=0), reduction="none", label_smoothing=0.05
    )
    return weighted_mean(per_face, weight * (target >= 0))


def pose_loss(pose: Tensor, target: Tensor) -> Tensor:
    """Smooth L1 in units of 30 degrees over known angles. (R, 3) twice."""
    known = ~torch.isnan(target)
    elementwise = F.smooth_l1_loss(
        pose / POSE_UNIT, torch.nan_to_num(target) / POSE_UNIT, reduction="none", beta=0.1
    )
    return weighted_mean(elementwise, known.to(elementwise.dtype))


def twin_loss(output: ReadingOutput, y: Tensor, paired: Tensor) -> Tensor:
    """Squared error of the difference between row i and its twin i + B where `paired` (B,).

    Twins differ in nothing but the state, so this teaches the state apart from the person.
    """
    half = len(paired)
    read = torch.cat([torch.sigmoid(output.logits), output.va], dim=1)
    error = (read[:half] - read[half : 2 * half]) - (y[:half] - y[half : 2 * half])
    known = ~torch.isnan(error) & paired[:, None]
    return weighted_mean(torch.nan_to_num(error).square(), known.to(read.dtype))


def consistency_loss(a: ReadingOutput, b: ReadingOutput) -> Tensor:
    """Squared difference between two views of the same faces: intensities, VA, expression."""
    aus = (torch.sigmoid(a.logits) - torch.sigmoid(b.logits)).square().mean()
    va = (a.va - b.va).square().mean()
    if not a.expression.shape[1]:
        return aus + va
    classes = (a.expression.softmax(1) - b.expression.softmax(1)).square().sum(1).mean()
    return aus + va + classes


def reading_loss(
    output: ReadingOutput, targets: ReadingTargets, au_weight: float, va_weight: float
) -> Tensor:
    """The sum for R rows: AUs, VA, expression, pose and sides, as far as the network has them."""
    y, weight = targets.labels, targets.confidence
    total = au_weight * au_reading_loss(output.logits, y[:, :-2], weight[:, :-2])
    total = total + va_weight * losses.va_loss(output.va, y[:, -2:], weight[:, -2:].mean(1))
    if output.expression.shape[1]:
        total = total + 0.3 * expression_loss(
            output.expression, targets.expression, targets.expression_weight
        )
    if output.pose.shape[1]:
        total = total + pose_loss(output.pose, targets.pose)
    if output.sides.shape[2]:
        sides, y = output.sides.flatten(1), targets.sides.flatten(1)
        total = total + 0.5 * au_reading_loss(sides, y, torch.ones_like(sides))
    return total
