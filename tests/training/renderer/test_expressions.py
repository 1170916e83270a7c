"""The generative rule, held against the field's own rules and against what training needs."""

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from affect.catalogue import LABEL_SETS
from affect.labels import EXPRESSIONS
from training.renderer.expressions import (
    ACTIONS,
    AU_CODES,
    EMOTIONS,
    NEUTRAL_STATE,
    NEVER,
    State,
    actions,
    draw_state,
    expression_of,
    single,
)
from training.renderer.geometry import load_basis

K = len(AU_CODES)


@cache
def states() -> list[State]:
    return [draw_state(np.random.default_rng((0, i))) for i in range(4000)]


@cache
def rows() -> NDArray[np.float32]:
    return np.stack([state.row() for state in states()])


def test_the_same_seed_draws_the_same_state() -> None:
    assert (
        draw_state(np.random.default_rng(5))
        == draw_state(np.random.default_rng(5))
        != draw_state(np.random.default_rng(6))
    )


def test_every_rendered_action_unit_is_shown_often_enough_to_be_learned() -> None:
    assert LABEL_SETS["rendered"] == AU_CODES
    shown = dict(zip(AU_CODES, (rows()[:, :K] >= 0.3).mean(0), strict=True))
    assert min(shown.values()) > 0.07, shown
    assert max(shown.values()) < 0.4, shown


def test_intensities_fill_their_range_and_no_state_lacks_them() -> None:
    assert rows()[:, :K].min() == 0 and rows()[:, :K].max() == 1
    assert not np.isnan(rows()[:, :K]).any()
    assert (rows()[:, :K].max(0) > 0.85).all()


def test_about_an_eighth_of_the_faces_is_at_rest() -> None:
    assert 0.10 < (rows()[:, :K].max(1) < 0.3).mean() < 0.16


def test_every_state_has_valence_and_arousal() -> None:
    assert not np.isnan(rows()).any()
    assert all(state.expected is not None for state in states())


def test_what_excludes_each_other_is_not_shown_together() -> None:
    for pair in NEVER:
        columns = [AU_CODES.index(f"AU{number}") for number in pair]
        assert not (rows()[:, columns] >= 0.35).all(1).any(), pair


@pytest.mark.parametrize(
    ("follower", "leader"), [("AU2", "AU1"), ("AU15", "AU17"), ("AU26", "AU25")]
)
def test_what_goes_together_is_shown_together(follower: str, leader: str) -> None:
    led, leads = (
        rows()[:, AU_CODES.index(follower)] >= 0.3,
        rows()[:, AU_CODES.index(leader)] >= 0.3,
    )
    assert leads[led].mean() > 1.5 * leads.mean()


def test_prototypes_are_shown_as_often_as_people_show_them() -> None:
    sad = [
        state
        for state in states()
        if state.emotion == "sadness" and max(state.intensities.values()) > 0.5
    ]
    shown = {
        number: np.mean([state.intensities.get(f"AU{number}", 0) > 0.3 for state in sad])
        for number in EMOTIONS["sadness"].aus
    }
    assert all(
        abs(shown[number] - share) < 0.15 for number, share in EMOTIONS["sadness"].aus.items()
    ), shown


def _tilt(state: State) -> float:
    """The largest difference between the sides of one AU."""
    sides = state.sides(left=True), state.sides(left=False)
    return max((abs(sides[0][code] - sides[1][code]) for code in sides[0]), default=0.0)


def test_contempt_is_one_sided() -> None:
    contempt = [state for state in states() if state.emotion == "contempt"]
    assert min(abs(state.left["AU14"] - 1) for state in contempt) > 0.8


def test_an_eighth_of_the_states_is_clearly_one_sided_and_most_are_nearly_even() -> None:
    tilts = np.array([_tilt(state) for state in states()])
    assert 0.10 < (tilts >= 0.4).mean() < 0.17
    assert (tilts < 0.25).mean() > 0.6


def test_sides_stay_in_their_range_and_name_the_stronger_one() -> None:
    crooked = State({"AU12": 0.6, "AU25": 1.0}, {"AU12": 1.9}, None, None, None)
    left, right = crooked.sides(left=True), crooked.sides(left=False)
    assert left["AU12"] == pytest.approx(0.9) and right["AU12"] == pytest.approx(0.06)
    assert left["AU4"] == right["AU4"] == 0 and "AU25" not in left


CALLED = {
    "neutral": State({"AU4": 0.15}, {}, None, None, None),
    "happiness": State({"AU12": 0.6}, {}, None, None, None),
    "surprise": State({"AU1": 0.6, "AU2": 0.6, "AU25": 0.5}, {}, None, None, None),
    "anger": State({"AU4": 0.6, "AU24": 0.6}, {}, "anger", None, None),
    "other": State({"AU12": 0.6, "AU4": 0.5}, {}, None, None, None),
}


@pytest.mark.parametrize("name", CALLED)
def test_an_expression_is_what_people_would_call_it(name: str) -> None:
    assert expression_of(CALLED[name]) == name


def test_a_one_sided_smile_is_not_happiness_and_a_faint_emotion_is_other() -> None:
    assert expression_of(State({"AU12": 0.6}, {"AU12": 1.9}, None, None, None)) == "other"
    faint = State({"AU4": 0.25, "AU15": 0.25}, {}, "sadness", None, None)
    assert expression_of(faint) == "other"


def test_every_expression_class_is_drawn() -> None:
    drawn = [expression_of(state) for state in states()]
    assert set(drawn) == set(EXPRESSIONS)
    assert min(drawn.count(name) for name in EXPRESSIONS) > 0.02 * len(drawn)


def test_every_action_is_one_the_head_can_do() -> None:
    for state in states()[:200]:
        load_basis().moved(
            load_basis().mean, actions(state)
        )  # raises for a name that it does not know
    assert {f"AU{number}" for number in ACTIONS} == set(AU_CODES)


def test_a_face_at_rest_does_nothing() -> None:
    assert actions(NEUTRAL_STATE) == {} and not NEUTRAL_STATE.row().any()


def test_actions_grow_with_intensity_and_follow_the_side() -> None:
    weak, strong = actions(single("AU12", 0.3)), actions(single("AU12", 0.9))
    assert strong["mouthSmileLeft"] == pytest.approx(3 * weak["mouthSmileLeft"])
    crooked = actions(State({"AU12": 0.5}, {"AU12": 1.2}, None, None, None))
    assert crooked["mouthSmileLeft"] == pytest.approx(1.5 * crooked["mouthSmileRight"])
    one_sided = actions(State({"AU12": 1.0}, {"AU12": 1.9}, None, None, None))
    assert one_sided["mouthSmileRight"] == pytest.approx(0.1 * one_sided["mouthSmileLeft"])


def test_a_person_of_larger_amplitude_moves_farther() -> None:
    calm, lively = (actions(single("AU4", 0.5), {"AU4": reach}) for reach in (0.8, 1.2))
    assert lively["browDownLeft"] == pytest.approx(1.5 * calm["browDownLeft"])
