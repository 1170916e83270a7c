"""The space of what should not matter, and several answers to one question."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from affect.counterfactual import CounterfactualQuestion, Explanation, QuestionError, explain
from affect.counterfactual.measure import diversity
from affect.counterfactual.nuisance import SMALLEST, Nuisance, help_of, reversed_name
from affect.counterfactual.search import Rows
from affect.factory import load_model
from affect.model import AffectModel
from tests.support.tiny import NUISANCES, tiny_model
from tests.support.trained import face, model


def crops(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def rows_of(tiny: AffectModel, count: int) -> Rows:
    x = tiny.to_pixels(torch.tensor(crops(count)))
    with torch.inference_mode():
        return Rows.of(x, tiny.read(x), torch.zeros(count, dtype=torch.long), torch.ones(count))


def test_an_axis_goes_to_the_end_that_the_face_is_farther_from() -> None:
    tiny = tiny_model()
    rows = rows_of(tiny, 6)
    places = tiny.nuisance_positions(rows.output.latent)
    ends = (places[:, None] + Nuisance(tiny).axes(rows)).diagonal(dim1=1, dim2=2)  # (N, A)
    inside = (places > SMALLEST) & (places < 1 - SMALLEST)
    assert inside.any()
    assert torch.allclose(ends[inside], (places < 0.5).float()[inside], atol=1e-5)


def test_no_move_leaves_the_face_as_it_is() -> None:
    tiny = tiny_model()
    with torch.inference_mode():
        same = Nuisance(tiny).draw(rows_of(tiny, 3), torch.zeros(3, len(NUISANCES)))
    assert np.array_equal(same.numpy(), crops(3))


def test_only_nuisances_are_moved_and_each_is_reported_in_the_direction_of_its_move() -> None:
    for explanation in explain(
        tiny_model(), crops(4), [CounterfactualQuestion("valence", 0.9, family="nuisance")] * 4
    ):
        assert isinstance(explanation, Explanation)
        assert {name for name, _, _ in explanation.causes} <= set(NUISANCES)
        assert len(explanation.attribution) == len(NUISANCES)
        assert all(
            name in explanation.attribution or reversed_name(name) in explanation.attribution
            for name in NUISANCES
        )
        assert "reached" in explanation.scores


def test_nuisances_come_in_the_order_of_their_effect() -> None:
    for explanation in explain(
        tiny_model(), crops(6), [CounterfactualQuestion("valence", 0.9, family="nuisance")] * 6
    ):
        assert isinstance(explanation, Explanation)
        helps = [help_of(explanation.attribution, cause) for cause in explanation.causes]
        assert helps == sorted(helps, reverse=True)
    assert help_of({"light: bright to dim": 0.4}, ("light: dim to bright", 0.2, 0.9)) == -0.4


def test_weights_that_know_no_nuisances_refuse_the_question() -> None:
    tiny = tiny_model()
    tiny.learn_nuisances((), torch.zeros(0, 16), torch.zeros(0, 17))
    (explanation,) = explain(tiny, crops(1), [CounterfactualQuestion(family="nuisance")])
    assert isinstance(explanation, QuestionError) and explanation.code == "no_nuisances"


def test_nuisances_come_back_with_the_weights(tmp_path: Path) -> None:
    tiny = tiny_model()
    tiny.save(tmp_path)
    again = load_model(tmp_path)
    assert again.card.nuisances == NUISANCES
    assert torch.equal(again.nuisance_directions, tiny.nuisance_directions)


def test_a_reversed_nuisance_has_its_ends_swapped() -> None:
    assert reversed_name("shape: European to Asian") == "shape: Asian to European"


def test_each_answer_has_another_cause() -> None:
    (explanation,) = explain(
        model(), face("happiness")[None], [CounterfactualQuestion("valence", -0.2, answers=3)]
    )
    assert isinstance(explanation, Explanation)
    leaders = [answer.causes[0][0] for answer in (explanation, *explanation.alternatives)]
    assert len(leaders) == len(set(leaders)) == 3
    pictures = [answer.counterfactual for answer in (explanation, *explanation.alternatives)]
    diversities = diversity(face("happiness"), pictures)
    assert (
        explanation.scores["diversity"] == pytest.approx(diversities, abs=1e-4) and diversities > 0
    )


def test_the_first_of_several_answers_is_the_one_that_is_given_alone() -> None:
    (alone,), (several,) = (
        explain(model(), face("anger")[None], [CounterfactualQuestion(answers=answers)])
        for answers in (1, 3)
    )
    assert isinstance(alone, Explanation) and isinstance(several, Explanation)
    assert alone.alternatives == () and several.alternatives
    assert np.array_equal(alone.counterfactual, several.counterfactual)
    assert alone.causes == several.causes


def test_other_answers_about_an_au_move_more_than_itself() -> None:
    (explanation,) = explain(
        model(), face("sadness")[None], [CounterfactualQuestion("AU12", 1.0, answers=3)]
    )
    assert isinstance(explanation, Explanation)
    assert explanation.alternatives
    assert all(
        {name for name, _, _ in answer.causes} > {"AU12"} for answer in explanation.alternatives
    )
