"""The head's basis: symmetric where people are, local where muscles are, the sexes as the source
has them.
"""

import numpy as np
import pytest

from training.renderer.geometry import ATTRIBUTES, LEFT_EYE, RIGHT_EYE, SKIN, features, load_basis


def moved(action: str) -> np.ndarray:
    """(V,) metres each vertex moves."""
    basis = load_basis()
    return np.asarray(np.linalg.norm(basis.moves[basis.action_names.index(action)], axis=1))


def test_left_and_right_are_the_subjects() -> None:
    basis = load_basis()
    assert basis.mean[basis.part == LEFT_EYE, 0].mean() > 0.02
    assert basis.mean[basis.part == RIGHT_EYE, 0].mean() < -0.02


@pytest.mark.parametrize("action", ["eyeBlink", "mouthSmile", "browOuterUp"])
def test_an_action_of_one_side_moves_that_side(action: str) -> None:
    x = load_basis().mean[:, 0]
    left, right = moved(f"{action}Left"), moved(f"{action}Right")
    assert left[x > 0].sum() > 5 * left[x < 0].sum()
    assert right[x < 0].sum() > 5 * right[x > 0].sum()


def test_a_neutral_head_under_no_action_stays_as_it_is() -> None:
    basis = load_basis()
    neutral = basis.neutral(np.zeros(len(basis.directions), np.float32))
    assert np.array_equal(neutral, basis.mean)
    assert np.array_equal(basis.moved(neutral, {"jawOpen": 0.0}), neutral)


def test_actions_add_up() -> None:
    basis = load_basis()
    neutral = basis.neutral(np.full(len(basis.directions), 0.01, np.float32))
    both = basis.moved(neutral, {"jawOpen": 0.5, "browInnerUpLeft": 1.0}) - neutral
    apart = sum(
        basis.moved(neutral, {name: value}) - neutral
        for name, value in (("jawOpen", 0.5), ("browInnerUpLeft", 1.0))
    )
    assert np.allclose(both, apart, atol=1e-6)


def test_gender_zero_is_the_male_end() -> None:
    """As in anny's shape distribution: men's heads are the longer ones."""
    basis = load_basis()
    rows = np.array([[gender, 0.67, 0.5, 0.5, 1 / 3, 1 / 3, 1 / 3] for gender in (0.0, 1.0)])
    assert rows.shape[1] == len(ATTRIBUTES)
    male, female = (
        basis.neutral(row.astype(np.float32)) for row in features(rows) @ basis.attribute_effect
    )
    assert np.ptp(male[basis.part == SKIN][:, 1]) > np.ptp(female[basis.part == SKIN][:, 1]) + 0.005
