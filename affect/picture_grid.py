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
    step_y, step_x = height + gap_px, width + gap_px
    rows = -(-len(images) // columns)
    sheet = np.full((rows * step_y - gap_px, columns * step_x - gap_px, 3), fill, np.uint8)
    for number, image in enumerate(images):
        top, left = number // columns * step_y, number % columns * step_x
        sheet[top : top + height, left : left + width] = image
    return sheet
