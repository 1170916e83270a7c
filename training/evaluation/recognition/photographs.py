"""How well a model reads photographs; these figures must not be compared with those on renders.

Labels of photographs are pseudo-labels of a teacher (`training.teacher`), each with a confidence,
or annotations of a set that the user holds. An Action Unit counts as there from PRESENT on and as
absent up to ABSENT; between them it is undecided. What needs no labels at all is measured too: how
stable readings are under small changes of the picture, whether valence and arousal agree with the
Action Units, and which Action Units are ever read. Shape letters: N faces, S side in px, K Action
Units.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from affect.card import ModelCard
from affect.labels import DIMENSIONS, EXPRESSIONS
from affect.model import AffectModel
from training.database.card import DataError
from training.database.reader import Database
from training.evaluation.core import metrics
from training.evaluation.core.metrics import Interval, mean_interval, summary
from training.evaluation.core.predictions import U8, Faces, Floats, Read, decide, load_faces, read
from training.evaluation.recognition import recognition, robustness
from training.evaluation.recognition.attributes import AttributeFigures, measure_attributes
from training.evaluation.recognition.pairwise_ranking import PairwiseRanking, pairwise_rankings
from training.evaluation.recognition.recognition import GroupTable
from training.renderer.affect_rule import affect_of

PRESENT, ABSENT = 0.3, 0.1
NEUTRAL, HAPPINESS = (EXPRESSIONS.index(name) for name in ("neutral", "happiness"))
SMILE = "AU12"


@dataclass(frozen=True)
class AuAgreement:
    """One Action Unit against the labels, each weighed by its confidence."""

    code: str
    present: int
    absent: int
    auc: Interval


@dataclass(frozen=True)
class Stability:
    """The effect of a change that should have none. Means over faces, intervals over people."""

    change: str
    flipped: Interval  # share of decisions about AUs that flip
    intensity: Interval  # mean |change| of intensities
    va: Interval  # mean |change| of valence and arousal


@dataclass(frozen=True)
class AtRest:
    """Faces that are annotated as neutral."""

    faces: int
    alarms: dict[str, Interval]  # share on which each AU is called present
    any_alarm: Interval  # share on which some AU is
    worst: str  # the AU with the most
    valence: Interval  # mean
    arousal: Interval


@dataclass(frozen=True)
class Photographs:
    """Everything measured on one set of photographs."""

    data: str
    labelled: str  # by whom
    split: str
    faces: int
    people: int
    aus: tuple[AuAgreement, ...]
    mean_auc: Interval
    va: dict[str, Interval]  # CCC with the labels, weighed by confidence
    attributes: AttributeFigures
    stability: tuple[Stability, ...]
    pairwise_rankings: tuple[PairwiseRanking, ...]  # pairs of faces of one person
    rest: AtRest | None
    smiles: int  # faces annotated as happiness
    smiles_seen: Interval | None  # share of these on which AU12 is called present
    groups: tuple[GroupTable, ...]
    liveness: dict[str, int]  # faces on which each AU is called present
    never: tuple[str, ...]  # AUs that no face of this set is read to show
    # CCC between valence and arousal as read and what the rule makes of the AUs as read
    rule: dict[str, Interval]


def measure_photographs(
    model: AffectModel, database: Database, split: str, most_images: int, rng: Generator
) -> Photographs:
    """Figures of one split. Raises DataError where it is empty."""
    faces = load_faces(database, model, split, most_images, rng)
    if not len(faces):
        raise DataError(
            f"split {split!r} of {database.folder} is empty: give photographs with such a split, "
            "or another --split"
        )
    readings, card = read(model, faces.images), model.card
    weights = metrics.resamplings(faces.identity, rng)
    present = _decisions(card, readings)
    smiles, smiles_seen = _smiles(card, faces, present, weights)
    liveness = dict(zip(card.vocabulary, present.sum(0).astype(int).tolist(), strict=True))
    learnt = liveness if card.learns_aus else {}
    aus, mean_auc = _agreement(card, faces, readings, weights)
    return Photographs(
        data=database.card.name,
        labelled=database.card.teacher or database.card.labelled,
        split=split,
        faces=len(faces),
        people=len(np.unique(faces.identity)),
        aus=aus,
        mean_auc=mean_auc,
        va=_va(card, faces, readings, weights),
        attributes=measure_attributes(card, faces, readings, weights),
        stability=_stability(model, faces, weights, rng),
        pairwise_rankings=pairwise_rankings(card, faces, readings),
        rest=_at_rest(card, faces, readings, present, weights),
        smiles=smiles,
        smiles_seen=smiles_seen,
        groups=recognition.group_tables(card, faces, readings, weights),
        liveness=learnt,
        never=tuple(code for code, count in learnt.items() if not count),
        rule=_rule(card, readings, weights),
    )


def logits_at_rest(model: AffectModel, database: Database, splits: tuple[str, ...]) -> Floats:
    """(N, K) of the faces of these splits that are annotated as neutral."""
    parts = [np.zeros((0, len(model.card.vocabulary)))]
    for split in splits:
        if database.count(split):
            faces = load_faces(
                database, model, split, database.count(split), np.random.default_rng(0)
            )
            rest = faces.take(np.flatnonzero(faces.annotations.expression == NEUTRAL))
            if len(rest):
                parts.append(read(model, rest.images).logits)
    return np.concatenate(parts)


def _decisions(card: ModelCard, readings: Read) -> Floats:
    return recognition.decisions(card, recognition.probabilities(card, readings.logits))


# -- against labels --------------------------------------------------------------------------------


def _agreement(
    card: ModelCard, faces: Faces, readings: Read, weights: Floats
) -> tuple[tuple[AuAgreement, ...], Interval]:
    figures, replicates = [], []
    for k, code in enumerate(card.vocabulary if card.learns_aus else ()):
        truth, sure = faces.truth[:, k], faces.annotations.confidence[:, k]
        present = np.where(truth >= PRESENT, 1.0, np.where(truth <= ABSENT, 0.0, np.nan))
        auc = metrics.auc(present, readings.logits[:, k], weights * sure)
        if np.isfinite(auc[0]):
            counts = int(np.nansum(present)), int(np.nansum(1 - present))
            figures.append(AuAgreement(code, *counts, summary(auc)))
            replicates.append(auc)
    return tuple(figures), summary(metrics.mean_over_labels(replicates))


def _va(card: ModelCard, faces: Faces, readings: Read, weights: Floats) -> dict[str, Interval]:
    if not card.learns_va:
        return {}
    figures = {}
    for index, name in enumerate(DIMENSIONS):
        column = index - len(DIMENSIONS)
        sure = faces.annotations.confidence[:, column]
        ccc = metrics.ccc(faces.truth[:, column], readings.va[:, index], weights * sure)
        if np.isfinite(ccc[0]):
            figures[name] = summary(ccc)
    return figures


def _at_rest(
    card: ModelCard, faces: Faces, readings: Read, present: Floats, weights: Floats
) -> AtRest | None:
    rest = faces.annotations.expression == NEUTRAL
    if not rest.any() or not card.learns_aus:
        return None
    rest_weights = weights[:, rest]
    alarms = {
        code: mean_interval(present[rest, k], rest_weights)
        for k, code in enumerate(card.vocabulary)
    }
    valence, arousal = (
        mean_interval(readings.va[rest, i], rest_weights) for i in range(len(DIMENSIONS))
    )
    return AtRest(
        faces=int(rest.sum()),
        alarms=alarms,
        any_alarm=mean_interval(present[rest].any(1).astype(np.float64), rest_weights),
        worst=max(alarms, key=lambda code: alarms[code].value),
        valence=valence,
        arousal=arousal,
    )


def _smiles(
    card: ModelCard, faces: Faces, present: Floats, weights: Floats
) -> tuple[int, Interval | None]:
    smiling = faces.annotations.expression == HAPPINESS
    if SMILE not in card.vocabulary or not card.learns_aus or not smiling.any():
        return int(smiling.sum()), None
    column = present[smiling, card.vocabulary.index(SMILE)]
    return int(smiling.sum()), mean_interval(column, weights[:, smiling])


# -- without labels --------------------------------------------------------------------------------


def _mirrored(image: U8, rng: Generator) -> U8:
    return np.ascontiguousarray(image[:, ::-1])


def _brighter(image: U8, rng: Generator) -> U8:
    """A stop more light, which burns out what it must."""
    linear = np.clip(2 * (image / 255) ** 2.2, 0, 1)
    return np.asarray(np.rint(255 * linear ** (1 / 2.2)), np.uint8)


def _small(image: U8, rng: Generator) -> U8:
    """Half the side and back: a camera farther away."""
    side = len(image)
    half = cv2.resize(image, (side // 2, side // 2), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(half, (side, side), interpolation=cv2.INTER_LINEAR), np.uint8)


CHANGES: dict[str, Callable[[U8, Generator], U8]] = {
    "mirrored": _mirrored,
    "crop moved by 3 % of its side": lambda image, rng: robustness.shift(image, 3, rng),
    "crop turned by 5 degrees": lambda image, rng: robustness.rotation(image, 5, rng),
    "blurred by 1 % of the side": lambda image, rng: robustness.blur(image, 1, rng),
    "half the resolution": _small,
    "a stop darker": lambda image, rng: robustness.darkness(image, 1, rng),
    "a stop brighter": _brighter,
}


def _stability(
    model: AffectModel, faces: Faces, weights: Floats, rng: Generator
) -> tuple[Stability, ...]:
    before, figures = decide(model, faces.images), []
    for name, change in CHANGES.items():
        after = decide(model, np.stack([change(image, rng) for image in faces.images]))
        flipped = (before.present != after.present).mean(1)
        intensity_change = np.abs(before.intensity - after.intensity).mean(1)
        va = np.abs(before.va - after.va).mean(1)
        columns = (
            flipped if model.card.learns_aus else np.full(len(va), np.nan),
            intensity_change if model.card.learns_aus else np.full(len(va), np.nan),
            va if model.card.learns_va else np.full(len(va), np.nan),
        )
        figures.append(Stability(name, *(mean_interval(column, weights) for column in columns)))
    return tuple(figures)


def _rule(card: ModelCard, readings: Read, weights: Floats) -> dict[str, Interval]:
    if card.labels != "both":
        return {}
    expected = _by_rule(card, readings)
    return {
        name: summary(metrics.ccc(expected[:, i], readings.va[:, i], weights))
        for i, name in enumerate(DIMENSIONS)
    }


def _by_rule(card: ModelCard, readings: Read) -> NDArray[np.float64]:
    """(N, 2) valence and arousal that the rule of renders makes of the AUs as they are read."""
    intensities = readings.labels[:, : len(card.vocabulary)]
    rows = []
    for intensity, (left, right) in zip(intensities, readings.sides, strict=True):
        by_code = dict(zip(card.vocabulary, intensity.tolist(), strict=True))
        sides = (dict(zip(card.one_sided, side.tolist(), strict=True)) for side in (left, right))
        rows.append(affect_of(by_code, *sides))
    return np.array(rows, np.float64).reshape(len(rows), len(DIMENSIONS))
