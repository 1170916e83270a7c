"""How well a model reads faces: tables per AU, for valence and arousal, and per group of people."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from affect.card import Calibration, ModelCard
from affect.catalogue import CATALOGUE
from affect.labels import DIMENSIONS
from training.evaluation.core import metrics
from training.evaluation.core.metrics import Interval, summary
from training.evaluation.core.predictions import Faces, Floats, Read
from training.evaluation.recognition import calibration

FEWEST_FACES = 60  # of a group, below which its figures are left out


@dataclass(frozen=True)
class AuFigures:
    """One Action Unit. Decisions at the threshold that was fitted on validation."""

    code: str
    name: str
    present: int
    absent: int
    f1: Interval
    auc: Interval
    precision: Interval
    recall: Interval
    threshold: float
    raw_error: Interval  # calibration error of the sigmoid of the logit, before Platt scaling
    calibration_error: Interval
    icc31: Interval  # of intensities
    mean_absolute_error: Interval  # of intensities


@dataclass(frozen=True)
class VaFigures:
    """Valence or arousal. The oracle knows the true state but not the annotator's noise: its CCC is
    an upper bound in expectation.
    """

    name: str
    faces: int
    ccc: Interval
    rmse: Interval
    sign_agreement: Interval
    pearson: Interval
    oracle_ccc: Interval
    oracle_rmse: Interval
    oracle_sign_agreement: Interval
    of_oracle: Interval  # share of the oracle's CCC on the same faces


@dataclass(frozen=True)
class Recognition:
    """All figures of one reading; `aus` or `va` is empty in a run on the other kind of label."""

    aus: tuple[AuFigures, ...]
    mean_f1: Interval
    mean_auc: Interval
    mean_raw_error: Interval
    mean_calibration_error: Interval
    va: tuple[VaFigures, ...]


@dataclass(frozen=True)
class GroupFigures:
    """Faces of one value of one attribute; intervals as everywhere."""

    value: str
    faces: int
    people: int
    mean_f1: Interval
    mean_auc: Interval
    valence_ccc: Interval
    arousal_ccc: Interval


@dataclass(frozen=True)
class Gap:
    """The best and the worst group of an attribute by one figure, and the difference with its
    interval.
    """

    figure: str
    best: str
    worst: str
    difference: Interval


@dataclass(frozen=True)
class GroupTable:
    """One attribute."""

    attribute: str
    groups: tuple[GroupFigures, ...]
    gaps: tuple[Gap, ...]


def fit_calibrations(card: ModelCard, faces: Faces, read: Read) -> dict[str, Calibration]:
    """Calibration of every AU from faces that are not the test's; the neutral one in a run without
    AUs.
    """
    if not card.learns_aus:
        return {code: Calibration() for code in card.vocabulary}
    present = presence(card, faces.truth)
    return {
        code: calibration.fit(read.logits[:, k], present[:, k])
        for k, code in enumerate(card.vocabulary)
    }


def presence(card: ModelCard, truth: Floats) -> Floats:
    """(N, K) 1 present, 0 absent, NaN not annotated, from label rows (N, K + 2)."""
    intensity = truth[:, :-2]
    return np.where(
        np.isnan(intensity), np.nan, (intensity >= card.data.positive_intensity).astype(np.float64)
    )


def probabilities(card: ModelCard, logits: Floats) -> Floats:
    """(N, K) calibrated probabilities."""
    scale, shift = (
        np.array([getattr(card.calibration[code], name) for code in card.vocabulary])
        for name in ("scale", "shift")
    )
    return np.asarray(0.5 * (1 + np.tanh(0.5 * (logits * scale + shift))))


def decisions(card: ModelCard, probability: Floats) -> Floats:
    """(N, K) 1 where an AU is called present."""
    return (
        probability >= np.array([card.calibration[code].threshold for code in card.vocabulary])
    ).astype(np.float64)


def recognise(card: ModelCard, faces: Faces, read: Read, weights: Floats) -> Recognition:
    """Every figure of a reading, with intervals from the resamplings `weights` (R, N)."""
    aus = _Aus(card, faces, read, weights)
    va = [_va(index, faces, read, weights) for index in range(2)] if card.learns_va else []
    return Recognition(
        aus=tuple(aus.figures()),
        mean_f1=summary(metrics.mean_over_labels(aus.f1)),
        mean_auc=summary(metrics.mean_over_labels(aus.auc)),
        mean_raw_error=summary(metrics.mean_over_labels(aus.raw_error), lifted=True),
        mean_calibration_error=summary(metrics.mean_over_labels(aus.error), lifted=True),
        va=tuple(figures for figures in va if figures.faces),
    )


class _Aus:
    """Replicates of every AU, kept until their means are taken too."""

    def __init__(self, card: ModelCard, faces: Faces, read: Read, weights: Floats) -> None:
        self.card, self.faces, self.weights = card, faces, weights
        self.present, self.probability = (
            presence(card, faces.truth),
            probabilities(card, read.logits),
        )
        self.decided, self.intensity = decisions(card, self.probability), read.labels[:, :-2]
        columns = range(len(card.vocabulary)) if card.learns_aus else range(0)
        self.columns = [k for k in columns if np.isfinite(self.present[:, k]).any()]
        self.f1 = [
            metrics.f1(self.present[:, k], self.decided[:, k], weights) for k in self.columns
        ]
        self.auc = [
            metrics.auc(self.present[:, k], read.logits[:, k], weights) for k in self.columns
        ]
        self.raw_error = [
            metrics.expected_calibration_error(self.present[:, k], self.intensity[:, k], weights)
            for k in self.columns
        ]
        self.error = [
            metrics.expected_calibration_error(self.present[:, k], self.probability[:, k], weights)
            for k in self.columns
        ]

    def figures(self) -> list[AuFigures]:
        return [self._figures(index, k) for index, k in enumerate(self.columns)]

    def _figures(self, index: int, k: int) -> AuFigures:
        code, present, truth = self.card.vocabulary[k], self.present[:, k], self.faces.truth[:, k]
        return AuFigures(
            code=code,
            name=CATALOGUE[code].name,
            present=int(np.nansum(present)),
            absent=int(np.nansum(1 - present)),
            f1=summary(self.f1[index]),
            auc=summary(self.auc[index]),
            precision=summary(metrics.precision(present, self.decided[:, k], self.weights)),
            recall=summary(metrics.recall(present, self.decided[:, k], self.weights)),
            threshold=self.card.calibration[code].threshold,
            raw_error=summary(self.raw_error[index], lifted=True),
            calibration_error=summary(self.error[index], lifted=True),
            icc31=summary(metrics.icc31(truth, self.intensity[:, k], self.weights)),
            mean_absolute_error=summary(
                metrics.mean_absolute_error(truth, self.intensity[:, k], self.weights)
            ),
        )


def _va(index: int, faces: Faces, read: Read, weights: Floats) -> VaFigures:
    truth, prediction, expected = (
        faces.truth[:, index - 2],
        read.va[:, index],
        faces.expected_va[:, index],
    )
    oracle = metrics.ccc(truth, expected, weights)
    # The same faces as the oracle's.
    comparable = np.where(np.isfinite(expected), prediction, np.nan)
    return VaFigures(
        name=DIMENSIONS[index],
        faces=int(np.isfinite(truth).sum()),
        ccc=summary(metrics.ccc(truth, prediction, weights)),
        rmse=summary(metrics.rmse(truth, prediction, weights)),
        sign_agreement=summary(metrics.sign_agreement(truth, prediction, weights)),
        pearson=summary(metrics.pearson(truth, prediction, weights)),
        oracle_ccc=summary(oracle),
        oracle_rmse=summary(metrics.rmse(truth, expected, weights)),
        oracle_sign_agreement=summary(metrics.sign_agreement(truth, expected, weights)),
        of_oracle=summary(metrics.ccc(truth, comparable, weights) / oracle),
    )


def group_tables(
    card: ModelCard, faces: Faces, read: Read, weights: Floats
) -> tuple[GroupTable, ...]:
    """One table per attribute that has at least two groups of enough faces."""
    tables = [_group_table(card, faces, read, weights, attribute) for attribute in faces.groups]
    return tuple(table for table in tables if table)


def _group_table(
    card: ModelCard, faces: Faces, read: Read, weights: Floats, attribute: str
) -> GroupTable | None:
    values = faces.groups[attribute]
    large = (v for v in np.unique(values) if v and (values == v).sum() >= FEWEST_FACES)
    names = sorted(large, key=_natural)
    if len(names) < 2:
        return None
    replicates = {
        name: _group_replicates(card, faces, read, weights, values == name) for name in names
    }
    groups = []
    for name in names:
        member = values == name
        figures = {figure: summary(one) for figure, one in replicates[name].items()}
        groups.append(
            GroupFigures(name, int(member.sum()), len(np.unique(faces.identity[member])), **figures)
        )
    gaps = [
        _gap(figure, {name: replicates[name][figure] for name in names})
        for figure in next(iter(replicates.values()))
    ]
    return GroupTable(attribute, tuple(groups), tuple(gap for gap in gaps if gap))


def _group_replicates(
    card: ModelCard, faces: Faces, read: Read, weights: Floats, member: NDArray[np.bool_]
) -> dict[str, Floats]:
    group_weights, truth = weights[:, member], faces.truth[member]
    present, decided = (
        presence(card, truth),
        decisions(card, probabilities(card, read.logits[member])),
    )
    logits, va = read.logits[member], read.va[member]
    columns = range(len(card.vocabulary)) if card.learns_aus else range(0)
    missing = np.full(len(weights), np.nan)
    valence, arousal = (
        metrics.ccc(truth[:, i - 2], va[:, i], group_weights) if card.learns_va else missing
        for i in range(2)
    )
    return {
        "mean_f1": metrics.mean_over_labels(
            [metrics.f1(present[:, k], decided[:, k], group_weights) for k in columns] or [missing]
        ),
        "mean_auc": metrics.mean_over_labels(
            [metrics.auc(present[:, k], logits[:, k], group_weights) for k in columns] or [missing]
        ),
        "valence_ccc": valence,
        "arousal_ccc": arousal,
    }


def _gap(figure: str, replicates: dict[str, Floats]) -> Gap | None:
    """Largest difference between two groups; which two is decided on the data, so its interval is
    that of this pair.
    """
    values = {name: float(r[0]) for name, r in replicates.items() if np.isfinite(r[0])}
    if len(values) < 2:
        return None
    best, worst = max(values, key=values.__getitem__), min(values, key=values.__getitem__)
    return Gap(figure, best, worst, summary(replicates[best] - replicates[worst]))


def _natural(value: str) -> tuple[float, str]:
    """Numbers by size, words by letter."""
    head = value.split("-")[0].rstrip("+")
    return (float(head) if head.isdigit() else 1e9, value)
