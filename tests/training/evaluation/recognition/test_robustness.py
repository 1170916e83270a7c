"""Corruptions change more the stronger they are; out-of-distribution pictures are no faces."""

import numpy as np
import pytest

from training.evaluation.recognition.robustness import (
    CORRUPTIONS,
    OUT_OF_DISTRIBUTION,
    darkness,
    jpeg,
    occlusion,
    rotation,
    shift,
)

FACE = (
    np.random.default_rng(0)
    .integers(0, 256, (8, 8, 3))
    .astype(np.uint8)
    .repeat(8, axis=0)
    .repeat(8, axis=1)
)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_keeps_the_shape_and_changes_the_picture(name: str) -> None:
    _, strengths, corruption = CORRUPTIONS[name]
    for strength in strengths:
        corrupted = corruption(FACE, strength, np.random.default_rng(1))
        assert (corrupted.shape, corrupted.dtype) == (FACE.shape, FACE.dtype)
        assert (corrupted != FACE).any()


@pytest.mark.parametrize("name", ["blur", "noise", "JPEG", "darkness", "small face"])
def test_a_stronger_corruption_is_further_from_the_face(name: str) -> None:
    _, strengths, corruption = CORRUPTIONS[name]
    far = [
        np.abs(corruption(FACE, strength, np.random.default_rng(1)).astype(float) - FACE).mean()
        for strength in strengths
    ]
    assert far == sorted(far)


def test_the_strengths_mean_what_they_say() -> None:
    rng = np.random.default_rng(0)
    assert (
        darkness(np.full((4, 4, 3), 255, np.uint8), 1, rng) == round(255 * 0.5 ** (1 / 2.2))
    ).all()
    assert (occlusion(np.zeros((100, 100, 3), np.uint8) + 7, 25, rng) != 7).any(2).sum() == 2500
    assert (rotation(FACE, 0, rng) == FACE).all()
    assert (shift(FACE, 0, rng) == FACE).all()
    assert np.abs(jpeg(FACE, 0, rng).astype(int) - FACE).mean() < 12


@pytest.mark.parametrize("name", OUT_OF_DISTRIBUTION)
def test_an_out_of_distribution_picture_has_the_faces_size_and_another_content(name: str) -> None:
    picture = OUT_OF_DISTRIBUTION[name](FACE, np.random.default_rng(2))
    assert picture.shape == FACE.shape and picture.dtype == np.uint8
    assert np.abs(picture.astype(float) - FACE).mean() > 5
