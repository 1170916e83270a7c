"""DISFA, from pictures and from its videos."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.support.set_layouts import as_packed_on_a_mac, bring_in, face, refusals, shoot, write
from training.database.card import DataError
from training.database.reader import Database
from training.sources.disfa import Disfa
from training.sources.record import Options


def _labels(root: Path, person: str, **files: list[str]) -> None:
    for unit, lines in files.items():
        write(root / "ActionUnit_Labels" / person / f"{person}_{unit}.txt", *lines)


def test_intensities_of_several_files_meet_by_frame(tmp_path: Path) -> None:
    root = tmp_path / "set"
    _labels(root, "SN001", au1=["1,0", "2,5"], au12=["1,3", "2,0", "3,1"])
    for frame in (1, 2, 3):
        shoot(root / f"Images/SN001/{frame}.jpg", frame)
    as_packed_on_a_mac(root)
    report, rows = bring_in(Disfa(root), tmp_path / "out")
    assert rows["SN001/1.jpg"]["labels"] == pytest.approx({"AU1": 0, "AU12": 0.6})
    assert (
        rows["SN001/3.jpg"]["labels"] == pytest.approx({"AU12": 0.2}) and report.masked["AU1"] == 1
    )


@pytest.mark.parametrize(("threshold", "present"), [(1, 4), (2, 3), (3, 2)])
def test_the_threshold_is_an_option(tmp_path: Path, threshold: int, present: int) -> None:
    root = tmp_path / "set"
    _labels(root, "SN001", au1=["1,1", "2,2", "3,3", "4,5"])
    for frame in (1, 2, 3, 4):
        shoot(root / f"Images/SN001/{frame:05d}.png", frame)
    bring_in(Disfa(root, Options(threshold=threshold)), tmp_path / "out")
    database = Database.open(tmp_path / "out")
    labels = np.concatenate([database.labels(split) for split in ("train", "validation", "test")])
    assert (labels[:, 0] >= database.card.positive_intensity).sum() == present


def test_frames_come_out_of_the_video_in_their_place(tmp_path: Path) -> None:
    root = tmp_path / "set"
    _labels(root, "SN002", au4=["2,1", "4,2", "9,1"])
    (root / "Videos_LeftCamera").mkdir()
    video = cv2.VideoWriter(
        str(root / "Videos_LeftCamera/LeftVideoSN002_comp.avi"),
        cv2.VideoWriter.fourcc(*"MJPG"),
        20,
        (48, 48),
    )
    for number in (0, 1, 0, 2):
        video.write(face(number)[..., ::-1])
    video.release()
    report, _ = bring_in(Disfa(root), tmp_path / "out")
    database = Database.open(tmp_path / "out")
    (split,) = [split for split in ("train", "validation", "test") if database.count(split)]
    shrunk = [
        cv2.resize(face(number), (32, 32), interpolation=cv2.INTER_AREA).astype(int)
        for number in (1, 2)
    ]
    assert np.abs(database.images(split, np.arange(2), 32) - np.stack(shrunk)).mean() < 12
    assert "has no frame 9" in refusals(report)["ActionUnit_Labels/SN002 frame 9"]


def test_lines_that_are_no_intensities_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "set"
    _labels(root, "SN001", au1=["1,0", "2,6", "x", "4,1.5"])
    shoot(root / "Images/SN001/00001.jpg")
    report, _ = bring_in(Disfa(root), tmp_path / "out")
    assert [where.rsplit(":")[-1] for where in refusals(report)] == ["2", "3", "4"]


def test_a_threshold_that_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="choose 1 to 5"):
        _ = Disfa(tmp_path, Options(threshold=6)).positive_intensity


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ActionUnit_Labels"):
        Disfa(tmp_path).vocabulary()


def test_pictures_numbered_from_0_are_noticed(tmp_path: Path) -> None:
    root = tmp_path / "set"
    _labels(root, "SN001", au1=["1,0", "2,5", "3,0"])
    for number in (0, 1, 2):
        shoot(root / f"Images/SN001/{number}.png", number)
    _, rows = bring_in(Disfa(root), tmp_path / "out")
    assert rows["SN001/1.png"]["labels"] == {"AU1": 1} and len(rows) == 3


def test_labels_numbered_from_0_are_noticed(tmp_path: Path) -> None:
    root = tmp_path / "set"
    _labels(root, "SN001", au1=["0,0", "1,5"])
    for number in (1, 2):
        shoot(root / f"Images/SN001/{number}.png", number)
    _, rows = bring_in(Disfa(root), tmp_path / "out")
    assert rows["SN001/2.png"]["labels"] == {"AU1": 1}


def test_a_person_whose_first_frame_is_ambiguous_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for person, first in (("SN001", 0), ("SN002", 1)):
        _labels(root, person, au1=["1,0", "2,5"])
        for number in range(first, 3):
            shoot(root / f"Images/{person}/{number}.png", number)
    report, rows = bring_in(Disfa(root), tmp_path / "out")
    assert "cannot be told" in refusals(report)["ActionUnit_Labels/SN001"]
    assert {row["identity"] for row in rows.values()} == {"SN002"}
