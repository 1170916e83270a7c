"""Pairs of faces of one person whose order is known because it was made."""

import numpy as np
import pytest
from scipy.stats import norm

from affect.model import smoke_card
from tests.support.split_readings import made_reading
from training.database.annotations import Annotations
from training.evaluation.core.predictions import Faces, Read
from training.evaluation.recognition.pairwise_ranking import pairwise_rankings

CARD = smoke_card(vocabulary=("AU4", "AU12"))


def pairs(count: int, right: int) -> tuple[Faces, Read]:
    """Smile and neutral of `count` people, of whom `right` are read in the right order; AU4 is not
    annotated, valence hardly differs.
    """
    truth = np.full((2 * count, 4), np.nan)
    truth[:, 1], truth[:, 2] = np.tile([1.0, 0.0], count), np.tile([0.1, 0.0], count)
    logits = np.zeros((2 * count, 2))
    logits[:, 1] = np.tile([1.0, -1.0], count) * np.repeat(
        np.where(np.arange(count) < right, 1, -1), 2
    )
    who, none = np.repeat(np.arange(count), 2).astype(str), np.full(2 * count, -1)
    faces = Faces(
        np.zeros((2 * count, 4, 4, 3), np.uint8),
        truth,
        np.full((2 * count, 2), np.nan),
        who,
        {},
        none,
        who,
        Annotations.unknown(2 * count, truth.shape[1] - 2),
    )
    return faces, made_reading(logits, np.zeros((2 * count, 2)))


def test_the_share_of_pairs_in_the_right_order_with_wilsons_interval() -> None:
    (smile,) = pairwise_rankings(CARD, *pairs(50, 47))
    assert (smile.name, smile.pairs, smile.right.value) == ("AU12", 50, 0.94)
    z = norm.ppf(0.975)
    centre, half = (
        (0.94 + z * z / 100) / (1 + z * z / 50),
        z / (1 + z * z / 50) * np.sqrt(0.94 * 0.06 / 50 + z * z / 1e4),
    )
    assert (smile.right.low, smile.right.high) == pytest.approx(
        (centre - half, centre + half), abs=1e-6
    )


def test_a_few_pairs_that_are_all_right_are_no_certainty() -> None:
    assert pairwise_rankings(CARD, *pairs(10, 10))[0].right.low < 0.75


def test_pairs_that_differ_too_little_too_few_pairs_and_faces_alone_have_no_figure() -> None:
    faces, read = pairs(4, 4)
    assert pairwise_rankings(CARD, faces, read) == ()
    faces, read = pairs(20, 20)
    faces.pair[:] = ""
    assert pairwise_rankings(CARD, faces, read) == ()


def test_a_tie_counts_half() -> None:
    faces, read = pairs(10, 10)
    read.logits[:] = 0
    assert pairwise_rankings(CARD, faces, read)[0].right.value == 0.5
