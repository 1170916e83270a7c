"""What evaluation writes into a model's card before it measures: calibration, and quantiles of what
is read off faces that are not the test's.

Where photographs are given, thresholds are held at what people at rest allow (`calibration`), and
the quantiles, by which realism ranks a face and drift is seen, are of renders and people alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from affect.card import Calibration, ModelCard
from affect.labels import POSE
from affect.model import AffectModel
from affect.rows import join_rows
from training.database.reader import Database
from training.database.sample import TRAIN, VALIDATION
from training.evaluation.core.predictions import (
    Faces,
    Floats,
    Read,
    in_batches,
    load_faces,
    read,
)
from training.evaluation.recognition import calibration, recognition
from training.evaluation.recognition.photographs import logits_at_rest
from training.evaluation.recognition.warning_limits import measure_limit, with_limit
from training.gan.post_training import fit_features, photograph_repeats
from training.renderer.affect_rule import weights_of

QUANTILES = np.linspace(0, 1, 101)
LIMIT_IMAGES = 400  # faces that the limit of realism is measured on, where no photographs are


@dataclass(frozen=True)
class CalibrationData:
    """What to fit on: the run's own database, sets of photographs, and how many faces at most."""

    database: Database
    photographs: Sequence[Database]
    most_images: int


def learn_features(model: AffectModel, data: CalibrationData, rng: np.random.Generator) -> None:
    """Fit the feature distribution behind realism, for weights whose training did not, or did it by
    another distance. Photographs count as much as the run's own faces, as in training.
    """
    features = _features(model, data.database, data.most_images, rng)
    parts = [features]
    for photographs in data.photographs:
        if photographs.count(TRAIN):
            of_people = _features(model, photographs, data.most_images, rng)
            parts += [of_people] * photograph_repeats(len(features), len(of_people))
    fit_features(model, torch.from_numpy(np.concatenate(parts)).float())


def _features(
    model: AffectModel, database: Database, most_images: int, rng: np.random.Generator
) -> Floats:
    """(N, H) of faces of the training split."""
    images = load_faces(database, model, TRAIN, most_images, rng).images
    (features,) = in_batches(model, lambda x: (model.read_state(x).features,), images)
    return features


def calibrate(model: AffectModel, data: CalibrationData, rng: np.random.Generator) -> int:
    """Fit calibration and reference quantiles on the validation split, into the model's card;
    returns how many faces it had.
    """
    if not data.database.count(VALIDATION):
        return 0
    faces = load_faces(data.database, model, VALIDATION, data.most_images, rng)
    readings = read(model, faces.images)
    fitted = recognition.fit_calibrations(model.card, faces, readings)
    words = [
        f"scale, shift and the threshold best for F1: {len(faces):,} validation faces of "
        f"{data.database.card.name}"
    ]
    for photographs in data.photographs:
        fitted, at_rest = _raised_for_rest(model, fitted, photographs)
        words += [at_rest] if at_rest else []
    changes = {
        "calibration": fitted,
        "calibrated_on": tuple(words),
        "rule_weights": weights_of(model.card.affect_rule, model.card.vocabulary),
        "reference": _reference(model.card, _with_people(model, readings, data, rng)),
    }
    model.replace_card(model.card.model_copy(update=changes))
    _limit_warnings(model, faces, data, rng)
    return len(faces)


def _limit_warnings(
    model: AffectModel, faces: Faces, data: CalibrationData, rng: np.random.Generator
) -> None:
    """Write the limit of realism for warnings into the card: measured on photographs where there
    are any, else on the model's own kind of faces.
    """
    photograph_images = [
        load_faces(photographs, model, VALIDATION, data.most_images, rng).images
        for photographs in data.photographs
        if photographs.count(VALIDATION)
    ]
    limit = measure_limit(
        model, np.concatenate(photograph_images or [faces.images[:LIMIT_IMAGES]]), rng
    )
    with_limit(model, limit, "photographs" if photograph_images else "validation faces")


def _raised_for_rest(
    model: AffectModel, fitted: dict[str, Calibration], photographs: Database
) -> tuple[dict[str, Calibration], str]:
    """Thresholds that people at rest allow, and how they came about; as they were where the set
    has none.
    """
    logits = logits_at_rest(model, photographs, (TRAIN, VALIDATION))
    if not len(logits) or not model.card.learns_aus:
        return fitted, ""
    adjusted = {
        code: calibration.raised_for_rest(fitted[code], logits[:, k])
        for k, code in enumerate(model.card.vocabulary)
    }
    raised = [
        f"{code} {fitted[code].threshold:.2f} to {adjusted[code].threshold:.2f}"
        for code in adjusted
        if adjusted[code] != fitted[code]
    ]
    return adjusted, (
        f"thresholds raised where more than {calibration.REST_ALARMS:.0%} of {len(logits)} neutral "
        f"faces of {photographs.card.name} (training and validation splits) were called present: "
        f"{', '.join(raised) or 'none'}"
    )


def _with_people(
    model: AffectModel, readings: Read, data: CalibrationData, rng: np.random.Generator
) -> Read:
    """Readings and those of photographs, repeated until they are as many."""
    parts = [readings]
    for photographs in data.photographs:
        if photographs.count(VALIDATION):
            faces = load_faces(photographs, model, VALIDATION, data.most_images, rng)
            times = photograph_repeats(len(readings.va), len(faces))
            parts += [read(model, faces.images)] * times
    return join_rows(parts, np.concatenate)


def _reference(card: ModelCard, readings: Read) -> dict[str, list[float]]:
    columns = {
        "critic": readings.critic,
        "strangeness": readings.strangeness,
        "reconstruction_error": readings.reconstruction_error,
    }
    for names, values in (
        (card.labels_of.names, readings.labels),
        (card.expressions, readings.expression),
        (POSE if card.pose else (), readings.pose),
    ):
        columns |= {name: values[:, i] for i, name in enumerate(names)}
    return {
        name: [round(float(q), 6) for q in np.quantile(values, QUANTILES)]
        for name, values in columns.items()
    }
