"""The rendered source is a pure function of seed and group."""

import cv2
import numpy as np

from affect.catalogue import ONE_SIDED
from affect.labels import EXPRESSIONS, POSE, Vocabulary
from training.database import masks
from training.database.annotations import EXPRESSION, POSE_DEGREES, SIDES
from training.renderer import meshes
from training.renderer.expressions import AU_CODES
from training.sources.rendered import SCENES_PER_PERSON, pairs, samples


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
    assert image is not None and image.shape == (48, 48, 3)
    assert set(Vocabulary(AU_CODES).named(sample.labels)) >= set(AU_CODES)
    assert 1 <= int(sample.groups["skin_tone"]) <= 10
    assert np.allclose(
        np.array(sample.truth["points"][:2]) / 48, [(0.32, 0.36), (0.68, 0.36)], atol=0.005
    )
    assert len(sample.truth["landmarks"]) == 68
    assert sample.truth[EXPRESSION] in EXPRESSIONS and tuple(sample.truth[POSE_DEGREES]) == POSE
    assert sample.truth[SIDES]["left"].keys() == sample.truth[SIDES]["right"].keys() == ONE_SIDED
    shown = masks.decode(sample.truth["parts"])
    assert shown.shape == (48, 48) and (shown == 1 + meshes.NAMES.index("skin")).mean() > 0.2
    # the root of the nose
    assert shown[int(0.36 * 48), int(0.5 * 48)] == 1 + meshes.NAMES.index("skin")
    assert (
        sample.truth["age"] >= 14
        and abs(sample.truth["melanin"] - int(sample.groups["skin_tone"])) <= 0.5
    )


def test_twins_differ_in_the_unit_that_was_asked_for_and_where_the_mask_says() -> None:
    drawn = list(pairs(seed=4, first=0, count=3, size_px=48, change=("AU12", "AU43")))
    for before, after in zip(drawn[::2], drawn[1::2], strict=True):
        ((code, by),) = after.truth["changed"]["aus"].items()
        assert code in ("AU12", "AU43") and abs(by) >= 0.2 and before.twin_group == after.twin_group
        column = AU_CODES.index(code)
        assert (
            np.isclose(after.labels[column] - before.labels[column], by, atol=1e-3)
            and np.isfinite(after.labels[-2:]).all()
        )
        assert np.array_equal(
            np.delete(before.labels, [column, -2, -1]), np.delete(after.labels, [column, -2, -1])
        )
        mask = masks.decode(after.truth["changed"]["mask"])
        assert 0 < (mask == 255).mean() < 0.8 and set(np.unique(mask)) <= {0, 255}


def test_twins_of_another_expression_change_several_units() -> None:
    _, after = pairs(seed=4, first=1, count=1, size_px=32, change=())
    assert len(after.truth["changed"]["aus"]) > 1
