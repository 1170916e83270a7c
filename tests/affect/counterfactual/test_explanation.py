"""Explanations by a tiny model, about cartoon faces of a person it never saw."""

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from affect.counterfactual import (
    CounterfactualQuestion,
    Explanation,
    QuestionError,
    explain,
    region_masks,
)
from affect.factory import initialise_model
from affect.model import AffectModel
from tests.support.tiny import tiny_card, tiny_model
from tests.support.trained import face, model


def answer(name: str, question: CounterfactualQuestion) -> Explanation:
    (explanation,) = explain(model(), face(name)[None], [question])
    assert isinstance(explanation, Explanation), explanation
    return explanation


def read(image: NDArray[np.uint8], label: str) -> float:
    labels = model().labels(AffectModel.to_pixels(torch.tensor(image[None])))
    return float(labels.detach()[0, model().card.labels_of.index(label)])


def test_a_smile_is_taken_away() -> None:
    explanation = answer("happiness", CounterfactualQuestion("AU12", 0.0))
    assert explanation.valid
    assert read(explanation.counterfactual, "AU12") < read(face("happiness"), "AU12") - 0.1
    assert explanation.scores["identity"] > 0.5


def test_the_flags_come_from_the_picture_that_is_returned() -> None:
    for name in ("happiness", "surprise", "sadness"):
        explanation = answer(name, CounterfactualQuestion())
        again = model().predict(
            AffectModel.to_pixels(torch.from_numpy(explanation.counterfactual[None]))
        )
        assert torch.allclose(
            again.probability, explanation.counterfactual_read.probability, atol=1e-5
        )
        assert torch.allclose(again.va, explanation.counterfactual_read.va, atol=1e-5)


def test_valence_moves_towards_its_target() -> None:
    explanation = answer("happiness", CounterfactualQuestion("valence", -0.5))
    assert read(explanation.counterfactual, "valence") < read(face("happiness"), "valence") - 0.2
    assert "Valence would fall from" in explanation.sentence


def test_labels_that_are_not_questioned_stay_as_they_were() -> None:
    explanation = answer("happiness", CounterfactualQuestion("AU12", 0.0))
    masks = region_masks(len(face("happiness")))
    shift = np.abs(explanation.counterfactual.astype(int) - face("happiness")).mean(2)
    assert shift[masks["mouth"]].mean() > 1.5 * shift[masks["brow"]].mean()


def test_the_map_is_black_where_nothing_near_changed() -> None:
    explanation = answer("happiness", CounterfactualQuestion("AU12", 0.0))
    shift = np.abs(explanation.counterfactual.astype(int) - face("happiness")).mean(2)
    near = cv2.dilate(shift, np.ones((9, 9)))  # the blur's reach
    assert np.all(explanation.map[near == 0] == 0)
    assert np.all(explanation.map[shift > 1] > 0)
    assert np.corrcoef(explanation.map.ravel(), shift.ravel())[0, 1] > 0.9


def test_regions_tile_the_crop_and_share_the_change() -> None:
    masks = np.stack(list(region_masks(len(face("surprise"))).values()))
    assert np.all(masks.sum(0) == 1)
    assert sum(answer("anger", CounterfactualQuestion()).regions.values()) == pytest.approx(
        1, abs=0.01
    )


def test_the_way_leads_from_the_face_to_its_counterfactual() -> None:
    explanation = answer("happiness", CounterfactualQuestion("AU12", 0.0))
    assert np.array_equal(explanation.frames[0], face("happiness"))
    assert np.array_equal(explanation.frames[-1], explanation.counterfactual)
    distance = [
        np.abs(frame.astype(int) - explanation.frames[-1]).mean() for frame in explanation.frames
    ]
    assert distance == sorted(distance, reverse=True)


def test_rows_are_computed_as_if_they_were_alone() -> None:
    names, questions = (
        ("happiness", "anger", "surprise"),
        [
            CounterfactualQuestion("AU12", 0.0),
            CounterfactualQuestion("valence", 0.5),
            CounterfactualQuestion(),
        ],
    )
    together = explain(model(), np.stack([face(name) for name in names]), questions)
    for name, question, explanation in zip(names, questions, together, strict=True):
        alone = answer(name, question)
        assert isinstance(explanation, Explanation)
        assert explanation.question == alone.question
        assert np.abs(explanation.counterfactual.astype(int) - alone.counterfactual).max() <= 1


@pytest.mark.parametrize(
    ("question", "code"),
    [
        (CounterfactualQuestion("AU99"), "unknown_label"),
        (CounterfactualQuestion("valence", 3.0), "bad_target"),
        (CounterfactualQuestion("AU12", 1.0), "already_so"),
    ],
)
def test_an_invalid_question_fails_alone(question: CounterfactualQuestion, code: str) -> None:
    bad, good = explain(
        model(), np.stack([face("happiness")] * 2), [question, CounterfactualQuestion("AU12", 0.0)]
    )
    assert isinstance(bad, QuestionError)
    assert bad.code == code
    assert isinstance(good, Explanation)


def test_a_question_about_a_label_that_was_not_learnt_is_refused() -> None:
    crops = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    (explanation,) = explain(
        tiny_model(tiny_card("au")), crops, [CounterfactualQuestion("valence", 0.5)]
    )
    assert isinstance(explanation, QuestionError)
    assert explanation.code == "not_learned"


def test_a_question_that_cannot_be_met_gets_the_best_candidate_and_says_so() -> None:
    untrained = initialise_model(tiny_card(), seed=1).eval()
    untrained.label_table[:] = torch.rand(
        untrained.label_table.shape, generator=torch.Generator().manual_seed(0)
    )
    crops = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    (explanation,) = explain(untrained, crops, [CounterfactualQuestion("valence", 0.9)])
    assert isinstance(explanation, Explanation)
    assert not explanation.valid
    assert explanation.trust == "low"
    assert "not met" in explanation.reasons[0]


def test_no_faces_no_answers() -> None:
    assert explain(model(), np.zeros((0, 64, 64, 3), np.uint8), []) == []
