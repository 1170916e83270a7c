"""OpenCV's cascade of upright heads, searched by size: at every second size over the whole picture,
at the sizes between only around what was hit.

`detectMultiScale(grey, 1.1, 0)` slides a window of 20 px over a pyramid whose levels differ by 1.1,
and a head is hit at about ten of them. Half of the levels show where something is; the others, and
those of smaller windows, are then searched on the part of a level where hits of the same head may
lie. The hits, and so the boxes, are those of the whole search to the px.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
WINDOW_PX = 20  # of OpenCV's cascades of heads
STEP = 1.1  # from a level of the pyramid to the next
EVERY_PLACE = 2.0  # from this factor on the cascade tries every place of a level, else every second
NEIGHBOURS, SIMILAR = 3, 0.2  # hits that make a box, and how much they differ (as OpenCV has it)
SUSPECTED = 2  # hits at every second level from which the levels between are searched too
# Of 1583 hits of heads in photographs 99 % are .66 to 1.44 times as large as the box of them, and
# their middles no farther from its than .14 of its side. Boxes of some hits are larger.
SMALLER, LARGER, AROUND = 0.4, 1.7, 0.2


class Square(NamedTuple):
    """A window that the cascade takes for a head, or a box of many: left, top, side in px."""

    x: int
    y: int
    side: int


class PyramidLevel(NamedTuple):
    """A level of the pyramid: how many times smaller it is, and the side of its window in px of the
    picture.
    """

    factor: float
    side: int


class HeadCascade:
    """OpenCV's cascade, read from a file. For one thread at a time."""

    def __init__(self, path: Path) -> None:
        # What is prepared for a list of factors is kept until another list comes.
        self._whole, self._near = (cv2.CascadeClassifier(str(path)) for _ in range(2))

    def hits(self, grey: U8, step: float, least_px: int, most_px: int) -> set[Square]:
        """Windows with sides in [least_px, most_px] of a pyramid of that step."""
        boxes = self._whole.detectMultiScale(
            grey, step, 0, minSize=(least_px, least_px), maxSize=(most_px, most_px)
        )
        # OpenCV cuts off what a rounded square has beyond the picture.
        return {Square(int(x), int(y), int(max(w, h))) for x, y, w, h in boxes}

    def hits_near(self, grey: U8, box: Square, level: PyramidLevel) -> set[Square]:
        """Windows of one level in the middle of the box."""
        factor, (height, width) = level.factor, grey.shape
        size = round(width / factor), round(height / factor)
        small = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_LINEAR_EXACT))
        inset, margin = (box.side - level.side) / 2, AROUND * box.side
        left, top = (max(0, int((edge + inset - margin) / factor) // 2 * 2) for edge in box[:2])
        right, end = (int((edge + inset + margin) / factor) + WINDOW_PX + 1 for edge in box[:2])
        part = small[top:end, left:right]
        if min(part.shape) < WINDOW_PX:
            return set()
        # Twice as large it is searched at the factor 2, and so at every place.
        times = 2 if factor >= EVERY_PLACE else 1
        side = WINDOW_PX * times
        boxes = self._near.detectMultiScale(
            part.repeat(times, 0).repeat(times, 1),
            EVERY_PLACE,
            0,
            minSize=(side, side),
            maxSize=(side, side),
        )
        places = ((x // times + left, y // times + top) for x, y, _, _ in boxes)
        return {Square(round(x * factor), round(y * factor), level.side) for x, y in places}


class HeadSearch:
    """The search of one grey picture (H, W). `checkpoint` is called now and then; whatever it
    raises ends the search.
    """

    def __init__(
        self, cascade: HeadCascade, grey: U8, *, smallest_px: int, checkpoint: Callable[[], None]
    ) -> None:
        self._cascade, self._grey, self._checkpoint = cascade, grey, checkpoint
        self._left = _levels(smallest_px, min(grey.shape))  # not searched yet
        self._hits: set[Square] = set()

    def boxes(self, least_px: int) -> list[Square]:
        """Boxes of heads that are hit by windows of at least that side, the largest first."""
        now = [n for n, level in self._left.items() if n % 2 == 0 and level.side >= least_px]
        if now:
            sides = [self._left.pop(number).side for number in now]
            self._checkpoint()
            self._hits |= self._cascade.hits(self._grey, STEP**2, min(sides), max(sides))
        for box in _grouped(self._hits, SUSPECTED):
            for level in self._left.values():
                if SMALLER * box.side < level.side < LARGER * box.side:
                    self._hits |= self._cascade.hits_near(self._grey, box, level)
        return self._sorted_boxes()

    def all_boxes(self) -> list[Square]:
        """The boxes of the whole search."""
        while self._left:
            _, (_, side) = self._left.popitem()
            self._checkpoint()
            self._hits |= self._cascade.hits(self._grey, STEP, side, side)
        return self._sorted_boxes()

    def _sorted_boxes(self) -> list[Square]:
        return sorted(_grouped(self._hits, NEIGHBOURS + 1), key=lambda box: -box.side)


def _levels(smallest_px: int, largest_px: int) -> dict[int, PyramidLevel]:
    """Of windows of these sides, by their place in the pyramid."""
    levels: dict[int, PyramidLevel] = {}
    factor, number = 1.0, 0
    while (side := round(WINDOW_PX * factor)) <= largest_px:
        if side >= smallest_px:
            levels[number] = PyramidLevel(factor, side)
        factor, number = factor * STEP, number + 1
    return levels


def _grouped(hits: set[Square], least: int) -> list[Square]:
    """A box for each place that has at least so many hits."""
    if not hits:
        return []
    windows = [(x, y, side, side) for x, y, side in sorted(hits)]
    boxes, _ = cv2.groupRectangles(windows, least - 1, SIMILAR)
    return [Square(int(x), int(y), int(side)) for x, y, side, _ in boxes]
