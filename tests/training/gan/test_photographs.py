"""Photographs of people teach reading and editing, and never what is drawn from the latent
alone.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from affect.factory import initialise_model
from affect.model import AffectModel, smoke_card
from tests.support.made_database import card, make
from training.database.reader import Database
from training.gan.config import preset
from training.gan.distributed import StepRandom
from training.gan.learner import LATENT_EVERY, CategoricalGan
from training.gan.post_training import post_train
from training.gan.reading_losses import ReadingTargets
from training.gan.step import Pairs, step_losses

ROWS, PEOPLE, SIDE = 8, 3, 32
CARD = smoke_card(reader=True)
# `still` edits are asked for the state that is read, which learns from photographs: as it should.
CONFIG = replace(preset("smoke"), batch_pairs=ROWS, penalty_rows=4, network=CARD.network, still=0.0)


def pairs(photographs: int) -> Pairs:
    """Faces, the last PEOPLE of them photographs: pixels and labels that the number decides."""
    x, twin = (2 * _rows(seed, photographs, 3, SIDE, SIDE) - 1 for seed in (1, 2))
    y, twin_y = (_rows(seed, photographs, len(CARD.vocabulary) + 2) for seed in (3, 4))
    paired = torch.arange(ROWS) < ROWS - PEOPLE
    targets = _targets(torch.cat([y, twin_y]))
    return Pairs(x, y, twin, twin_y, paired, targets, photographs=PEOPLE, twinless=True)


def _rows(seed: int, photographs: int, *shape: int) -> Tensor:
    parts = [(ROWS - PEOPLE, seed), (PEOPLE, 100 * photographs + seed)]
    return torch.cat(
        [
            torch.rand(count, *shape, generator=torch.Generator().manual_seed(number))
            for count, number in parts
        ]
    )


def _targets(labels: Tensor) -> ReadingTargets:
    count = len(labels)
    return ReadingTargets(
        labels,
        torch.ones_like(labels),
        torch.zeros(count, dtype=torch.long),
        torch.ones(count),
        torch.zeros(count, 3),
        torch.zeros(count, 2, len(CARD.one_sided)),
    )


class Drawing:
    """What the decoder draws from latents and which rows are edits, with gradients kept."""

    def __init__(self, model: AffectModel) -> None:
        self.drawn: list[Tensor] = []
        self.edited: list[Tensor] = []
        model.decoder.register_forward_hook(self._keep)

    def _keep(self, _: object, given: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        if len(given) == 4:  # the step's own drawing; the way back of a cycle has its own gate
            output[0].retain_grad()
            self.drawn.append(output[0])
            self.edited.append(given[3].bool())


def one_step(photographs: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures drawn from latents (R, 3, S, S), their gradients, and which rows are edits (R,)."""
    model = initialise_model(CARD, seed=0).eval()
    drawing = Drawing(model)
    values = step_losses(model, pairs(photographs), CONFIG, progress=0.9, step=4, rng=StepRandom(2))
    torch.stack(list(values.values())).sum().backward()
    gradient = drawing.drawn[0].grad
    assert gradient is not None
    return drawing.drawn[0].detach(), gradient, drawing.edited[0]


def test_what_is_drawn_from_the_latent_does_not_know_which_photographs_were_there() -> None:
    (one, _, edited), (other, _, again) = one_step(1), one_step(2)
    assert torch.equal(edited, again) and bool(edited[ROWS - PEOPLE : ROWS].all())
    assert len(one) > ROWS and int((~edited).sum()) > 2  # newcomers, and renders drawn anew
    assert torch.equal(one[~edited], other[~edited])
    assert not torch.equal(one[edited], other[edited])  # the edits saw them


def test_no_loss_of_a_photograph_reaches_the_picture_that_its_latent_alone_would_give() -> None:
    _, gradient, edited = one_step(1)
    assert not gradient[ROWS - PEOPLE : ROWS].any() and not gradient[edited].any()
    assert gradient[~edited].flatten(1).any(1).all()


def test_newcomers_follow_the_latents_of_renders_alone() -> None:
    config = replace(CONFIG, learning_rate=0.0, reader_rate=0.0)
    priors = []
    for photographs in (1, 2):
        learner = CategoricalGan(initialise_model(CARD, seed=0), config)
        learner.step(pairs(photographs), progress=0.9, step=LATENT_EVERY, rng=StepRandom(1))
        priors.append((learner.model.latent_mean, learner.model.latent_factor))
    assert all(torch.equal(a, b) for a, b in zip(*priors, strict=True))
    assert priors[0][0].any()


@pytest.fixture
def photographs(tmp_path: Path) -> list[Database]:
    """Two sets of other people."""
    rows = [(number, f"p{number}", {"AU12": 1.0}) for number in range(24)]
    others = [(number + 500, f"q{number}", {"AU12": 0.0}) for number in range(24)]
    return [
        Database.open(make(tmp_path / name, card("AU1", "AU12"), some))
        for name, some in (("a", rows), ("b", others))
    ]


def test_the_prior_of_people_is_fitted_on_renders_alone(
    faces_of_made_people: Path, photographs: list[Database]
) -> None:
    database, models = Database.open(faces_of_made_people), []
    for people in photographs:
        vocabulary = smoke_card(vocabulary=database.card.vocabulary, reader=True)
        model = initialise_model(vocabulary, seed=0).eval()
        post_train(model, database, CONFIG, seen_images=0, photographs=people)
        models.append(model)
    for name in ("latent_mean", "latent_factor", "label_table"):
        one, other = (model.get_buffer(name) for model in models)
        assert torch.equal(one.nan_to_num(9), other.nan_to_num(9)), name
    assert not torch.equal(
        models[0].feature_mean, models[1].feature_mean
    )  # what is strange may know
