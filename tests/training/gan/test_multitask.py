"""The plain network beside the GAN: the same but for what it does not draw."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from affect.factory import initialise_model, load_model
from affect.model import smoke_card
from training.gan import loop
from training.gan.config import multitask, smoke
from training.gan.distributed import StepRandom
from training.gan.learner import learner_of
from training.gan.step import Pairs


def _pairs(*, paired: bool = True) -> Pairs:
    chance = torch.Generator().manual_seed(0)
    x, twin = (2 * torch.rand(8, 3, 32, 32, generator=chance) - 1 for _ in range(2))
    y, twin_y = (torch.rand(8, 10, generator=chance) for _ in range(2))
    return Pairs(x, y, twin, twin_y, torch.full((8,), paired), twinless=not paired)


def test_it_is_the_smoke_preset_but_for_drawing() -> None:
    differ = {
        field.name
        for field in fields(smoke())
        if getattr(smoke(), field.name) != getattr(multitask(), field.name)
    }
    assert differ == {"preset", "draws"} and not multitask().draws


def test_it_learns_labels_and_people_and_its_decoder_stays_as_it_began() -> None:
    model = initialise_model(smoke_card(), seed=0)
    before = {name: p.clone() for name, p in model.named_parameters()}
    values = learner_of(model, multitask()).step(_pairs(), progress=0.5, step=4, rng=StepRandom(0))
    assert set(values) == {"label", "identity", "gradient_norm"}
    moved = {
        name.split(".")[0]
        for name, p in model.named_parameters()
        if not torch.equal(p, before[name])
    }
    assert moved == {"trunk", "heads"}


def test_it_reads_the_losses_that_the_gan_reads() -> None:
    """Same weights, same step: the label loss of real faces does not know whether anything is drawn
    beside it.
    """
    losses_read = []
    for config in (smoke(), multitask()):
        model = initialise_model(smoke_card(), seed=0)
        losses_read.append(
            learner_of(model, config).step(_pairs(), progress=0.0, step=1, rng=StepRandom(0))
        )
    assert (
        losses_read[0]["label"].item() == pytest.approx(losses_read[1]["label"].item(), rel=1e-5)
        and "reconstruction" in losses_read[0]
    )


def test_without_twins_it_reads_two_people_a_row_and_nobody_is_a_pair() -> None:
    model = initialise_model(smoke_card(), seed=0)
    values = learner_of(model, multitask()).step(
        _pairs(paired=False), progress=1.0, step=4, rng=StepRandom(0)
    )
    assert set(values) == {"label", "identity", "gradient_norm"} and values["identity"] == 0


def test_a_run_of_it_ends_with_a_model_that_reads(
    faces_of_made_people: Path, tmp_path: Path
) -> None:
    config = replace(multitask(), batch_pairs=8, total_images=64, log_images=32, sample_images=64)
    loop.start(config, faces_of_made_people, tmp_path / "run")
    model = load_model(tmp_path / "run" / "model")
    assert (
        model.card.preset == "multitask"
        and torch.isfinite(model.labels(torch.zeros(2, 3, 32, 32))).all()
    )
