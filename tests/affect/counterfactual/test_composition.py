"""A change is put into a face without colours or remains that the face does not have."""

import numpy as np
import pytest
import torch
from torch import Tensor

from affect.counterfactual.composition import Palette, compose

SIDE = 64
SKIN = (0.4, 0.1, 0.0)


def _flat(colour: tuple[float, float, float]) -> Tensor:
    """(1, 3, S, S) of one colour in [-1, 1]."""
    return torch.tensor(colour).view(1, 3, 1, 1).expand(1, 3, SIDE, SIDE).clone()


def _with_mouth(face: Tensor, colour: tuple[float, float, float]) -> Tensor:
    changed = face.clone()
    changed[:, :, 36:48, 16:48] = torch.tensor(colour).view(3, 1, 1)
    return changed


def _composed(x: Tensor, edited: Tensor, drawn: Tensor) -> Tensor:
    return compose(x, edited, drawn, Palette.of(x))


@pytest.mark.parametrize("blue", [(-0.6, -0.6, 0.6), (-0.9, -0.9, 0.0)])
def test_a_change_gets_no_colour_that_the_face_has_not(blue: tuple[float, float, float]) -> None:
    x = _flat(SKIN)
    after = _composed(x, _with_mouth(x, blue), _flat(SKIN))[0, :, 42, 32]
    assert after[2] - after[0] == pytest.approx(SKIN[2] - SKIN[0], abs=0.1)
    assert after.mean() < torch.tensor(SKIN).mean() - 0.3  # as dark as it was asked


def test_lips_may_become_as_red_as_lips_nearby() -> None:
    x = _flat(SKIN)
    x[:, :, 46:50, 16:48] = torch.tensor((0.5, -0.5, -0.4)).view(3, 1, 1)
    after = _composed(x, _with_mouth(x, (0.1, -0.9, -0.8)), _flat(SKIN))[0, :, 44, 32]
    assert after[0] - after[1] > SKIN[0] - SKIN[1] + 0.3


def test_what_is_left_of_teeth_goes_and_the_drawn_lips_come() -> None:
    x, stripes = _flat(SKIN), torch.arange(SIDE) % 4 < 2
    teeth = _with_mouth(x, (0.9, 0.9, 0.9))
    left = _with_mouth(x, (0.0, -0.3, -0.4))
    left[:, :, 36:48, 16:48] += 0.3 * stripes[16:48]
    line = _flat(SKIN)
    line[:, :, 42] -= 0.5
    after = _composed(teeth, left, line)[0].mean(0)
    across, down = after[39, 20:44], after[38:47, 32]
    assert across.std() < 0.3 * left[0, 0, 39, 20:44].std()
    assert int(down.argmin()) == 42 - 38


def test_a_place_that_hardly_changes_stays_as_edited() -> None:
    x = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (1, 3, SIDE, SIDE))).float()
    edited = (x + 0.01).clamp(-1, 1)
    assert torch.allclose(_composed(x, edited, _flat(SKIN)), edited, atol=1e-5)
    far = _composed(x, _with_mouth(x, (1.0, 1.0, 1.0)), _flat(SKIN))
    assert torch.allclose(far[:, :, :20], x[:, :, :20], atol=1e-5)
