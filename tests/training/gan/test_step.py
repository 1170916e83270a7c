"""A step waits for nothing, and a gradient that is not finite spoils nothing."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from affect.factory import initialise_model
from affect.model import smoke_card
from training.gan.config import preset
from training.gan.distributed import StepRandom
from training.gan.learner import CategoricalGan
from training.gan.step import Pairs, step_losses

CONFIG = replace(preset("smoke"), batch_pairs=4, penalty_rows=4)
WAITING = (
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::masked_select",
    "aten::is_nonzero",
    "aten::equal",
    "aten::unique",
)


class Waits(TorchDispatchMode):
    """Names the operations for whose result the program would have to wait on a GPU."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.waiting: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = func.name()
        picked = name.startswith("aten::index") and any(
            isinstance(i, Tensor) and i.dtype == torch.bool
            for i in (args[1] if len(args) > 1 else ())
        )
        if name.startswith(WAITING) or picked:
            self.waiting.append(name)
        return func(*args, **(kwargs or {}))


def _pairs(device: str = "cpu") -> Pairs:
    chance = torch.Generator().manual_seed(5)
    labels = len(smoke_card().vocabulary) + 2
    x, twin = (2 * torch.rand(4, 3, 32, 32, generator=chance) - 1 for _ in range(2))
    y, twin_y = (torch.rand(4, labels, generator=chance) for _ in range(2))
    y[0, :3] = float("nan")
    has_twin = torch.tensor([True, True, False, True])
    return Pairs(
        x.to(device), y.to(device), twin.to(device), twin_y.to(device), has_twin.to(device)
    )


def test_the_watcher_sees_what_waits() -> None:
    with Waits() as waits:
        numbers = torch.arange(4)
        numbers[numbers > 1]
        int(numbers.sum())
    assert len(waits.waiting) == 2


@pytest.mark.parametrize("step", [4, 16])  # with a penalty, and with a look at the latents
def test_no_operation_of_a_step_waits_for_a_result(step: int) -> None:
    learner = CategoricalGan(initialise_model(smoke_card(), seed=0), CONFIG)
    learner.step(_pairs(), progress=0.9, step=1, rng=StepRandom(0))  # makes the optimiser's state
    with Waits() as waits:
        learner.step(_pairs(), progress=0.9, step=step, rng=StepRandom(1))
    assert not waits.waiting


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_step_never_synchronises_the_gpu() -> None:
    learner = CategoricalGan(initialise_model(smoke_card(), seed=0).cuda(), CONFIG)
    pairs = _pairs("cuda")
    learner.step(pairs, progress=0.9, step=1, rng=StepRandom(0, device="cuda"))
    torch.cuda.set_sync_debug_mode("error")
    try:
        learner.step(pairs, progress=0.9, step=16, rng=StepRandom(1, device="cuda"))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_gradient_that_is_not_finite_leaves_weights_and_moments_alone() -> None:
    learner = CategoricalGan(initialise_model(smoke_card(), seed=0), CONFIG)
    learner.step(_pairs(), progress=0.9, step=1, rng=StepRandom(0))
    before = [parameter.clone() for parameter in learner.model.parameters()]
    moments = [state["exp_avg"].clone() for state in learner.optimisers["adam"].state.values()]
    broken = _pairs()
    broken.x[0, 0, 0, 0] = float("nan")
    values = learner.step(broken, progress=0.9, step=2, rng=StepRandom(1))
    assert not torch.isfinite(values["gradient_norm"])
    assert all(torch.equal(a, b) for a, b in zip(before, learner.model.parameters(), strict=True))
    assert all(
        torch.equal(a, s["exp_avg"])
        for a, s in zip(moments, learner.optimisers["adam"].state.values(), strict=True)
    )


def _generator_loss(edited: float, latent_weight: float) -> float:
    config = replace(
        CONFIG, edited=edited, adversary_weight=1.0, latent_adversary_weight=latent_weight
    )
    model = initialise_model(smoke_card(), seed=0)
    return step_losses(model, _pairs(), config, progress=0.9, step=1, rng=StepRandom(3))[
        "generator"
    ].item()


def test_the_weight_of_the_critic_holds_for_faces_from_the_latent_and_not_for_edits() -> None:
    assert _generator_loss(0.0, 2.0) == pytest.approx(2 * _generator_loss(0.0, 1.0), rel=1e-5)
    newcomers = 1 / 3  # B edits and B / 2 new people; an untrained critic grades all alike
    assert _generator_loss(1.0, 2.0) == pytest.approx(
        (1 + newcomers) * _generator_loss(1.0, 1.0), rel=0.05
    )
