"""Contact sheets."""

from pathlib import Path

import pytest

from training.renderer.expressions import AU_CODES
from training.renderer.sheet import CAPTION_PX, people_sheet, save_sheet, unit_sheet


def test_a_sheet_of_people_is_padded_to_whole_rows(tmp_path: Path) -> None:
    sheet = people_sheet(seed=1, count=3, size_px=32, columns=2)
    assert sheet.shape == (64, 64, 3)
    assert sheet[:, :32].any()
    assert not sheet[32:, 32:].any()
    save_sheet(sheet, tmp_path / "people.jpg")
    assert (tmp_path / "people.jpg").stat().st_size > 500


def test_every_action_unit_has_a_column() -> None:
    sheet = unit_sheet(seed=1, people=1, size_px=32, intensities=(1.0,), columns=len(AU_CODES) + 1)
    assert sheet.shape == (CAPTION_PX + 32, 32 * (len(AU_CODES) + 1), 3)


def test_a_sheet_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        save_sheet(
            people_sheet(seed=1, count=1, size_px=32, columns=1),
            tmp_path / "missing" / "people.png",
        )
