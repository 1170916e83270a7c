"""How the seed paper's networks are trained (facts from the first author's code), as a baseline for
ours.

Kept, because they make the model what it is: the saturating loss of the generator, generated faces
with all-zero label targets, no label loss for the generator, Huber loss between unrelated real and
drawn pictures, five generator steps a discriminator step, no augmentation. Not kept, because they
are faults of the code around it: dropout and batch statistics at evaluation, tanh on outputs that
were fitted without it, a generator in [-1, 1] against pictures in [0, 1], and targets without a
mask. Targets are intensities, as for our model.

Shape letters: B pictures, K Action Units.
"""

import torch
from torch import Generator, Tensor
from torch.nn import functional as F
from torch.optim import Adam

from affect.ssgan2019 import Ssgan2019
from training.gan import losses
from training.gan.guarded_step import step_if_finite

GENERATOR_STEPS = 5  # a discriminator step
GENERATOR_RATE, DISCRIMINATOR_RATE = 1.0, 0.5  # of the config's learning rate
HUBER_WEIGHT, HUBER_STEPS = 10.0, 1_500  # it falls linearly to nothing
NOISE_SEED_RANGE = 2**62


def discriminator_loss(model: Ssgan2019, x: Tensor, y: Tensor, drawn: Tensor) -> dict[str, Tensor]:
    """Labels and "not drawn" of real faces x (B, 3, 32, 32), y (B, K + 2); zeros and "drawn" of
    drawn ones; all weights 1.
    """
    labels, logit, _ = model.outputs(x)
    fake_labels, fake_logit, _ = model.outputs(drawn)
    zeros = torch.where(model.known, 0.0, float("nan")).expand_as(fake_labels)
    return {
        "label": _labels(labels, y),
        "drawn_label": _labels(fake_labels, zeros),
        "critic": _cross_entropy(logit, 0.0) + _cross_entropy(fake_logit, 1.0),
    }


def generator_loss(model: Ssgan2019, x: Tensor, drawn: Tensor, step: int) -> dict[str, Tensor]:
    """log P(drawn), to be made small (it saturates), and a Huber loss that pulls each picture to an
    unrelated real one.
    """
    weight = HUBER_WEIGHT * max(0.0, 1 - step / HUBER_STEPS)
    return {
        "generator": F.logsigmoid(model.outputs(drawn)[1]).mean(),
        "huber": weight * F.huber_loss(drawn, x),
    }


def train_step(
    model: Ssgan2019,
    x: Tensor,
    y: Tensor,
    optimisers: dict[str, Adam],
    clip_norm: float,
    *,
    step: int,
    generator: Generator,
) -> dict[str, Tensor]:
    """One step of the discriminator and five of the generator on real faces x (B, 3, 32, 32) with
    labels y (B, K + 2).
    """
    model.train()
    with torch.random.fork_rng(devices=[] if x.device.type == "cpu" else [x.device]):
        # dropout draws from here
        torch.manual_seed(int(torch.randint(0, NOISE_SEED_RANGE, (), generator=generator)))
        no_labels = y[:, :0]
        with torch.no_grad():
            drawn = model.generate(model.sample_latents(len(x), generator), no_labels)
        values = discriminator_loss(model, x, y, drawn)
        norm = descend(optimisers["discriminator"], values, clip_norm)
        for _ in range(GENERATOR_STEPS):
            drawn = model.generate(model.sample_latents(len(x), generator), no_labels)
            played = generator_loss(model, x, drawn, step)
            descend(optimisers["generator"], played, clip_norm)
    return {**values, **played, "gradient_norm": norm}


def descend(optimiser: Adam, values: dict[str, Tensor], clip_norm: float) -> Tensor:
    """One step of the optimiser down the sum of the values; returns the gradient's norm before
    clipping.
    """
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    total = torch.stack(list(values.values())).sum()
    # of these alone: the other network stays as it is
    gradients = torch.autograd.grad(total, parameters)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    norm = torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
    step_if_finite(optimiser, norm)
    return norm


def _labels(outputs: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of the AUs + squared error of valence and arousal over what is annotated; (B, K
    + 2) twice.
    """
    known = ~torch.isnan(y[:, -2:])
    squared = (outputs[:, -2:] - torch.nan_to_num(y[:, -2:])) ** 2 * known
    return losses.au_loss(outputs[:, :-2], y[:, :-2]) + squared.sum() / known.sum().clamp(min=1)


def _cross_entropy(logit: Tensor, drawn: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logit, torch.full_like(logit, drawn))
