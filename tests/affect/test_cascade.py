"""The search of heads by size: the hits and boxes of OpenCV's whole search."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

from affect.cascade import HeadCascade, HeadSearch, PyramidLevel, Square
from affect.faces import CASCADES

HEADS = CASCADES / "haarcascade_frontalface_alt2.xml"
STEP = 1.1


@pytest.fixture(scope="module")
def grey() -> NDArray[np.uint8]:
    """A portrait whose head takes two fifths."""
    small = cv2.resize(data.astronaut()[:256, 96:352], (320, 320), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)


def search_of(grey: NDArray[np.uint8]) -> HeadSearch:
    return HeadSearch(HeadCascade(HEADS), grey, smallest_px=24, checkpoint=lambda: None)


def whole_search(grey: NDArray[np.uint8]) -> list[tuple[int, ...]]:
    boxes = cv2.CascadeClassifier(str(HEADS)).detectMultiScale(grey, STEP, 3, minSize=(24, 24))
    return [(int(x), int(y), int(side)) for x, y, side, _ in boxes]


def test_a_large_head_has_the_box_of_the_whole_search(grey: NDArray[np.uint8]) -> None:
    boxes = search_of(grey).boxes(96)
    assert boxes == whole_search(grey) and len(boxes) == 1


def test_all_boxes_are_those_of_the_whole_search(grey: NDArray[np.uint8]) -> None:
    search = search_of(np.hstack([grey, cv2.resize(grey, (160, 320))]))
    search.boxes(128)
    assert set(search.all_boxes()) == set(whole_search(search._grey))


@pytest.mark.parametrize("number", [6, 13, 17, 20])
def test_hits_around_a_box_are_those_of_the_whole_level(
    grey: NDArray[np.uint8], number: int
) -> None:
    scaled = cv2.resize(grey, None, fx=STEP ** (number - 19), fy=STEP ** (number - 19))
    cascade, (box, *_) = HeadCascade(HEADS), search_of(np.asarray(scaled, np.uint8)).all_boxes()
    level = PyramidLevel(STEP**number, round(20 * STEP**number))
    whole = cascade.hits(np.asarray(scaled, np.uint8), STEP, level.side, level.side)
    assert cascade.hits_near(np.asarray(scaled, np.uint8), box, level) == whole
    assert whole


def test_nothing_is_hit_around_a_box_at_the_edge(grey: NDArray[np.uint8]) -> None:
    corner = Square(300, 300, 60)
    assert HeadCascade(HEADS).hits_near(grey, corner, PyramidLevel(STEP**12, 63)) == set()


def test_a_picture_smaller_than_a_window_has_no_boxes() -> None:
    search = search_of(np.zeros((10, 12), np.uint8))
    assert search.boxes(24) == [] and search.all_boxes() == []
