"""Pictures side by side."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]


def picture_grid(
    images: Sequence[U8] | U8, columns: int, *, gap_px: int = 0, fill: int = 255
) -> U8:
    """N equal pictures (H, W, 3) in rows of `columns`; gaps and what the last row lacks are `fill`.

    Returns (rows (H + gap) - gap, columns (W + gap) - gap, 3).
    """
    height, width = images[0].shape[:2]
    down, right = height + gap_px, width + gap_px
    rows = -(-len(images) // columns)
    sheet = np.full((rows * down - gap_px, columns * right - gap_px, 3), fill, np.uint8)
    for number, image in enumerate(images):
        top, left = number // columns * down, number % columns * right
        sheet[top : top + height, left : left + width] = image
    return sheet
