"""The multi-task lists of ABAW."""

from pathlib import Path

import pytest

from tests.support.set_layouts import bring_in, refusals, shoot, write
from training.database.card import DataError
from training.sources.abaw import Abaw

HEADER = "image,valence,arousal,expression,aus"
ZEROS = ",".join(["0"] * 12)
NONE = ",".join(["-1"] * 12)


def _set(root: Path, *rows: str, name: str = "training_set_annotations.txt") -> Abaw:
    for number, row in enumerate(rows):
        shoot(root / "cropped_aligned" / row.split(",")[0], number)
    write(root / name, HEADER, *rows)
    return Abaw(root)


def test_a_row_has_more_fields_than_its_header(tmp_path: Path) -> None:
    _, rows = bring_in(
        _set(tmp_path / "set", f"clip/00001.jpg,0.5,-0.5,4,1,{ZEROS[2:]}"), tmp_path / "out"
    )
    row = rows["clip/00001.jpg"]
    assert (
        row["labels"]["AU1"] == 1
        and row["labels"]["AU26"] == 0
        and row["labels"]["arousal"] == -0.5
    )
    assert row["truth"]["emotion"] == "happiness"


def test_each_task_has_its_own_mask(tmp_path: Path) -> None:
    source = _set(
        tmp_path / "set",
        f"a/00001.jpg,-5,-5,-1,{ZEROS}",
        f"a/00002.jpg,0.1,0.2,-1,{NONE}",
        f"a/00003.jpg,0.1,-5,2,{NONE}",
    )
    report, rows = bring_in(source, tmp_path / "out")
    assert len(rows["a/00001.jpg"]["labels"]) == 12
    assert rows["a/00002.jpg"]["labels"] == {"valence": 0.1, "arousal": 0.2}
    assert refusals(report)["training_set_annotations.txt:4"].startswith("no label is known")


@pytest.mark.parametrize(
    "name", ["train_set.txt", "validation_set.txt", "MTL_Challenge/validation_set_annotations.txt"]
)
def test_lists_go_by_several_names(tmp_path: Path, name: str) -> None:
    _, rows = bring_in(
        _set(tmp_path / "set", f"a_left/00001.jpg,0,0,0,{ZEROS}", name=name),
        tmp_path / "out",
        splits="official",
    )
    (row,) = rows.values()
    assert (row["identity"], row["video"]) == ("a_left", "a")
    assert (row["split"] == "test") == ("validation" in name)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (f"a/00001.jpg,0,0,0,{ZEROS},0", "16 fields"),
        (f"a/00001.jpg,zero,0,0,{ZEROS}", "16 fields"),
        (f"a/00001.jpg,3,0,0,{ZEROS}", "valence is 3"),
        (f"a/00001.jpg,0,0,9,{ZEROS}", "expression is 9"),
        (f"a/00001.jpg,0,0,0,2{ZEROS[1:]}", "AU1 is 2"),
    ],
)
def test_rows_that_cannot_be_are_refused(tmp_path: Path, row: str, why: str) -> None:
    report, _ = bring_in(
        _set(tmp_path / "set", f"a/00002.jpg,0,0,0,{ZEROS}", row), tmp_path / "out"
    )
    assert why in refusals(report)["training_set_annotations.txt:3"]


def test_a_folder_without_lists_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="training_set_annotations"):
        Abaw(tmp_path).vocabulary()
