"""The search: its budget, its clearance, and what it does where a run knows only one kind of
label.
"""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from affect.counterfactual import CounterfactualQuestion, Explanation, explain
from affect.counterfactual.expression import Expression
from affect.counterfactual.search import (
    AU_CLEARANCE,
    BISECTIONS,
    CHUNK_ROWS,
    Rows,
    _smallest_move,
    margin_and_reach,
    search,
)
from affect.model import AffectModel
from tests.support.tiny import tiny_card, tiny_model
from tests.support.trained import FACES, face, model

BUDGET = 30  # pictures drawn and read for a face, of which 18 tell how each of its AUs answers


def crops(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def test_a_face_costs_no_more_than_its_budget() -> None:
    rows_computed = {"trunk": 0, "decoder": 0}
    hooks = [
        getattr(model(), name).register_forward_hook(
            lambda part, given, out, name=name: rows_computed.update(
                {name: rows_computed[name] + len(given[0])}
            )
        )
        for name in rows_computed
    ]
    explain(
        model(), np.stack([face(name) for name in FACES]), [CounterfactualQuestion()] * len(FACES)
    )
    for hook in hooks:
        hook.remove()
    # each reading is of a face and its mirror image; the answer is read once more, in full
    assert rows_computed["trunk"] <= 2 * (BUDGET + 1) * len(FACES)
    assert rows_computed["decoder"] <= BUDGET * len(FACES)


def test_questions_share_their_forward_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CHUNK_ROWS, "cpu", 64)
    passes: list[int] = []
    hook = model().trunk.register_forward_hook(
        lambda part, given, out: passes.append(len(given[0]))
    )
    counts = []
    for count in (1, 3):  # three faces still fit into one pass
        passes.clear()
        explain(
            model(),
            np.stack([face("happiness")] * count),
            [
                CounterfactualQuestion("AU12"),
                CounterfactualQuestion("valence", -0.5),
                CounterfactualQuestion(),
            ][:count],
        )
        counts.append(len(passes))
    hook.remove()
    assert counts[0] == counts[1]


def test_an_au_is_turned_with_clearance_but_not_by_far() -> None:
    for name, code in (("happiness", "AU12"), ("surprise", "AU26"), ("anger", "AU4")):
        (explanation,) = explain(model(), face(name)[None], [CounterfactualQuestion(code)])
        assert isinstance(explanation, Explanation)
        assert explanation.valid
        assert AU_CLEARANCE <= explanation.scores["validity_margin"] < AU_CLEARANCE + 2, (
            explanation.sentence
        )


@pytest.mark.parametrize("target", [-0.4, -0.2, 0.3])
def test_a_target_of_valence_is_met_within_a_tenth(target: float) -> None:
    (explanation,) = explain(
        model(), face("happiness")[None], [CounterfactualQuestion("valence", target)]
    )
    assert isinstance(explanation, Explanation)
    assert explanation.valid == (
        abs(float(explanation.counterfactual_read.va[0, 0]) - target) < 0.1
    )
    assert explanation.valid


class Weak(Expression):
    """Edits of a quarter of the strength, as those of a photograph may be."""

    def draw(self, rows: Rows, move: torch.Tensor) -> torch.Tensor:
        return super().draw(rows, move / 4)


@torch.inference_mode()
def test_where_one_edit_is_not_enough_a_second_goes_on_from_there() -> None:
    x = model().to_pixels(torch.from_numpy(np.stack([face("happiness"), face("anger")])))
    column = torch.tensor([model().card.vocabulary.index(code) for code in ("AU12", "AU12")])
    rows = Rows.of(x, model().read(x), column, torch.tensor([0.0, 1.0]))
    once, twice = Weak(model()), Weak(model())
    once.edits = 1
    before, after = (search(model(), rows, space)[0] for space in (once, twice))
    unmet = before.best.margin <= 0
    assert unmet.any() and (after.best.margin[unmet] > before.best.margin[unmet]).all()
    assert torch.equal(after.best.images[~unmet], before.best.images[~unmet])
    assert (after.move[unmet] != before.move[unmet]).any(1).all()


@torch.inference_mode()
def test_other_sets_are_drawn_only_where_the_first_is_not_enough() -> None:
    x = model().to_pixels(torch.from_numpy(np.stack([face("happiness"), face("anger")])))
    column = torch.tensor([model().card.vocabulary.index(code) for code in ("AU12", "AU4")])
    rows = Rows.of(x, model().read(x), column, torch.zeros(2))
    drawn: list[int] = []

    class Counted(Expression):
        def draw(self, rows: Rows, move: torch.Tensor) -> torch.Tensor:
            drawn.append(len(move))
            return super().draw(rows, move)

    enough = search(model(), rows, Expression(model()))[0].move[:, None]
    nothing = torch.zeros_like(enough)
    only_the_first_face = torch.tensor([1.0, 0.0]).view(2, 1, 1)
    for moves, counts in (
        (torch.cat([enough, nothing], dim=1), [2]),
        (torch.cat([enough * only_the_first_face, enough], dim=1), [2, 1]),
    ):
        drawn.clear()
        best, move = _smallest_move(model(), rows, Counted(model()), moves)
        assert drawn == counts + [2] * BISECTIONS
        assert (best.reach >= 1).all() and (move != 0).any(1).all()


def test_a_run_without_aus_names_none() -> None:
    (explanation,) = explain(
        tiny_model(tiny_card("va")), crops(1), [CounterfactualQuestion("valence", 0.9)]
    )
    assert isinstance(explanation, Explanation)
    assert explanation.attribution == {}
    assert "AU" not in explanation.sentence
    assert {name for name, _, _ in explanation.changes} <= {"valence", "arousal"}


def test_a_run_without_valence_answers_about_aus() -> None:
    (explanation,) = explain(tiny_model(tiny_card("au")), crops(1), [CounterfactualQuestion()])
    assert isinstance(explanation, Explanation)
    assert explanation.question.label in tiny_card().vocabulary
    assert len(explanation.attribution) == len(tiny_card().vocabulary)


def test_progress_agrees_with_what_the_prediction_says() -> None:
    x = AffectModel.to_pixels(torch.from_numpy(np.stack([face(name) for name in FACES])))
    with torch.inference_mode():
        output = model().read(x)
        present = model().calibrate(output).present
        for column in range(present.shape[1]):
            rows = Rows.of(x, output, torch.full((len(x),), column), torch.ones(len(x)))
            margin, _ = margin_and_reach(model(), output, rows)
            assert torch.equal(margin >= 0, present[:, column])


def test_a_move_of_nothing_is_nearly_no_change() -> None:
    x = AffectModel.to_pixels(torch.from_numpy(face("happiness")[None]))
    with torch.inference_mode():
        output = model().read(x)
        rows = Rows.of(x, output, torch.tensor([0]), torch.tensor([1.0]))
        image = Expression(model()).draw(rows, torch.zeros_like(output.labels))[0].numpy()
    assert np.abs(image.astype(int) - face("happiness")).mean() < 0.02 * 255
