"""Losses of the reading network against numpy, and targets that turn with their picture."""

import numpy as np
import torch

from affect.reading_network import ReadingOutput
from training.gan.reading_losses import (
    ReadingTargets,
    au_reading_loss,
    consistency_loss,
    expression_loss,
    pose_loss,
    twin_loss,
)

RNG = np.random.default_rng(0)
NAN = float("nan")


def _output(rows: int, **parts: torch.Tensor) -> ReadingOutput:
    whole = {
        "logits": torch.zeros(rows, 2),
        "va": torch.zeros(rows, 2),
        "expression": torch.zeros(rows, 0),
        "pose": torch.zeros(rows, 0),
        "sides": torch.zeros(rows, 2, 0),
        "features": torch.zeros(rows, 1),
    }
    return ReadingOutput(**(whole | parts))


def test_au_loss_is_the_confident_mean_of_cross_entropies() -> None:
    logits, y, weight = RNG.normal(size=(5, 3)), RNG.random((5, 3)), RNG.random((5, 3))
    y[0, 0] = NAN
    p = 1 / (1 + np.exp(-logits))
    each = -(y * np.log(p) + (1 - y) * np.log(1 - p))
    known = ~np.isnan(y)
    expected = (each[known] * weight[known]).sum() / weight[known].sum()
    loss = au_reading_loss(*(torch.from_numpy(a) for a in (logits, y, weight)))
    assert np.isclose(float(loss), expected)


def test_faces_of_unknown_expression_weigh_nothing() -> None:
    logits = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    target, weight = torch.tensor([1, -1, 3, -1]), torch.ones(4)
    some = expression_loss(logits[[0, 2]], target[[0, 2]], weight[[0, 2]])
    assert torch.allclose(expression_loss(logits, target, weight), some)


def test_pose_loss_is_a_huber_loss_in_units_of_thirty_degrees() -> None:
    pose, target = torch.tensor([[30.0, 0.0, 1.5]]), torch.tensor([[0.0, NAN, 0.0]])
    far, near = 1.0 - 0.05, 0.05**2 / (2 * 0.1)
    assert np.isclose(float(pose_loss(pose, target)), (far + near) / 2)


def test_twin_loss_sees_differences_between_twins_alone() -> None:
    logits = torch.tensor([[0.0, 0.0], [9.0, -9.0], [2.0, 0.0], [0.0, 0.0]])
    y = torch.tensor([[0.2, 0.1, NAN, NAN], [0.0] * 4, [0.7, 0.1, NAN, NAN], [1.0] * 4])
    loss = twin_loss(_output(4, logits=logits), y, torch.tensor([True, False]))
    off = (0.5 - 1 / (1 + np.exp(-2.0))) + 0.5
    assert np.isclose(float(loss), off**2 / 2)


def test_views_that_are_read_alike_are_consistent() -> None:
    a = _output(3, logits=torch.randn(3, 2, generator=torch.Generator().manual_seed(0)))
    assert float(consistency_loss(a, a)) == 0 and float(consistency_loss(a, _output(3))) > 0


def test_targets_turn_with_their_picture() -> None:
    targets = ReadingTargets(
        labels=torch.zeros(2, 4),
        confidence=torch.ones(2, 4),
        expression=torch.zeros(2, dtype=torch.long),
        expression_weight=torch.ones(2),
        pose=torch.tensor([[10.0, 5.0, 3.0], [10.0, 5.0, 3.0]]),
        sides=torch.tensor([[[0.9], [0.1]], [[0.9], [0.1]]]),
    )
    turned = targets.turned(torch.tensor([False, True]), torch.tensor([4.0, 0.0]))
    assert turned.pose.tolist() == [[10, 5, 7], [-10, 5, -3]]
    assert turned.sides[1].flatten().tolist() == targets.sides[1].flip(0).flatten().tolist()
