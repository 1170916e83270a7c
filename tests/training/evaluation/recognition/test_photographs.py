"""Figures on photographs, by a model that reads at random, and by one that always says the same."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from affect.labels import EXPRESSIONS
from affect.model import AffectModel
from tests.support.made_database import card, make
from tests.support.split_readings import made_reading
from tests.support.tiny import tiny_card, tiny_model
from training.database.card import DataError
from training.database.reader import Database
from training.database.sample import SPLITS
from training.evaluation.core import metrics
from training.evaluation.core.predictions import Faces, load_faces
from training.evaluation.recognition import card_calibration, photographs
from training.evaluation.recognition.attributes import measure_attributes
from training.evaluation.recognition.calibration import REST_ALARMS
from training.evaluation.recognition.card_calibration import CalibrationData
from training.evaluation.recognition.photographs import Photographs, measure_photographs

CARD = tiny_card(reader=True)
AU12 = CARD.vocabulary.index("AU12")


@pytest.fixture(scope="module")
def people(photograph_database: Path) -> Database:
    return Database.open(photograph_database)


@pytest.fixture(scope="module")
def figures(people: Database) -> Photographs:
    return measure_photographs(tiny_model(CARD), people, "train", 400, np.random.default_rng(0))


def faces_of(people: Database) -> Faces:
    return load_faces(people, tiny_model(CARD), "train", 400, np.random.default_rng(0))


def says(probability: float) -> AffectModel:
    """A model that reads every AU of every face with this probability."""
    model = tiny_model(CARD)
    assert model.reader is not None
    with torch.no_grad():
        model.reader.answer.weight.zero_()
        model.reader.answer.bias.fill_(float(np.log(probability / (1 - probability))))
    return model


def test_labels_and_their_teacher_are_named(figures: Photographs, people: Database) -> None:
    assert (figures.data, figures.labelled) == ("people", "a drawing")
    assert {au.code for au in figures.aus} == {"AU4", "AU12", "AU25"}
    assert set(figures.va) == {"valence", "arousal"} == set(figures.rule)


def test_an_uncertain_label_weighs_less_than_a_certain_one(people: Database) -> None:
    faces = faces_of(people)
    truth, rng = faces.truth[:, AU12], np.random.default_rng(3)
    logits = np.zeros((len(faces), len(CARD.vocabulary)))
    logits[:, AU12] = np.where(rng.random(len(faces)) < 0.3, -truth, truth)  # three in ten wrong
    wrong = np.sign(logits[:, AU12]) != np.sign(truth)
    confidence = faces.annotations.confidence.copy()
    confidence[:, AU12] = np.where(wrong, 0.05, 1.0)
    sure = replace(faces, annotations=replace(faces.annotations, confidence=confidence))
    readings, weights = made_reading(logits, np.zeros((len(faces), 2))), np.ones((1, len(faces)))
    even, weighed = (
        {au.code: au.auc.value for au in photographs._agreement(CARD, one, readings, weights)[0]}
        for one in (faces, sure)
    )
    assert weighed["AU12"] > even["AU12"] + 0.1


def test_what_is_always_called_alarms_on_everybody_at_rest(people: Database) -> None:
    always, never = (
        measure_photographs(says(p), people, "train", 400, np.random.default_rng(0))
        for p in (0.99, 0.01)
    )
    assert always.rest is not None and never.rest is not None
    assert always.rest.any_alarm.value == 1 and never.rest.any_alarm.value == 0
    assert always.never == () and never.never == CARD.vocabulary
    assert always.smiles_seen is not None and always.smiles_seen.value == 1
    assert all(change.flipped.value == 0 for change in always.stability)


def test_an_action_unit_counts_as_read_where_it_is_called(figures: Photographs) -> None:
    assert set(figures.liveness) == set(CARD.vocabulary)
    assert figures.never == tuple(code for code, count in figures.liveness.items() if count == 0)
    assert all(0 <= count <= figures.faces for count in figures.liveness.values())


def test_thresholds_are_held_at_what_people_at_rest_allow(
    people: Database, drawn_database: Path
) -> None:
    model, rng = tiny_model(CARD), np.random.default_rng(0)
    drawn = Database.open(drawn_database)
    card_calibration.calibrate(model, CalibrationData(drawn, [people], 400), rng)
    logits = photographs.logits_at_rest(model, people, ("train", "validation"))
    present = [
        1 / (1 + np.exp(-(one.scale * logits[:, k] + one.shift))) >= one.threshold
        for k, one in enumerate(model.card.calibration.values())
    ]
    assert max(np.mean(column) for column in present) <= REST_ALARMS
    said = model.card.calibrated_on
    assert len(said) == 3 and f"{len(logits)} neutral faces of people" in said[1]
    assert {"happiness", "yaw", "AU12"} <= set(model.card.reference)


def test_a_split_without_faces_is_refused(tmp_path: Path) -> None:
    one = Database.open(make(tmp_path, card("AU12"), [(1, "a", {"AU12": 1.0})]))
    empty = next(split for split in SPLITS if not one.count(split))
    with pytest.raises(DataError, match=f"split '{empty}' of"):
        measure_photographs(tiny_model(CARD), one, empty, 9, np.random.default_rng(0))


def test_true_readings_of_expression_pose_and_sides_have_no_error(people: Database) -> None:
    faces = faces_of(people)
    count, known = len(faces), faces.annotations
    expression = np.eye(len(EXPRESSIONS))[np.maximum(known.expression, 0)]
    columns = [CARD.vocabulary.index(code) for code in CARD.one_sided]
    sides = np.nan_to_num(known.sides[:, :, columns]).astype(float)
    readings = made_reading(
        np.zeros((count, len(CARD.vocabulary))),
        np.zeros((count, 2)),
        expression=expression,
        pose=known.pose + np.array([2.0, 0, 0]),
        sides=sides,
    )
    right = measure_attributes(
        CARD, faces, readings, metrics.resamplings(faces.identity, np.random.default_rng(1))
    )
    assert right.expression is not None and right.expression.balanced_accuracy.value == 1
    assert right.pose is not None
    assert [round(one.value, 3) for one in right.pose.error.values()] == [2, 0, 0]
    assert [(side.code, side.right_sign.value) for side in right.sides] == [("AU12", 1.0)]
