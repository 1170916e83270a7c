"""A level of trust begins where a second judge confirms it often enough, and nowhere else."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from affect.card import TrustName, TrustRequirement
from training.evaluation.explanation.trust_levels import (
    Confirmations,
    earned,
    fit_levels,
    least_score,
    lower_bound,
    worst_redrawn,
)


def _answers(count: int = 400, *, seed: int = 0, right_from: float = 0.5) -> Confirmations:
    """Scores at random; above `right_from` .97 are confirmed, below it a third."""
    rng = np.random.default_rng(seed)
    score = rng.uniform(0.01, 1, count).round(3)
    confirmed = rng.random(count) < np.where(score >= right_from, 0.97, 0.33)
    return Confirmations(
        "faces",
        score,
        np.ones(count, np.bool_),
        confirmed,
        np.arange(count).astype(str),
        np.full(count, 0.5),
    )


def test_a_level_begins_where_answers_are_confirmed() -> None:
    levels = fit_levels([_answers()])
    high, medium = (_least(levels, name) for name in ("high", "medium"))
    assert 0.4 < high < 0.55 and medium < high
    (one,) = levels["high"].earned
    assert one.confirmed > 0.9 and one.low <= one.confirmed <= one.high


def _least(levels: dict[TrustName, TrustRequirement], name: TrustName) -> float:
    least = levels[name].least
    assert least is not None
    return least


def test_a_level_that_one_kind_of_faces_does_not_earn_has_no_score_but_its_figures() -> None:
    hopeless = Confirmations(
        "photographs",
        np.linspace(0.1, 1, 100),
        np.ones(100, np.bool_),
        np.arange(100) % 2 == 0,
        np.arange(100),
        np.full(100, 0.5),
    )
    levels = fit_levels([_answers(), hopeless])
    assert [one.least for one in levels.values()] == [None, None]
    assert [one.answers for one in levels["medium"].earned] == [400, 100]
    assert levels["medium"].earned[1].confirmed == 0.5


def test_what_was_not_measured_has_no_levels_and_what_scores_nothing_no_figures() -> None:
    assert fit_levels([]) == {}
    blind = _answers()
    nothing = replace(blind, score=0 * blind.score)
    (unmeasured,) = fit_levels([nothing])["high"].earned
    assert (unmeasured.answers, unmeasured.low, unmeasured.high) == (0, 0.0, 1.0)


def test_the_stricter_of_two_kinds_of_faces_sets_the_level() -> None:
    strict = _answers(right_from=0.6)
    both = _least(fit_levels([_answers(), strict]), "high")
    assert both == pytest.approx(least_score(strict, "high", 0.9), abs=1e-3)


def test_few_answers_earn_nothing_however_good_they_are() -> None:
    few = replace(_answers(20), score=np.full(20, 0.9), confirmed=np.ones(20, np.bool_))
    assert least_score(few, "high", 0.9) is None


def test_what_lies_outside_the_domain_is_not_counted_for_high() -> None:
    confirmations = _answers()
    outside = replace(confirmations, in_domain=confirmations.score < 0.2)
    levels = fit_levels([outside])
    assert levels["high"].least is None and levels["medium"].least is not None
    assert earned(outside, "high", 0.1).answers < earned(outside, "medium", 0.1).answers


def test_faces_drawn_worse_than_nearly_all_that_were_measured_are_not_counted_for_high() -> None:
    confirmations = replace(_answers(100), redrawn=np.linspace(0, 1, 100))
    better = replace(confirmations, redrawn=0.5 * confirmations.redrawn)
    for sets, limit in (
        ([confirmations], 0.95),
        ([better], 0.475),
        ([confirmations, better], 0.95),
    ):
        assert worst_redrawn(sets) == pytest.approx(limit, abs=1e-3)
    (counted,) = fit_levels([replace(confirmations, score=np.ones(100))])["high"].earned
    assert counted.answers == 95


@pytest.mark.parametrize(("right", "count"), [(83, 86), (40, 40), (1, 30)])
def test_the_bound_is_clopper_and_pearsons_where_answers_are_of_different_people(
    right: int, count: int
) -> None:
    confirmed = np.arange(count) < right
    low = binomtest(right, count).proportion_ci(0.9, "exact").low
    assert lower_bound(confirmed, np.arange(count)) == pytest.approx(low, abs=0.02)


def test_answers_about_one_person_count_for_less() -> None:
    confirmed = np.repeat(np.arange(20) > 1, 10)
    people = np.repeat(np.arange(20), 10)
    assert lower_bound(confirmed, people) < lower_bound(confirmed, np.arange(200)) - 0.05
