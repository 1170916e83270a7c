"""AFEW-VA's clips."""

import json
from pathlib import Path

import pytest

from tests.support.set_layouts import bring_in, refusals, shoot, write
from training.database.card import DataError
from training.database.reader import Database
from training.sources.afewva import AfewVa


def _clip(root: Path, name: str, frames: dict[str, dict[str, object]], **about: str) -> None:
    write(root / name / f"{name}.json", json.dumps({"video_id": name, "frames": frames, **about}))
    for number, frame in enumerate(frames):
        shoot(root / name / f"{frame}.png", number)


def _frame(valence: object, arousal: object) -> dict[str, object]:
    return {"landmarks": [[10.0, 10.0], [30.0, 40.0]], "valence": valence, "arousal": arousal}


def test_tens_become_ones(tmp_path: Path) -> None:
    _clip(tmp_path / "set", "001", {"00000": _frame(-10.0, 7.0), "00001": _frame(0, 3)})
    _, rows = bring_in(AfewVa(tmp_path / "set"), tmp_path / "out")
    assert rows["001/00000.png"]["labels"] == pytest.approx({"valence": -1.0, "arousal": 0.7})
    assert rows["001/00001.png"]["labels"] == pytest.approx({"valence": 0.0, "arousal": 0.3})


def test_an_actor_of_two_clips_stays_in_one_split(tmp_path: Path) -> None:
    for number in range(6):
        _clip(tmp_path / "set", f"00{number}", {"00000": _frame(1, 1)}, actor="somebody")
    bring_in(AfewVa(tmp_path / "set"), tmp_path / "out")
    database = Database.open(tmp_path / "out")
    assert sorted(database.count(split) for split in ("train", "validation", "test")) == [0, 0, 6]


def test_frames_and_clips_that_cannot_be_are_refused(tmp_path: Path) -> None:
    _clip(
        tmp_path / "set",
        "001",
        {
            "00000": _frame(1, 1),
            "00001": _frame(11, 0),
            "00002": {"valence": 1},
            "00003": _frame("x", 0),
        },
    )
    write(tmp_path / "set/002/002.json", "{")
    (tmp_path / "set/001/00000.png").write_bytes(
        (tmp_path / "set/001/00000.png").read_bytes()[:200]
    )
    _clip(tmp_path / "set", "003", {"00000": _frame(1, 1)})
    report, _ = bring_in(AfewVa(tmp_path / "set"), tmp_path / "out")
    refused = refusals(report)
    assert (
        "valence is 1.1" in refused["001/001.json frame 00001"]
        and "arousal" in refused["001/001.json frame 00002"]
    )
    assert "001/001.json frame 00003" in refused and "not a clip" in refused["002/002.json"]
    assert refused["001/001.json frame 00000"].startswith("broken image") and (
        report.read,
        report.kept,
    ) == (6, 1)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="AFEW-VA"):
        AfewVa(tmp_path).vocabulary()
