"""Directions of what should not matter: planted ones are found, and only what is drawn is kept."""

import numpy as np
import pytest
import torch

from tests.support.tiny import tiny_model
from training.evaluation.bias import nuisance_directions
from training.evaluation.bias.nuisance_directions import TAUGHT, fit


def test_planted_directions_and_places_are_found() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(size=(2, 12))
    people = rng.normal(size=(400, 12))
    both = [np.stack([people, people + way]) + 0.1 * rng.normal(size=(2, 400, 12)) for way in true]
    directions, probes = fit(both)
    assert np.allclose(directions, true, atol=0.05)
    for (first, second), probe in zip(both, probes, strict=True):
        assert (first @ probe[:-1] + probe[-1]).mean() == pytest.approx(0, abs=1e-6)
        assert (second @ probe[:-1] + probe[-1]).mean() == pytest.approx(1, abs=1e-6)


def test_a_place_ignores_what_else_differs_between_people() -> None:
    rng = np.random.default_rng(1)
    way, loud = np.eye(6)[0], 5 * np.eye(6)[1]
    people = rng.normal(size=(500, 1)) * loud + 0.3 * rng.normal(size=(500, 6))
    # by chance the second version is a little louder
    _, (probe,) = fit([np.stack([people, people + way + 0.3 * loud])])
    assert abs(probe[1]) < 0.2 * abs(probe[0])


def test_only_what_the_generator_draws_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    monkeypatch.setattr(nuisance_directions, "REACHED", 0.0)
    reached = nuisance_directions.learn(model, people=2, seed=0)
    assert set(reached) == {one.name for one in TAUGHT}
    assert model.card.nuisances == tuple(name for name, share in reached.items() if share >= 0)
    assert model.nuisance_directions.shape == (len(model.card.nuisances), len(model.latent_mean))


def test_a_model_that_encodes_nothing_learns_none() -> None:
    model = tiny_model()
    with torch.no_grad():
        model.heads.latent.weight.zero_()
    assert nuisance_directions.learn(model, people=2, seed=0) == {}
