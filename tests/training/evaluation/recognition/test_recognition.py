"""Figures of readings whose quality is known because they were made from the truth."""

from dataclasses import replace

import numpy as np
import pytest

from affect.card import Calibration
from affect.model import smoke_card
from tests.support.split_readings import made_reading
from training.database.annotations import Annotations
from training.evaluation.core import metrics
from training.evaluation.core.predictions import Faces, Read
from training.evaluation.recognition import recognition

CARD = smoke_card(vocabulary=("AU4", "AU12"))
N = 300


def made(*, noise: float, worse: float = 0.0) -> tuple[Faces, Read, np.ndarray]:
    """Faces and a reading that is true up to noise, and worse for group b."""
    rng = np.random.default_rng(7)
    truth = np.concatenate(
        [rng.choice([0.0, 0.1, 0.6, 0.9], (N, 2)), rng.uniform(-1, 1, (N, 2))], axis=1
    )
    group = np.where(np.arange(N) % 2, "a", "b")
    spread = (noise + worse * (group == "b"))[:, None]
    logits = 8 * (truth[:, :2] - 0.35) + 8 * spread * rng.normal(size=(N, 2))
    va = truth[:, 2:] + spread * rng.normal(size=(N, 2))
    expected = truth[:, 2:] + 0.2 * rng.normal(size=(N, 2))
    faces = Faces(
        np.zeros((N, 4, 4, 3), np.uint8),
        truth,
        expected,
        np.arange(N) // 3,
        {"tone": group},
        np.full(N, -1),
        np.full(N, ""),
        Annotations.unknown(N, 2),
    )
    weights = metrics.resamplings(faces.identity, rng, 100)
    return faces, made_reading(logits, va), weights


def test_a_perfect_reading_gets_perfect_figures() -> None:
    faces, read, weights = made(noise=0)
    figures = recognition.recognise(CARD, faces, read, weights)
    assert figures.mean_auc.value == figures.mean_auc.low == 1
    assert figures.aus[0].f1.value == 1
    assert [va.ccc.value for va in figures.va] == pytest.approx([1, 1])
    assert figures.va[0].oracle_ccc.value < 1 < figures.va[0].of_oracle.value


def test_calibrated_thresholds_beat_the_neutral_one() -> None:
    faces, read, weights = made(noise=0.1)
    shifted = replace(read, logits=read.logits - 4)
    calibrated = CARD.model_copy(
        update={"calibration": recognition.fit_calibrations(CARD, faces, shifted)}
    )
    before, after = (
        recognition.recognise(card, faces, shifted, weights).mean_f1.value
        for card in (CARD, calibrated)
    )
    assert after > before + 0.2


def test_the_group_that_is_read_worse_is_named_with_its_gap() -> None:
    faces, read, weights = made(noise=0.05, worse=0.5)
    (table,) = recognition.group_tables(CARD, faces, read, weights)
    gaps = {gap.figure: gap for gap in table.gaps}
    assert (gaps["mean_auc"].best, gaps["mean_auc"].worst) == ("a", "b")
    assert gaps["mean_auc"].difference.low > 0.05
    assert gaps["valence_ccc"].difference.value == pytest.approx(
        table.groups[0].valence_ccc.value - table.groups[1].valence_ccc.value
    )


@pytest.mark.parametrize(("labels", "aus", "va"), [("au", 2, 0), ("va", 0, 2), ("both", 2, 2)])
def test_a_run_is_evaluated_on_the_labels_it_learnt_only(labels: str, aus: int, va: int) -> None:
    faces, read, weights = made(noise=0.1)
    card = CARD.model_copy(update={"labels": labels})
    figures = recognition.recognise(card, faces, read, weights)
    assert (len(figures.aus), len(figures.va)) == (aus, va)
    assert np.isfinite(figures.mean_auc.value) == (aus > 0)
    assert recognition.group_tables(card, faces, read, weights)


def test_an_unlabelled_au_has_no_row_and_spoils_no_mean() -> None:
    faces, read, weights = made(noise=0.1)
    faces.truth[:, 0] = np.nan
    figures = recognition.recognise(CARD, faces, read, weights)
    assert [au.code for au in figures.aus] == ["AU12"]
    assert figures.mean_auc == figures.aus[0].auc
    assert recognition.fit_calibrations(CARD, faces, read)["AU4"] == Calibration()
