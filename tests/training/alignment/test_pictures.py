"""The landmark network's pictures: exact points, boxes as finders draw them, and no faces where
there are none.
"""

from pathlib import Path

import numpy as np
import pytest

from affect.landmarks import INPUT_PX, box_of_points, cut
from training.alignment.pictures import (
    CLOSE,
    PICTURE_PX,
    ROUGH,
    HeadPictures,
    draw_boxes,
    faceless,
    moved,
    render_heads,
)


@pytest.fixture(scope="module")
def heads() -> HeadPictures:
    return render_heads(5, 0, 12)


def test_a_head_is_the_same_whoever_renders_it(heads: HeadPictures) -> None:
    alone = render_heads(5, 7, 1)
    assert np.array_equal(alone.images[0], heads.images[7]) and np.array_equal(
        alone.points[0], heads.points[7]
    )


def test_training_heads_fill_their_pictures_and_held_out_ones_have_any_size(
    heads: HeadPictures,
) -> None:
    def between(some: HeadPictures) -> np.ndarray:
        return np.asarray(np.linalg.norm(some.points[:, 1] - some.points[:, 0], axis=1))

    assert heads.images.shape == (12, PICTURE_PX, PICTURE_PX, 3)
    assert np.median(between(heads)) > 20 > between(render_heads(6, 0, 12, filling=False)).min()


def test_points_lie_on_the_face_in_their_order(heads: HeadPictures) -> None:
    right, left, nose, mouth_right, mouth_left = heads.points.mean(0)
    assert right[0] < nose[0] < left[0] and mouth_right[0] < mouth_left[0]
    assert max(right[1], left[1]) < nose[1] < min(mouth_right[1], mouth_left[1])


def test_targets_follow_the_box(heads: HeadPictures) -> None:
    boxes = draw_boxes(heads, np.arange(12).repeat(20), np.random.default_rng(0))
    shown = boxes.points[boxes.face == 1]
    assert 0.7 < boxes.face.mean() < 0.9
    # most boxes sit on the eyes and mouth
    assert np.abs(np.median(shown[:, :2].mean(1), axis=0) - [0.5, 0.38]).max() < 0.08
    assert (shown[:, 0, 0] < shown[:, 1, 0]).mean() > 0.98  # mirrored pictures have mirrored points


def test_a_first_pass_is_off_by_more_than_a_second(heads: HeadPictures) -> None:
    box, rng = box_of_points(heads.points[0]), np.random.default_rng(0)
    off = {
        name: np.std([moved(box, rng, by).x for _ in range(200)]) / box.side
        for name, by in (("rough", ROUGH), ("close", CLOSE))
    }
    assert off["rough"] == pytest.approx(ROUGH[0], rel=0.2) and off["close"] == pytest.approx(
        CLOSE[0], rel=0.2
    )


def test_the_box_of_true_points_holds_them_all(heads: HeadPictures) -> None:
    for image, points in zip(heads.images, heads.points, strict=True):
        _, transform = cut(image, box_of_points(points))
        inside = (points @ transform[:, :2].T + transform[:, 2]) / INPUT_PX
        assert inside.min() > 0 and inside.max() < 1


def test_photographs_without_faces_are_colour_pictures() -> None:
    assert all(
        picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
        for picture in faceless()
    )


def test_heads_survive_a_file(heads: HeadPictures, tmp_path: Path) -> None:
    heads.save(tmp_path / "heads.npz")
    again = HeadPictures.load(tmp_path / "heads.npz")
    assert np.array_equal(again.images, heads.images) and np.array_equal(
        HeadPictures.joined([again, again]).points[12:], heads.points
    )
