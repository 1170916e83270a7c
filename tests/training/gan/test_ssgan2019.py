"""The seed paper's model: its losses by formulas written anew in NumPy, its rates and steps, its
resume, its three kinds of labels.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.optim import Adam

from affect.catalogue import LABEL_SETS
from affect.factory import initialise_model, load_model
from affect.labels import mask_labels
from affect.ssgan2019 import Ssgan2019
from training.database.card import DataCard
from training.gan import loop, ssgan2019
from training.gan.checkpoint import save_checkpoint
from training.gan.config import Labels, TrainConfig, preset
from training.gan.distributed import StepRandom
from training.gan.learner import PaperGan, learner_of
from training.gan.post_training import new_card
from training.gan.step import Pairs

SEED_DATA = DataCard(
    name="test", vocabulary=LABEL_SETS["seed"], image_px=32, sources=("made",), licence="CC0-1.0"
)
CONFIG = preset("ssgan2019")
ROWS, LABELS = 6, 10


def _model(labels: Labels = "both", config: TrainConfig = CONFIG) -> Ssgan2019:
    model = initialise_model(new_card(replace(config, labels=labels), SEED_DATA), seed=4)
    assert isinstance(model, Ssgan2019)
    return model


def _chance(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _faces(seed: int = 0) -> Tensor:
    return 2 * torch.rand(ROWS, 3, 32, 32, generator=_chance(seed)) - 1


def _labels() -> Tensor:
    y = torch.rand(ROWS, LABELS, generator=_chance(1))
    y[:, -2:] = 2 * y[:, -2:] - 1
    y[0, 3] = y[2, -1] = float("nan")
    y[1] = float("nan")
    return y


def _cross_entropy(logit: np.ndarray, target: np.ndarray | float) -> np.ndarray:
    p = 1 / (1 + np.exp(-logit.astype(np.float64)))
    return -(target * np.log(p) + (1 - target) * np.log(1 - p))


@torch.no_grad()
def test_the_discriminator_learns_labels_of_real_faces_zeros_of_drawn_ones_and_which_is_which() -> (
    None
):
    model, x, drawn, y = _model().eval(), _faces(), _faces(5), _labels()
    losses_read = {
        name: value.item()
        for name, value in ssgan2019.discriminator_loss(model, x, y, drawn).items()
    }
    (real, real_logit), (fake, fake_logit) = (
        (a.numpy(), b.numpy()) for a, b, _ in map(model.outputs, (x, drawn))
    )
    aus, va, truth = real[:, :-2], real[:, -2:], y.numpy()
    label = np.nanmean(_cross_entropy(aus, truth[:, :-2])) + np.nanmean((va - truth[:, -2:]) ** 2)
    assert losses_read["label"] == pytest.approx(label, rel=1e-5)
    assert losses_read["drawn_label"] == pytest.approx(
        _cross_entropy(fake[:, :-2], 0.0).mean() + (fake[:, -2:] ** 2).mean(), rel=1e-5
    )
    assert losses_read["critic"] == pytest.approx(
        _cross_entropy(real_logit, 0.0).mean() + _cross_entropy(fake_logit, 1.0).mean(), rel=1e-5
    )


@torch.no_grad()
@pytest.mark.parametrize(("step", "weight"), [(0, 10.0), (750, 5.0), (1_500, 0.0), (90_000, 0.0)])
def test_the_generator_makes_drawn_unlikely_and_is_pulled_to_real_faces_for_1500_steps(
    step: int, weight: float
) -> None:
    model, x, drawn = _model().eval(), _faces(), _faces(5)
    losses_read = {
        name: value.item()
        for name, value in ssgan2019.generator_loss(model, x, drawn, step).items()
    }
    logit, off = (
        model.outputs(drawn)[1].numpy().astype(np.float64),
        np.abs((drawn - x).numpy().astype(np.float64)),
    )
    assert losses_read["generator"] == pytest.approx(
        np.log(1 / (1 + np.exp(-logit))).mean(), rel=1e-5
    )
    assert losses_read["huber"] == pytest.approx(
        weight * np.where(off < 1, 0.5 * off**2, off - 0.5).mean(), rel=1e-5
    )


def test_the_networks_are_as_large_as_the_papers() -> None:
    model = _model()
    generator, discriminator = (
        sum(p.numel() for p in part.parameters()) for part in (model.generator, model.discriminator)
    )
    assert generator == pytest.approx(1.08e6, rel=0.01) and discriminator == pytest.approx(
        1.05e6, rel=0.04
    )


def test_five_steps_of_the_generator_for_one_of_the_discriminator_at_half_its_rate() -> None:
    learner = learner_of(_model(), CONFIG)
    assert isinstance(learner, PaperGan)
    learner.step(_pairs(), progress=0.1, step=1, rng=StepRandom(1))
    counts = {
        name: {int(state["step"]) for state in optimiser.state.values()}
        for name, optimiser in learner.optimisers.items()
    }
    assert counts == {"generator": {5}, "discriminator": {1}}
    groups = {name: optimiser.param_groups[0] for name, optimiser in learner.optimisers.items()}
    assert groups["generator"]["lr"] == 1e-4 and groups["discriminator"]["lr"] == 5e-5
    assert (
        all(group["betas"] == (0.5, 0.999) for group in groups.values()) and CONFIG.clip_norm == 20
    )


def test_a_step_of_one_network_leaves_the_other_as_it_is() -> None:
    model = _model().train()
    before = {name: p.clone() for name, p in model.named_parameters()}
    values = ssgan2019.discriminator_loss(model, _faces(), _labels(), _faces(5))
    ssgan2019.descend(Adam(model.discriminator.parameters(), lr=1e-3), values, 20.0)
    changed = {
        name.split(".")[0]
        for name, p in model.named_parameters()
        if not torch.equal(p, before[name])
    }
    assert changed == {"discriminator"} and all(
        p.grad is None for p in model.generator.parameters()
    )


def test_a_large_gradient_is_clipped_and_its_norm_before_is_returned() -> None:
    model = _model().eval()
    values = {
        "label": 1e6 * ssgan2019.discriminator_loss(model, _faces(), _labels(), _faces(5))["label"]
    }
    reported = ssgan2019.descend(Adam(model.discriminator.parameters(), lr=0.0), values, 20.0)
    norm = torch.cat(
        [p.grad.flatten() for p in model.discriminator.parameters() if p.grad is not None]
    ).norm()
    assert reported > 1e3 and norm.item() == pytest.approx(20.0, rel=1e-3)


def _pairs() -> Pairs:
    y = _labels()
    return Pairs(_faces(), y, _faces(2), y.flip(0), torch.ones(ROWS, dtype=torch.bool))


def test_a_face_and_its_twin_are_two_real_pictures_and_what_is_served_is_what_was_trained() -> None:
    learner, alone = learner_of(_model(), CONFIG), _model()
    optimisers = learner_of(alone, CONFIG).optimisers
    pairs = _pairs()
    values = learner.step(pairs, progress=0.1, step=1, rng=StepRandom(1))
    x, y = torch.cat([pairs.x, pairs.twin]), torch.cat([pairs.y, pairs.twin_y])
    same = ssgan2019.train_step(
        alone, x, y, optimisers, CONFIG.clip_norm, step=1, generator=StepRandom(1).generator
    )
    assert {name: value.item() for name, value in values.items()} == {
        name: value.item() for name, value in same.items()
    }
    averaged, trained = learner.average.state_dict(), learner.model.state_dict()
    assert all(
        torch.equal(averaged[name].nan_to_num(9), trained[name].nan_to_num(9)) for name in averaged
    )
    assert learner.model.training and not learner.average.training


@pytest.mark.parametrize("labels", ["au", "va", "both"])
def test_a_kind_of_label_that_is_not_learnt_moves_no_weight_of_its_own(labels: Labels) -> None:
    model = _model(labels)
    learner = learner_of(model, replace(CONFIG, labels=labels))
    before = model.discriminator.out.weight.detach().clone()
    pairs = _pairs()
    y, twin_y = (
        torch.from_numpy(mask_labels(rows.numpy(), labels)) for rows in (pairs.y, pairs.twin_y)
    )
    learner.step(replace(pairs, y=y, twin_y=twin_y), progress=0.1, step=1, rng=StepRandom(1))
    moved = (model.discriminator.out.weight != before).any(1).tolist()
    assert moved == [labels != "va"] * 8 + [labels != "au"] * 2 + [True]


def test_it_reads_without_chance_and_each_face_by_itself() -> None:
    learner = learner_of(_model(), CONFIG)
    learner.step(_pairs(), progress=0.1, step=1, rng=StepRandom(1))
    x = _faces(7)
    with torch.no_grad():
        whole, alone = learner.average.read(x), learner.average.read(x[:1])
    torch.testing.assert_close(whole.labels[:1], alone.labels, rtol=1e-4, atol=1e-5)
    assert whole.va.abs().max() <= 1 and torch.equal(
        learner.average.edit(x, torch.zeros(ROWS, LABELS)), x
    )


def test_a_stopped_run_resumes_to_the_same_bits(
    faces_of_made_people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(
        CONFIG,
        batch_pairs=4,
        total_images=32,
        log_images=16,
        sample_images=32,
        checkpoint_seconds=0.0,
    )
    loop.start(config, faces_of_made_people, tmp_path / "whole")
    saves, real = iter(range(100)), save_checkpoint

    def killed(*args: object, **named: object) -> None:
        real(*args, **named)  # type: ignore[arg-type]
        if next(saves) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        loop.start(config, faces_of_made_people, tmp_path / "killed")
    monkeypatch.undo()
    loop.resume(tmp_path / "killed")
    whole, resumed = (
        load_file(tmp_path / run / "model" / "weights.safetensors") for run in ("whole", "killed")
    )
    assert whole.keys() == resumed.keys() and all(
        torch.equal(whole[name].nan_to_num(9), resumed[name].nan_to_num(9)) for name in whole
    )
    assert load_model(tmp_path / "killed" / "model").card.network.kind == "ssgan2019"
