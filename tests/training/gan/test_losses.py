"""Losses against independent implementations and by hand."""

import math

import pytest
import torch
from torch import Tensor
from torchmetrics.functional.regression import concordance_corrcoef

from training.gan import losses

NAN = float("nan")


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_au_loss_is_the_mean_cross_entropy_of_what_is_annotated() -> None:
    logits = torch.tensor([[2.0, -1.0], [0.5, 3.0]])
    labels = torch.tensor([[1.0, NAN], [0.3, NAN]])
    expected = (
        -math.log(1 / (1 + math.exp(-2)))
        - 0.3 * math.log(1 / (1 + math.exp(-0.5)))
        - 0.7 * math.log(1 / (1 + math.exp(0.5)))
    ) / 2
    assert losses.au_loss(logits, labels).item() == pytest.approx(expected, rel=1e-5)


def test_au_loss_is_least_where_the_sigmoid_is_the_intensity() -> None:
    label = torch.tensor([[0.3]])
    at = {
        p: losses.au_loss(torch.logit(torch.tensor([[p]])), label).item() for p in (0.2, 0.3, 0.4)
    }
    assert at[0.3] == min(at.values())


def test_unannotated_labels_send_no_gradient() -> None:
    logits = _random(4, 3).requires_grad_()
    va = _random(4, 2, seed=1).requires_grad_()
    y = torch.full((4, 5), NAN)
    y[:, 0] = 0.5
    losses.label_loss(logits, va, y, 1.0, 1.0).backward()
    assert logits.grad is not None and va.grad is not None
    assert (
        logits.grad[:, 1:].abs().sum() == 0
        and logits.grad[:, 0].abs().sum() > 0
        and va.grad.abs().sum() == 0
    )


def test_ccc_agrees_with_torchmetrics() -> None:
    x, y = _random(50, 2), _random(50, 2, seed=1) * 0.7 + 0.2
    # torchmetrics divides (co)variances by N - 1; ours by N, as Lin does.
    ours = losses.ccc(x, y)
    expected = concordance_corrcoef(x, y)
    assert torch.allclose(ours, expected, atol=0.02)
    exact = [
        2
        * torch.cov(torch.stack([a, b]), correction=0)[0, 1]
        / (a.var(correction=0) + b.var(correction=0) + (a.mean() - b.mean()) ** 2)
        for a, b in zip(x.T, y.T, strict=True)
    ]
    assert torch.allclose(ours, torch.stack(exact), atol=1e-4)


def test_va_loss_of_a_perfect_reading_is_nothing() -> None:
    y = 2 * _random(20, 2) - 1
    assert losses.va_loss(y, y).item() == pytest.approx(0, abs=1e-4)


def test_relativistic_loss_falls_as_the_winner_leads() -> None:
    a, b = torch.tensor([1.0]), torch.tensor([0.0])
    assert losses.relativistic(a, b).item() == pytest.approx(math.log(1 + math.exp(-1)), rel=1e-5)
    assert losses.relativistic(a, b) < losses.relativistic(b, a)
    assert losses.relativistic(a, b, torch.full_like(a, 3)).item() == pytest.approx(
        3 * losses.relativistic(a, b).item()
    )


def test_gradient_penalty_of_a_linear_score_is_its_squared_weight() -> None:
    w = _random(3, 8, 8)
    penalty = losses.gradient_penalty(
        lambda x: (x * w).flatten(1).sum(1), _random(4, 3, 8, 8, seed=1)
    )
    assert penalty.item() == pytest.approx(w.square().sum().item(), rel=1e-5)


def test_reconstruction_weighs_changed_pixels_more() -> None:
    true, start = torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16)
    start[..., :4, :4] = 0.8
    wrong_there, wrong_elsewhere = true.clone(), true.clone()
    wrong_there[..., :4, :4] = 0.2
    wrong_elsewhere[..., 8:12, 8:12] = 0.2
    ratio = losses.reconstruction_loss(wrong_there, true, start) / losses.reconstruction_loss(
        wrong_elsewhere, true, start
    )
    assert ratio.item() == pytest.approx(11, rel=0.05)


def test_reconstruction_without_a_change_is_the_mean_absolute_error_over_scales() -> None:
    true, drawn = torch.zeros(2, 3, 8, 8), torch.full((2, 3, 8, 8), 0.2)
    assert losses.reconstruction_loss(drawn, true, true).item() == pytest.approx(0.1, rel=1e-5)


def test_identity_loss_prefers_twins_side_by_side() -> None:
    people = torch.nn.functional.normalize(
        torch.randn(6, 8, generator=torch.Generator().manual_seed(0)), dim=1
    )
    paired = torch.ones(6, dtype=torch.bool)
    assert losses.identity_loss(people, people, paired) < losses.identity_loss(
        people, people.roll(1, 0), paired
    )


def test_feature_loss_ignores_the_scale_of_a_level() -> None:
    true = [_random(2, 4, 8, 8) + 1, _random(2, 8, 4, 4) + 1]
    drawn = [1.1 * level for level in true]
    assert losses.feature_loss(drawn, true).item() == pytest.approx(0.1, rel=0.01)
    assert losses.feature_loss(
        [100 * a for a in drawn], [100 * b for b in true]
    ).item() == pytest.approx(0.1, rel=0.01)
