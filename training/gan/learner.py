"""What a step changes: networks, their average, their optimisers. Two kinds: our one-pass game and the paper's alternating one."""

import copy
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Generator, Tensor
from torch.optim import Adam

from affect.model import AffectModel
from affect.ssgan2019 import Ssgan2019
from training.gan import ssgan2019
from training.gan.checkpoint import update_average
from training.gan.config import TrainConfig
from training.gan.schedule import schedule
from training.gan.step import Pairs, step_losses

LATENT_MEMORY_IMAGES = 2048  # latest latents from which the critic's newcomers are drawn
LATENT_EVERY = 16  # steps between two looks at them


class Learner(Protocol):
    """A model in training; `average` is what is evaluated and served, `optimisers` go into the checkpoint by name."""

    model: AffectModel
    average: AffectModel
    optimisers: dict[str, Adam]

    def step(self, pairs: Pairs, *, progress: float, step: int, generator: Generator) -> dict[str, Tensor]:
        """Learn from a batch; returns the losses and the gradient's norm by name (scalars)."""


def learner_of(model: AffectModel, config: TrainConfig) -> Learner:
    """The learner of the model's kind."""
    return PaperGan(model, config) if isinstance(model, Ssgan2019) else CategoricalGan(model, config)


class CategoricalGan:
    """All losses in one sum, one optimiser, an exponential average of the weights."""

    def __init__(self, model: AffectModel, config: TrainConfig) -> None:
        self.model, self.config = model, config
        self.device = model.platt.device
        self.average = copy.deepcopy(model).eval().requires_grad_(False)
        fused = self.device.type == "cuda" or None
        self.optimiser = Adam(model.parameters(), lr=config.learning_rate, betas=config.betas, fused=fused)
        self.optimisers = {"adam": self.optimiser}
        self.decay = 0.5 ** (config.step_images / config.ema_half_life_images)

    def step(self, pairs: Pairs, *, progress: float, step: int, generator: Generator) -> dict[str, Tensor]:
        """One pass forward, one backward, one step, one move of the average."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * schedule(progress, self.config.warmup)
        with half(self.device.type):
            values = step_losses(self.model, pairs, self.config, progress=progress, step=step, generator=generator)
        self.optimiser.zero_grad(set_to_none=True)
        torch.stack(list(values.values())).sum().backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.optimiser.step()
        update_average(self.average, self.model, self.decay)
        if self.config.draws and step % LATENT_EVERY == 0:
            _refresh_latents(self.model, pairs.x)
        return {**values, "gradient_norm": norm}


class PaperGan:
    """The seed paper's game; no average: what is evaluated is what was trained, with dropout off."""

    def __init__(self, model: Ssgan2019, config: TrainConfig) -> None:
        self.model: AffectModel = model
        self.average: AffectModel = copy.deepcopy(model).eval().requires_grad_(False)
        self.config, self._ssgan = config, model
        rates = {"generator": ssgan2019.GENERATOR_RATE, "discriminator": ssgan2019.DISCRIMINATOR_RATE}
        self.optimisers = {
            name: Adam(getattr(model, name).parameters(), lr=rate * config.learning_rate, betas=config.betas)
            for name, rate in rates.items()
        }

    def step(self, pairs: Pairs, *, progress: float, step: int, generator: Generator) -> dict[str, Tensor]:
        """A face and its twin are two real pictures."""
        x, y = torch.cat([pairs.x, pairs.twin]), torch.cat([pairs.y, pairs.twin_y])
        values = ssgan2019.train_step(self._ssgan, x, y, self.optimisers, self.config.clip_norm, step=step, generator=generator)
        update_average(self.average, self.model, 0.0)
        return values


@torch.no_grad()
def _refresh_latents(model: AffectModel, x: Tensor) -> None:
    """Let the prior of newcomers follow the latents: a running mean and covariance."""
    z = model.read(x).latent
    keep = 1 - len(z) / LATENT_MEMORY_IMAGES
    mean = keep * model.latent_mean + (1 - keep) * z.mean(0)
    centred = z - mean
    covariance = keep * model.latent_factor @ model.latent_factor.T + (1 - keep) * (centred.T @ centred) / len(z)
    model.latent_mean.copy_(mean)
    ridge = 1e-4 * covariance.diagonal().mean() + 1e-6
    model.latent_factor.copy_(torch.linalg.cholesky(covariance + ridge * torch.eye(len(mean), device=z.device)))


def half(device: str) -> AbstractContextManager[Any]:
    """bf16 autocast where the machine multiplies in bf16; elsewhere it would only lose digits and time."""
    native = device == "cuda" or bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
    return torch.autocast(device, dtype=torch.bfloat16) if native else nullcontext()
