"""Answers about valence and arousal keep to the rule that the model learnt from, or say so."""

import numpy as np
import pytest
import torch

from affect.counterfactual import CounterfactualQuestion, Explanation, explain
from affect.counterfactual.expression import Expression
from affect.counterfactual.rule import rule_share, unrelated_units
from affect.counterfactual.search import Rows
from affect.model import AffectModel
from tests.support.tiny import tiny_card, tiny_model

WEIGHTS = {"AU12": (1.2, 0.05), "AU4": (-0.5, 0.08), "AU43": (0.0, -0.6)}


def test_a_smile_makes_valence_by_the_rule_and_closed_eyes_do_not() -> None:
    smile = [("AU12", 0.0, 0.5), ("AU43", 0.1, 0.1)]
    closed = [("AU12", 0.1, 0.1), ("AU43", 0.0, 0.9)]
    assert rule_share(WEIGHTS, "valence", smile, 0.5) == pytest.approx(np.tanh(0.6) / 0.5)
    assert rule_share(WEIGHTS, "valence", closed, 0.5) == pytest.approx(0)
    assert rule_share(WEIGHTS, "arousal", closed, -0.5) == pytest.approx(np.tanh(0.54) / 0.5, 0.1)


def test_only_what_moves_clearly_and_has_no_part_is_a_bystander() -> None:
    units = [("AU12", 0.0, 0.9), ("AU43", 0.2, 0.9), ("AU4", 0.5, 0.0), ("AU99", 0.0, 1.0)]
    assert unrelated_units(WEIGHTS, "valence", units) == [("AU43", 0.2, 0.9)]
    assert unrelated_units(WEIGHTS, "valence", [("AU43", 0.2, 0.4)]) == []


def _model() -> AffectModel:
    card = tiny_card()
    first, *others = card.vocabulary
    rule = {first: (0.0, 0.5)} | dict.fromkeys(others, (1.0, 0.0))
    return tiny_model(card.model_copy(update={"rule_weights": rule}))


def _rows(model: AffectModel, label: str, target: float) -> Rows:
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    column = torch.full((2,), model.card.labels_of.index(label))
    with torch.inference_mode():
        return Rows.of(x, model.read(x), column, torch.full((2,), target))


def test_the_search_does_not_move_aus_without_a_part_in_the_questioned_dimension() -> None:
    model = _model()
    space, rows = Expression(model), _rows(model, "valence", 0.9)
    gain = torch.full((2, len(model.card.vocabulary)), 0.1)
    gain[:, 0] = 9.0  # the shortcut would be the most telling
    assert space.excluded(rows)[:, 0].all() and not space.excluded(rows)[:, 1:].any()
    moves = space.proposals(rows, gain, space.excluded(rows), first=True)
    assert moves[..., 0].abs().max() < 1e-6


def test_the_search_moves_an_au_only_the_way_that_the_rule_has_it() -> None:
    model = _model()
    space, rows = Expression(model), _rows(model, "valence", 0.9)
    gain = torch.full((2, len(model.card.vocabulary)), -0.5)  # the far end harms, says the model
    moved = space.proposals(rows, gain, space.excluded(rows), first=True)[:, :3, 1:-2]
    assert (moved > -1e-6).all()


def test_questions_about_aus_and_cards_without_a_rule_bar_nothing() -> None:
    model, silent = _model(), tiny_model()
    first = model.card.vocabulary[0]
    assert not Expression(model).excluded(_rows(model, first, 1.0)).any()
    assert not Expression(silent).excluded(_rows(silent, "valence", 0.9)).any()


def test_an_answer_says_how_much_of_it_the_rule_explains() -> None:
    crops = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    (explanation,) = explain(_model(), crops, [CounterfactualQuestion("valence", 0.9)])
    assert isinstance(explanation, Explanation)
    said = "By the rule that the model learnt from" in explanation.sentence
    assert said == (explanation.scores["rule"] < 0.5)
