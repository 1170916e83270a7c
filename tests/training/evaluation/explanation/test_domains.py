"""Explanations on each kind of faces, graded by judges whose worth is known."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from affect.card import TrustName, TrustRequirement
from affect.judge import Judge, JudgeCard
from tests.support.trained import model, run
from training.database.reader import Database
from training.evaluation.explanation.domains import (
    Judges,
    ask_about,
    fit_trust,
    measure_domain,
)


class Knowing(Judge):
    """Reads what the model reads, mixed with nothing by a share."""

    sees = 1.0

    def read(self, x: torch.Tensor) -> torch.Tensor:
        return self.sees * model().read(x).labels.detach()


class Blind(Knowing):
    """Reads the same off every face."""

    sees = 0.0


def _judge(kind: Callable[[JudgeCard], Judge]) -> Judge:
    vocabulary = model().card.vocabulary
    return kind(JudgeCard(vocabulary=vocabulary, image_px=64, widths=(8, 8), data="none", seed=0))


@pytest.fixture(scope="module")
def faces() -> Database:
    return Database.open(run().parent / "faces")


def _fitted(
    faces: Database, second: Callable[[JudgeCard], Judge], questions: int
) -> dict[TrustName, TrustRequirement]:
    rng = np.random.default_rng(0)
    judges = Judges(_judge(Knowing), _judge(second))
    return fit_trust(model(), judges, [faces], "validation", questions, rng)


def test_what_a_second_judge_confirms_becomes_a_level_and_what_it_does_not_see_none(
    faces: Database,
) -> None:
    levels = _fitted(faces, Knowing, 100)
    assert levels["high"].earned[0].confirmed == 1 and levels["high"].earned[0].answers >= 29
    unseen = _fitted(faces, Blind, 32)
    assert unseen and all(one.least is None for one in unseen.values())


def test_figures_are_of_the_answers_that_are_served(faces: Database) -> None:
    judge, rng = _judge(Knowing), np.random.default_rng(0)
    questions = ask_about(model(), judge, faces, "test", 20, rng)
    figures = measure_domain(model(), judge, questions, "cartoons, test", rng)
    assert figures.questions >= 12 and sum(count for count, _ in figures.levels.values()) == (
        figures.questions
    )
    assert figures.validity.value > 0.5 and figures.confirmed.value == 1
    assert 0 <= figures.steady_in_crop.value <= 1 and figures.labels_changed.value >= 0
    assert figures.levels["high"] == (0, None)  # a card without levels never says so


@pytest.mark.parametrize(("share", "rounds"), [(0.5, 0.5), (1.0, 1), (2.0, 2), (5.0, 2)])
def test_no_face_is_asked_about_more_than_twice(
    faces: Database, share: float, rounds: float
) -> None:
    people, rng = faces.count("test"), np.random.default_rng(0)
    count = round(share * people)
    questions = ask_about(model(), _judge(Knowing), faces, "test", count, rng)
    assert len(questions.answers) == round(rounds * people)
