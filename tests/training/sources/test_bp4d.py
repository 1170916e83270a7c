"""BP4D's occurrence codes."""

from pathlib import Path

import pytest

from tests.support.set_layouts import bring_in, refusals, shoot, write
from training.database.card import DataError
from training.database.reader import Database
from training.sources.bp4d import Bp4d


def _set(root: Path, **files: list[str]) -> Bp4d:
    for name, lines in files.items():
        write(root / "AUCoding/AU_OCC" / f"{name}.csv", *lines)
    return Bp4d(root)


def test_nine_is_unknown_and_the_first_column_is_the_frame(tmp_path: Path) -> None:
    source = _set(tmp_path / "set", F001_T1=["0,1,2,4", "2440,1,0,9", "2441,9,9,9"])
    for frame in (2440, 2441):
        shoot(tmp_path / f"set/2D+3D/F001/T1/{frame}.jpg", frame)
    report, rows = bring_in(source, tmp_path / "out")
    assert (
        rows["F001/2440.jpg"]["labels"] == {"AU1": 1, "AU2": 0}
        and rows["F001/2440.jpg"]["video"] == "F001_T1"
    )
    assert refusals(report)["AUCoding/AU_OCC/F001_T1.csv:3"].startswith("no label is known")


@pytest.mark.parametrize("name", ["007.jpg", "0007.jpg", "7.png"])
def test_frames_are_found_whatever_their_padding(tmp_path: Path, name: str) -> None:
    source = _set(tmp_path / "set", M002_T3=["0,12", "7,1"])
    shoot(tmp_path / f"set/Sequences/M002/T3/{name}")
    _, rows = bring_in(source, tmp_path / "out")
    assert '"sex": "male"' in rows[f"M002/{name}"]["groups"]


def test_the_tasks_of_a_person_stay_in_one_split(tmp_path: Path) -> None:
    source = _set(tmp_path / "set", **{f"F001_T{task}": ["0,1", "1,1"] for task in range(1, 9)})
    for task in range(1, 9):
        shoot(tmp_path / f"set/2D+3D/F001/T{task}/0001.jpg", task)
    bring_in(source, tmp_path / "out")
    database = Database.open(tmp_path / "out")
    assert sorted(database.count(split) for split in ("train", "validation", "test")) == [0, 0, 8]


def test_columns_that_no_catalogue_knows_are_no_labels(tmp_path: Path) -> None:
    assert _set(tmp_path / "set", F001_T1=["0,1,3,12,99", "1,1,0,9,0"]).vocabulary() == (
        "AU1",
        "AU12",
    )


def test_other_values_and_short_lines_are_refused(tmp_path: Path) -> None:
    source = _set(tmp_path / "set", F001_T1=["0,1,2", "1,1,0", "2,3,0", "3,1"])
    shoot(tmp_path / "set/2D+3D/F001/T1/0001.jpg")
    report, _ = bring_in(source, tmp_path / "out")
    refused = refusals(report)
    assert (
        "AU1 is 3" in refused["AUCoding/AU_OCC/F001_T1.csv:3"]
        and "does not fit" in refused["AUCoding/AU_OCC/F001_T1.csv:4"]
    )


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="AU_OCC"):
        Bp4d(tmp_path).vocabulary()
