"""The truth explains itself wholly, nothing explains nothing, and pairs differ in one AU alone."""

import numpy as np
import pytest

from tests.support.trained import face, model
from training.database.annotations import Annotations
from training.evaluation.core.predictions import Faces
from training.evaluation.explanation import twins


def faces_of(truth: np.ndarray, twin_of: list[int]) -> Faces:
    count = len(truth)
    images = np.zeros((count, 64, 64, 3), np.uint8)
    return Faces(
        images,
        truth,
        np.full((count, 2), np.nan),
        np.arange(count).astype(str),
        {},
        np.array(twin_of),
        np.full(count, ""),
        Annotations.unknown(count, truth.shape[1] - 2),
    )


def test_pairs_differ_in_one_au_and_in_its_presence() -> None:
    truth = np.zeros((4, len(model().card.vocabulary) + 2))
    truth[1, 8] = 0.8  # one AU more than row 0
    truth[2, [8, 3]] = 0.8, 0.9  # two more than row 0, one more than row 1
    figures = {tuple(row) for row in twins.pairs(model(), faces_of(truth, [1, 2, 0, -1])).tolist()}
    assert figures == {(0, 1, 8), (1, 0, 8), (1, 2, 3), (2, 1, 3)}


def test_a_difference_that_does_not_turn_the_presence_is_no_pair() -> None:
    truth = np.zeros((2, len(model().card.vocabulary) + 2))
    truth[:, 5] = 0.4, 0.9
    assert len(twins.pairs(model(), faces_of(truth, [1, 0]))) == 0


def columns(shown: np.ndarray, grey: np.ndarray) -> dict[str, float]:
    start, goal = face("happiness")[None], face("sadness")[None]
    figures = twins._against(start, goal, shown[None], grey[None])
    return {name: float(values[0]) for name, values in figures.items()}


def truly_changed() -> np.ndarray:
    difference = np.abs(face("happiness").astype(int) - face("sadness"))
    return np.asarray(difference.max(2), np.uint8)


def test_the_true_picture_explains_the_whole_change() -> None:
    figures = columns(face("sadness"), truly_changed())
    assert figures["change_explained"] == pytest.approx(1)
    assert figures["direction"] == figures["direction_averaged"] == pytest.approx(1)
    assert figures["nearer"] == 1
    assert figures["map_auc"] > 0.999
    assert figures["pointing"] == 1


def test_doing_nothing_explains_nothing() -> None:
    figures = columns(face("happiness"), np.zeros(face("happiness").shape[:2], np.uint8))
    assert figures["change_explained"] == pytest.approx(0)
    assert figures["direction"] == figures["direction_averaged"] == figures["nearer"] == 0
    assert figures["map_auc"] == pytest.approx(0.5)


def test_half_of_the_way_explains_half() -> None:
    half = ((face("happiness").astype(float) + face("sadness")) / 2).round().astype(np.uint8)
    figures = columns(half, truly_changed())
    assert figures["change_explained"] == pytest.approx(0.5, abs=0.02)
    assert figures["energy_explained"] == pytest.approx(0.75, abs=0.02)
    assert figures["direction"] == pytest.approx(1, abs=0.01)


def test_a_map_that_is_bright_where_nothing_changed_is_wrong() -> None:
    figures = columns(face("sadness"), 255 - truly_changed())
    assert figures["map_auc"] < 0.001
    assert figures["pointing"] == 0


def test_grain_that_no_answer_can_foresee_weighs_less_on_averages() -> None:
    start, goal = (face(name).repeat(2, 0).repeat(2, 1) for name in ("happiness", "sadness"))
    noise = np.random.default_rng(0).normal(0, 12, goal.shape)
    grained = np.clip(goal + noise, 0, 255).astype(np.uint8)
    figures = twins._against(start[None], goal[None], grained[None], goal[None, ..., 0])
    assert figures["direction"][0] < figures["direction_averaged"][0] and figures["nearer"][0] == 1
