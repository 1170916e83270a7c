"""Integrated Gradients against captum, support against counting, and the steadiness of an
answer.
"""

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients

from affect.counterfactual import CounterfactualQuestion, Explanation, explain, measure
from affect.counterfactual.search import Rows, margin_and_reach
from tests.support.trained import face, model


def rows_of(column: int) -> Rows:
    x = model().to_pixels(torch.from_numpy(np.stack([face("happiness"), face("anger")])))
    with torch.no_grad():
        return Rows.of(x, model().read(x), torch.full((2,), column), torch.ones(2))


@pytest.mark.parametrize("label", ["AU12", "valence"])
def test_integrated_gradients_are_captums(label: str) -> None:
    column = model().card.labels_of.index(label)
    rows = rows_of(column)
    computed, _ = measure.integrated_gradients(model(), rows)

    def number(x: torch.Tensor) -> torch.Tensor:
        output = model().read(x)
        return torch.cat([output.logits, output.va], dim=1)[:, column]

    expected = (
        IntegratedGradients(number)
        .attribute(rows.x, n_steps=64, method="riemann_middle")
        .sum(1)
        .detach()
    )
    assert np.corrcoef(computed.numpy().ravel(), expected.numpy().ravel())[0, 1] > 0.9


def test_more_steps_make_the_shares_more_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(model().card.labels_of.index("AU12"))
    few = measure.integrated_gradients(model(), rows)[1]
    monkeypatch.setattr(measure, "GRADIENT_STEPS", 256)
    many = measure.integrated_gradients(model(), rows)[1]
    assert many.max() < 0.05
    assert many.mean() < few.mean()


def test_integrated_gradients_come_on_request() -> None:
    (plain,) = explain(model(), face("happiness")[None], [CounterfactualQuestion("AU12")])
    (full,) = explain(
        model(),
        face("happiness")[None],
        [CounterfactualQuestion("AU12")],
        integrated_gradients=True,
    )
    assert isinstance(plain, Explanation) and isinstance(full, Explanation)
    assert plain.integrated_gradients is None
    assert (
        full.integrated_gradients is not None
        and full.integrated_gradients.shape == face("happiness").shape[:2]
    )
    assert full.scores["completeness_error"] >= 0
    assert np.array_equal(plain.counterfactual, full.counterfactual)


def test_a_state_that_real_faces_show_has_more_support_than_one_that_none_shows() -> None:
    table = model().label_table
    known = table[~torch.isnan(table).any(1)]
    unseen_state = torch.ones_like(known[:1])
    supported = measure.support(model(), torch.cat([known[:5] + 1e-4, unseen_state]))
    assert torch.all(supported[:5] > 0.8)
    assert supported[5] == 0


def test_a_face_that_is_far_from_the_line_is_steady_and_one_on_it_is_not() -> None:
    rows = rows_of(model().card.labels_of.index("AU12"))
    images = model().to_images(rows.x)
    with torch.inference_mode():
        margin, _ = margin_and_reach(model(), model().read(model().to_pixels(images)), rows)
        assert measure.stability(model(), rows, images, margin > 0).tolist() == [1.0, 1.0]
        assert measure.stability(model(), rows, images, margin <= 0).tolist() == [0.0, 0.0]


def test_faint_changes_look_faint_and_none_are_black() -> None:
    shift = np.zeros((64, 64))
    shift[8:24, 8:24], shift[40:56, 8:24], shift[40:56, 40:56] = 0.025, 0.25, 0.9
    grey = measure.change_map(shift)
    assert grey[16, 16] == 26 and grey[48, 16] == grey[48, 48] == 255
    assert grey[4, 32] == grey[16, 48] == 0


def test_the_map_tells_places_and_not_single_pixels() -> None:
    shift = np.zeros((64, 64))
    shift[10, 10] = 0.2  # one pixel of noise
    shift[40:44, 40:44] = 0.2
    grey = measure.change_map(shift).astype(int)
    assert grey[41, 41] > 3 * grey[10, 10] > 0
    assert grey[44, 42] > 0  # next door


def test_the_signed_map_is_warm_where_brighter_and_cool_where_darker() -> None:
    fact = np.full((32, 32, 3), 128, np.uint8)
    counter = fact.copy()
    counter[4:12, 4:12] += 60
    counter[20:28, 20:28] -= 60
    signed = measure.signed_map(fact, counter).astype(int)
    assert signed[8, 8, 0] > signed[8, 8, 2] + 50
    assert signed[24, 24, 2] > signed[24, 24, 0] + 50
    assert np.ptp(signed[0, 31]) == 0
