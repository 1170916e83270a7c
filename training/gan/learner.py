"""What a step changes: networks, their average, their optimisers. Two kinds: one-pass adversarial
training, and the paper's alternating one.
"""

import copy
from typing import Protocol

import torch
from torch import Tensor
from torch.optim import Adam, AdamW

from affect.model import AffectModel
from affect.precision import mixed
from affect.ssgan2019 import Ssgan2019
from training.gan import ssgan2019
from training.gan.checkpoint import RunError, update_average
from training.gan.config import TrainConfig
from training.gan.distributed import SINGLE_PROCESS, Ranks, StepRandom, synchronise_norms
from training.gan.guarded_step import step_if_finite
from training.gan.schedule import schedule
from training.gan.step import Pairs, step_losses

LATENT_MEMORY_IMAGES = 2048  # latest latents that fit the prior of new faces for the critic
LATENT_EVERY = 16  # steps between two fits


class Learner(Protocol):
    """A model in training; `average` is what is evaluated and served, `optimisers` go into the
    checkpoint by name.
    """

    model: AffectModel
    average: AffectModel
    optimisers: dict[str, Adam]

    def step(
        self, pairs: Pairs, *, progress: float, step: int, rng: StepRandom
    ) -> dict[str, Tensor]:
        """Learn from a batch; returns the losses and the gradient's norm by name (scalars)."""


def learner_of(model: AffectModel, config: TrainConfig, ranks: Ranks = SINGLE_PROCESS) -> Learner:
    """The learner of the model's kind.

    Raises RunError for the seed paper's on several processes: its losses are of one batch.
    """
    if isinstance(model, Ssgan2019):
        if ranks.world > 1:
            raise RunError(
                f"preset ssgan2019 trains on one process, not on {ranks.world}: start it "
                "without torchrun"
            )
        return PaperGan(model, config)
    return CategoricalGan(model, config, ranks)


class CategoricalGan:
    """All losses in one sum and one backward pass; an exponential average of the weights.

    The reading network has an optimiser of its own: no adversarial loss reaches its weights.
    """

    def __init__(
        self, model: AffectModel, config: TrainConfig, ranks: Ranks = SINGLE_PROCESS
    ) -> None:
        self.model, self.config, self.ranks = model, config, ranks
        self.device = model.platt.device
        self.average = copy.deepcopy(model).eval().requires_grad_(False)
        reader = [] if model.reader is None else list(model.reader.parameters())
        reader_ids = {id(parameter) for parameter in reader}
        adversarial_parameters = [
            parameter for parameter in model.parameters() if id(parameter) not in reader_ids
        ]
        self.optimisers: dict[str, Adam] = {}
        if config.draws or model.reader is None:
            self.optimisers["adam"] = Adam(
                adversarial_parameters, lr=config.learning_rate, betas=config.betas, fused=True
            )
        if model.reader is not None and config.reads:
            synchronise_norms(model.reader, ranks)
            self.optimisers["reader"] = AdamW(
                reader, lr=config.reader_rate, weight_decay=config.reader_decay, fused=True
            )
        self.rates = {"adam": config.learning_rate, "reader": config.reader_rate}
        self.clips = {"adam": config.clip_norm, "reader": config.reader_clip}
        self.decay = 0.5 ** (config.step_images / config.ema_half_life_images)
        model.eval()  # batch statistics are learnt within `learning` alone

    def step(
        self, pairs: Pairs, *, progress: float, step: int, rng: StepRandom
    ) -> dict[str, Tensor]:
        """One pass forward, one backward, one step of each optimiser, one move of the average."""
        with mixed(self.device.type):
            values = step_losses(
                self.model, pairs, self.config, progress=progress, step=step, rng=rng
            )
        self.model.zero_grad(set_to_none=True)
        torch.stack(list(values.values())).sum().backward()
        self.ranks.sum_gradients(self.model.parameters())
        norms = []
        for name, optimiser in self.optimisers.items():
            for group in optimiser.param_groups:
                group["lr"] = self.rates[name] * schedule(progress, self.config.warmup)
            parameters = [p for group in optimiser.param_groups for p in group["params"]]
            norms.append(torch.nn.utils.clip_grad_norm_(parameters, self.clips[name]))
            step_if_finite(optimiser, norms[-1])
        update_average(self.average, self.model, self.decay)
        if self.config.draws and step % LATENT_EVERY == 0:
            rendered = len(pairs.x) - pairs.photographs
            _refresh_latents(self.model, pairs.x[:rendered], self.ranks)
        return {**values, "gradient_norm": torch.stack(norms).sum()}


class PaperGan:
    """The seed paper's alternating training; no average: what is evaluated is what was trained,
    with dropout off.
    """

    def __init__(self, model: Ssgan2019, config: TrainConfig) -> None:
        self.model: AffectModel = model
        self.average: AffectModel = copy.deepcopy(model).eval().requires_grad_(False)
        self.config, self._ssgan = config, model
        rates = {
            "generator": ssgan2019.GENERATOR_RATE,
            "discriminator": ssgan2019.DISCRIMINATOR_RATE,
        }
        self.optimisers = {
            name: Adam(
                getattr(model, name).parameters(),
                lr=rate * config.learning_rate,
                betas=config.betas,
                fused=True,
            )
            for name, rate in rates.items()
        }

    def step(
        self, pairs: Pairs, *, progress: float, step: int, rng: StepRandom
    ) -> dict[str, Tensor]:
        """A face and its twin are two real pictures."""
        x, y = torch.cat([pairs.x, pairs.twin]), torch.cat([pairs.y, pairs.twin_y])
        values = ssgan2019.train_step(
            self._ssgan,
            x,
            y,
            self.optimisers,
            self.config.clip_norm,
            step=step,
            generator=rng.generator,
        )
        update_average(self.average, self.model, 0.0)
        return values


@torch.no_grad()
def _refresh_latents(model: AffectModel, x: Tensor, ranks: Ranks) -> None:
    """Fit the prior of new faces to the latest latents: a running mean and covariance."""
    z = ranks.gather(model.encode(x, None, None).latent)
    keep = 1 - len(z) / LATENT_MEMORY_IMAGES
    mean = keep * model.latent_mean + (1 - keep) * z.mean(0)
    centred = z - mean
    covariance = keep * model.latent_factor @ model.latent_factor.T + (1 - keep) * (
        centred.T @ centred
    ) / len(z)
    model.latent_mean.copy_(mean)
    ridge = 1e-4 * covariance.diagonal().mean() + 1e-6
    # the ridge keeps it definite
    factor, _ = torch.linalg.cholesky_ex(covariance + ridge * torch.eye(len(mean), device=z.device))
    model.latent_factor.copy_(factor)
