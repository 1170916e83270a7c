"""The rule of valence and arousal, held against what people and the field say of faces."""

from functools import cache

import numpy as np
import pytest

from training.renderer.affect_rule import RULE, WEIGHTS, affect_of, rated, rater, weights_of
from training.renderer.expressions import AU_CODES, EMOTIONS, State, draw_state

# Signs of valence and arousal of each AU alone at full intensity; 0 is neither.
SIGNS = {
    "AU1": (-1, 1), "AU2": (1, 1), "AU4": (-1, 1), "AU5": (0, 1), "AU6": (1, 0), "AU7": (-1, 1),
    "AU9": (-1, 1), "AU10": (-1, 1), "AU12": (1, 1), "AU14": (-1, 1), "AU15": (-1, -1),
    "AU17": (-1, 0), "AU20": (-1, 1), "AU23": (-1, 1), "AU24": (-1, 1), "AU25": (1, 1),
    "AU26": (0, 1), "AU43": (0, -1),
}  # fmt: skip


@cache
def states() -> list[State]:
    return [draw_state(np.random.default_rng((1, i))) for i in range(4000)]


def _va(emotion: str) -> np.ndarray:
    """(N, 2) expected valence and arousal of an emotion's states."""
    return np.array([state.expected for state in states() if state.emotion == emotion])


@pytest.mark.parametrize("code", AU_CODES)
def test_each_action_unit_alone_has_the_sign_that_studies_give_it(code: str) -> None:
    assert tuple(np.sign(affect_of({code: 1.0})).astype(int)) == SIGNS[code]


def test_every_rendered_action_unit_has_a_weight() -> None:
    assert set(WEIGHTS) == set(AU_CODES) and RULE


@pytest.mark.parametrize("emotion", sorted(set(EMOTIONS) - {"contempt", "calm"}))
def test_class_means_lie_where_annotators_place_them(emotion: str) -> None:
    anchor = EMOTIONS[emotion].valence[0], EMOTIONS[emotion].arousal[0]
    assert np.abs(_va(emotion).mean(0) - anchor).max() < 0.15


def test_closing_the_eyes_lowers_arousal_and_leaves_valence() -> None:
    for state in states()[:500]:
        opened = {code: value for code, value in state.intensities.items() if code != "AU43"}
        before, after = affect_of(opened), affect_of({**opened, "AU43": 0.8})
        assert after[0] == pytest.approx(before[0]) and after[1] < before[1]


def test_a_lone_smile_is_pleasant_and_more_so_with_raised_cheeks() -> None:
    small, broad, eyes = ({"AU12": 0.3}, {"AU12": 0.9}, {"AU12": 0.9, "AU6": 0.8})
    assert 0.2 < affect_of(small)[0] < affect_of(broad)[0] < affect_of(eyes)[0] < 1
    assert affect_of(broad)[0] > 0.6


def test_a_raised_lip_or_a_dimple_weighs_less_beside_a_smile() -> None:
    for code in ("AU10", "AU14"):
        alone = affect_of({code: 0.8})[0]
        beside = np.arctanh(affect_of({code: 0.8, "AU12": 0.8})[0])
        assert beside - np.arctanh(affect_of({"AU12": 0.8})[0]) > 0.6 * np.arctanh(alone)


def test_a_one_sided_smile_with_a_dimple_is_contempt() -> None:
    aus, left, right = {"AU12": 0.6, "AU14": 0.6}, {"AU12": 0.9}, {"AU12": 0.06}
    assert affect_of(aus)[0] > 0.4 and affect_of(aus, left, right)[0] < -0.4
    assert affect_of(aus, right, left) == affect_of(aus, left, right)


def test_expected_affect_obeys_emonets_rules() -> None:
    assert np.quantile(np.abs(_va("neutral")), 0.95) < 0.25
    assert np.quantile(_va("happiness")[:, 0], 0.02) > 0
    assert (_va("sadness")[:, 0] < 0).all() and (_va("surprise")[:, 1] > 0).all()
    assert (_va("fear")[:, 1] >= 0).all() and _va("fear")[:, 0].mean() < 0
    assert (_va("disgust")[:, 0] < 0).all() and np.abs(_va("disgust")[:, 0]).max() > 0.3
    assert (_va("anger")[:, 1] > 0).all() and np.quantile(_va("contempt")[:, 0], 0.9) < 0


def test_raters_scatter_around_what_is_expected() -> None:
    rates = np.array([[state.valence, state.arousal] for state in states()], float)
    off = rates - np.array([state.expected for state in states()])
    assert np.abs(off.mean(0)).max() < 0.02
    assert off.std(0).min() > 0.1 and off.std(0).max() < 0.25


def test_valence_says_more_than_which_action_units_are_there() -> None:
    known = np.stack([state.row() >= 0.3 for state in states()])[:, : len(AU_CODES)].astype(float)
    known = np.column_stack([known, np.ones(len(known))])
    expected = np.array([state.expected for state in states()])
    left = expected - known @ np.linalg.lstsq(known, expected, rcond=None)[0]
    assert (left.var(0) / expected.var(0)).min() > 0.05


def test_the_noise_of_a_sample_depends_on_its_key_alone() -> None:
    first, again, other = (
        rated(rater(key), (0.1, 0.2), {"AU12": 0.5}) for key in ("s1-g0-0", "s1-g0-0", "s1-g0-1")
    )
    assert first == again != other


def test_a_card_gets_the_weights_of_the_rule_that_its_data_follow_and_no_other() -> None:
    assert weights_of(RULE, ("AU12", "AU99")) == {"AU12": WEIGHTS["AU12"]}
    assert weights_of("another", ("AU12",)) == {}
