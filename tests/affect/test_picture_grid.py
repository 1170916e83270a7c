"""Pictures stand where they should in a grid, and what is left over has the fill's colour."""

import numpy as np

from affect.picture_grid import picture_grid

PICTURES = np.stack([np.full((2, 3, 3), value, np.uint8) for value in (1, 2, 3)])


def test_pictures_go_row_by_row_and_the_rest_is_filled() -> None:
    sheet = picture_grid(PICTURES, 2, fill=9)
    assert sheet.shape == (4, 6, 3)
    assert sheet[0, [0, 3], 0].tolist() == [1, 2] and sheet[2, [0, 3], 0].tolist() == [3, 9]


def test_gaps_lie_between_pictures_and_not_around_them() -> None:
    sheet = picture_grid(PICTURES, 3, gap_px=1)
    assert sheet.shape == (2, 11, 3)
    assert sheet[0, :, 0].tolist() == [1, 1, 1, 255, 2, 2, 2, 255, 3, 3, 3]
