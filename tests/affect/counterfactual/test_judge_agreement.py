"""The independent judge beside an explanation: it agrees only when its own reading follows."""

from typing import Any

import numpy as np
import pytest
import torch

from affect.card import TrustRequirement
from affect.counterfactual import CounterfactualQuestion, Explanation, explain
from affect.counterfactual.description import Task
from affect.counterfactual.judge_agreement import follows, judge_agreements
from affect.judge import Judge, JudgeCard
from tests.support.tiny import tiny_card, tiny_model
from tests.support.trained import face, model


class Bright(Judge):
    """A real judge whose reading of everything is how bright the picture is."""

    def read(self, x: torch.Tensor) -> torch.Tensor:
        return (x.mean((1, 2, 3)) / 2 + 0.5)[:, None].expand(-1, len(self.vocabulary.names))


JUDGE = Bright(
    JudgeCard(vocabulary=("AU12", "AU4"), image_px=64, widths=(8, 8), data="none", seed=0)
)
DARK, BRIGHT = (
    torch.full((1, 3, 64, 64), -0.6),
    torch.full((1, 3, 64, 64), 0.2),
)  # read as 0.2 and 0.6


@pytest.mark.parametrize(
    ("moved", "agrees"), [(0.5, True), (0.75, True), (0.9, False), (-0.5, False)]
)
def test_the_judge_agrees_when_it_follows_at_least_half_of_the_way(
    moved: float, agrees: bool
) -> None:
    (agreement,) = judge_agreements(JUDGE, DARK, BRIGHT, ["AU12"], [moved])
    assert agreement is not None
    assert (agreement.before, agreement.after) == (0.2, 0.6)
    assert agreement.agrees is agrees


def test_a_judge_gives_no_agreement_on_labels_that_it_did_not_learn() -> None:
    assert judge_agreements(JUDGE, DARK, BRIGHT, ["AU9"], [0.5]) == [None]


def test_without_a_judge_an_answer_says_so_and_is_not_trusted_highly() -> None:
    (explanation,) = explain(
        model(), face("happiness")[None], [CounterfactualQuestion("AU12", 0.0)]
    )
    assert isinstance(explanation, Explanation)
    assert explanation.judge_agreement is None
    assert explanation.reasons[-1] == "nobody independent was asked"
    assert explanation.trust != "high"


def test_levels_hold_only_for_the_judge_that_they_were_fitted_with() -> None:
    for judge, levels in ((JUDGE.card.sha256, 1), ("another", 0)):
        card = tiny_card().model_copy(
            update={"trust_levels": {"high": TrustRequirement(least=0.5, earned=(), judge=judge)}}
        )
        rows: Any = None
        task = Task(tiny_model(card), rows, (), rows, 2, JUDGE)
        assert len(task.levels) == levels


def test_the_judge_reads_the_pictures_that_are_returned() -> None:
    (explanation,) = explain(
        model(), face("happiness")[None], [CounterfactualQuestion("AU12", 0.0)], judge=JUDGE
    )
    assert isinstance(explanation, Explanation) and explanation.judge_agreement is not None
    assert explanation.judge_agreement.before == pytest.approx(
        np.mean(face("happiness")) / 255, abs=1e-3
    )
    assert explanation.judge_agreement.after == pytest.approx(
        np.mean(explanation.counterfactual) / 255, abs=1e-3
    )


def test_following_is_half_the_way_in_the_same_direction() -> None:
    observed, requested = np.array([0.2, 0.19, -0.4, 0.0]), np.array([0.4, 0.4, 0.4, 0.0])
    assert follows(observed, requested).tolist() == [True, False, False, False]
