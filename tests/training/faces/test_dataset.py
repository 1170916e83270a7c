"""The rendered source is a pure function of seed and group."""

import cv2
import numpy as np

from affect.labels import Vocabulary
from training.faces.dataset import SCENES_PER_PERSON, samples
from training.render.states import AU_CODES


def test_a_group_has_the_same_pixels_whoever_renders_it() -> None:
    together = list(samples(seed=3, first=4, count=2, size_px=32, twins=2))
    alone = list(samples(seed=3, first=5, count=1, size_px=32, twins=2))
    assert [sample.key for sample in together[2:]] == [sample.key for sample in alone]
    assert [sample.image for sample in together[2:]] == [sample.image for sample in alone]


def test_another_seed_gives_other_people() -> None:
    a, b = (next(samples(seed=seed, first=0, count=1, size_px=32, twins=1)) for seed in (1, 2))
    assert a.image != b.image
    assert a.identity != b.identity


def test_a_person_comes_back_in_another_scene() -> None:
    groups = list(samples(seed=1, first=0, count=SCENES_PER_PERSON + 1, size_px=32, twins=1))
    assert len({sample.identity for sample in groups}) == 2
    assert len({sample.twin_group for sample in groups}) == SCENES_PER_PERSON + 1


def test_truth_says_what_the_picture_shows() -> None:
    sample = next(samples(seed=1, first=0, count=1, size_px=48, twins=1))
    image = cv2.imdecode(np.frombuffer(sample.image, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (48, 48, 3)
    assert set(Vocabulary(AU_CODES).named(sample.labels)) >= set(AU_CODES)
    assert 1 <= int(sample.groups["skin_tone"]) <= 10
    assert np.allclose(np.array(sample.truth["points"][:2]) / 48, [(0.32, 0.36), (0.68, 0.36)], atol=0.005)
    assert len(sample.truth["landmarks"]) == 68
