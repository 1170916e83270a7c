"""The generative rule, held against the field's own rules and against what training needs."""

import numpy as np
import pytest

from affect.catalogue import LABEL_SETS
from training.renderer.expressions import (
    ACTIONS,
    AU_CODES,
    EMOTIONS,
    NEUTRAL_STATE,
    NEVER,
    State,
    actions,
    affect_of,
    draw_state,
    single,
)
from training.renderer.geometry import load_basis

STATES = [draw_state(np.random.default_rng((0, i))) for i in range(4000)]
ROWS = np.stack([state.row() for state in STATES])
K = len(AU_CODES)


def _va(emotion: str) -> np.ndarray:
    """(N, 2) oracle's valence and arousal of an emotion's states."""
    return np.array([state.expected for state in STATES if state.emotion == emotion])


def test_the_same_seed_draws_the_same_state() -> None:
    assert (
        draw_state(np.random.default_rng(5))
        == draw_state(np.random.default_rng(5))
        != draw_state(np.random.default_rng(6))
    )


def test_every_rendered_action_unit_is_shown_often_enough_to_be_learned() -> None:
    assert LABEL_SETS["rendered"] == AU_CODES
    shown = dict(zip(AU_CODES, (ROWS[:, :K] >= 0.3).mean(0), strict=True))
    assert min(shown.values()) > 0.07, shown
    assert max(shown.values()) < 0.4, shown


def test_intensities_fill_their_range_and_no_state_lacks_them() -> None:
    assert ROWS[:, :K].min() == 0 and ROWS[:, :K].max() == 1
    assert not np.isnan(ROWS[:, :K]).any()
    assert (ROWS[:, :K].max(0) > 0.85).all()


def test_about_an_eighth_of_the_faces_is_at_rest() -> None:
    assert 0.10 < (ROWS[:, :K].max(1) < 0.3).mean() < 0.16


def test_half_of_the_free_combinations_have_no_valence_and_arousal() -> None:
    free = [state for state in STATES if state.emotion is None]
    assert np.mean([state.valence is None for state in free]) >= 0.5
    assert all(
        (state.valence is None) == (state.arousal is None) == (state.expected is None)
        for state in STATES
    )
    assert all(state.valence is not None for state in STATES if state.emotion is not None)


def test_what_excludes_each_other_is_not_shown_together() -> None:
    for pair in NEVER:
        columns = [AU_CODES.index(f"AU{number}") for number in pair]
        assert not (ROWS[:, columns] >= 0.35).all(1).any(), pair


@pytest.mark.parametrize(
    ("follower", "leader"), [("AU2", "AU1"), ("AU15", "AU17"), ("AU26", "AU25")]
)
def test_what_goes_together_is_shown_together(follower: str, leader: str) -> None:
    led, leads = ROWS[:, AU_CODES.index(follower)] >= 0.3, ROWS[:, AU_CODES.index(leader)] >= 0.3
    assert leads[led].mean() > 1.5 * leads.mean()


def test_expected_affect_obeys_emonets_rules() -> None:
    assert (np.abs(_va("neutral")) < 0.2).all()
    assert (_va("happiness")[:, 0] > 0).all()
    assert (_va("sadness")[:, 0] < 0).all()
    assert (_va("surprise")[:, 1] > 0).all()
    assert (_va("fear")[:, 1] >= 0).all() and (_va("fear")[:, 0] <= 0).all()
    assert (_va("disgust")[:, 0] < 0).all() and np.abs(_va("disgust")[:, 0]).max() > 0.3
    assert (_va("anger")[:, 1] > 0).all()
    assert (_va("contempt")[:, 0] < 0).all()


def test_annotators_scatter_around_what_is_expected() -> None:
    known = [state for state in STATES if state.expected is not None]
    off = np.array([[state.valence, state.arousal] for state in known], float) - np.array(
        [state.expected for state in known]
    )
    assert (
        (np.abs(off.mean(0)) < 0.015).all()
        and (off.std(0) > 0.1).all()
        and (off.std(0) < 0.25).all()
    )


def test_stronger_action_units_mean_stronger_affect() -> None:
    happy = [state for state in STATES if state.emotion == "happiness" and state.expected]
    smile = [state.intensities["AU12"] for state in happy]
    assert np.corrcoef(smile, [state.expected[0] for state in happy if state.expected])[0, 1] > 0.8


def test_prototypes_are_shown_as_often_as_people_show_them() -> None:
    sad = [
        state
        for state in STATES
        if state.emotion == "sadness" and max(state.intensities.values()) > 0.5
    ]
    shown = {
        number: np.mean([state.intensities.get(f"AU{number}", 0) > 0.3 for state in sad])
        for number in EMOTIONS["sadness"].aus
    }
    assert all(
        abs(shown[number] - share) < 0.15 for number, share in EMOTIONS["sadness"].aus.items()
    ), shown


def test_contempt_is_one_sided() -> None:
    tilts = [abs(state.left["AU14"] - 1) for state in STATES if state.emotion == "contempt"]
    others = [
        abs(tilt - 1)
        for state in STATES
        if state.emotion != "contempt"
        for tilt in state.left.values()
    ]
    assert min(tilts) > 0.8 and max(others) < 0.31


def test_every_action_is_one_the_head_can_do() -> None:
    for state in STATES[:200]:
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
    assert crooked["mouthSmileLeft"] == pytest.approx(0.6) and crooked[
        "mouthSmileRight"
    ] == pytest.approx(0.4)
    one_sided = actions(State({"AU12": 1.0}, {"AU12": 1.9}, None, None, None))
    assert one_sided["mouthSmileLeft"] == pytest.approx(1.3) and one_sided[
        "mouthSmileRight"
    ] == pytest.approx(0.1)


def test_the_rule_can_be_asked_about_any_action_units() -> None:
    free = [state for state in STATES if state.emotion is None and state.expected is not None]
    asked, drawn = (
        np.array(rows)
        for rows in (
            [affect_of(state.intensities) for state in free],
            [state.expected for state in free],
        )
    )
    assert all(np.corrcoef(asked[:, d], drawn[:, d])[0, 1] > 0.85 for d in (0, 1))
    assert affect_of({}) == affect_of({AU_CODES[0]: 0.1}) == (0.0, 0.0)
