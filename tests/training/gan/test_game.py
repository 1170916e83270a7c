"""The game alone: what draws learns beside a reading network that stays as it was."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from affect.factory import initialise_model
from affect.model import smoke_card
from training.gan import loop
from training.gan.checkpoint import RunError
from training.gan.config import generator128, smoke
from training.gan.distributed import StepRandom
from training.gan.learner import learner_of
from training.gan.step import Pairs


def test_the_game_alone_moves_what_draws_and_not_the_reading_network() -> None:
    model = initialise_model(smoke_card(reader=True), seed=0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    chance = torch.Generator().manual_seed(0)
    x, twin = (2 * torch.rand(8, 3, 32, 32, generator=chance) - 1 for _ in range(2))
    y, twin_y = (torch.rand(8, 10, generator=chance) for _ in range(2))
    pairs = Pairs(x, y, twin, twin_y, torch.ones(8, dtype=torch.bool))
    learner = learner_of(model, replace(smoke(), reads=False))
    values = learner.step(pairs, progress=0.7, step=4, rng=StepRandom(0))
    moved = {
        name.split(".")[0]
        for name, tensor in model.state_dict().items()
        if not torch.equal(tensor, before[name])
    }
    assert "reading" not in values and {"generator", "critic"} <= set(values)
    assert "reader" not in moved and {"trunk", "decoder"} <= moved


def test_adversarial_training_alone_needs_a_model_that_reads(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="give --init a model that has one"):
        loop.start(replace(generator128(), image_px=32), tmp_path, tmp_path / "run")
