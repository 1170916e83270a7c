"""An import aligns faces, accounts for every line, and goes on where it stopped."""

import csv
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from affect.faces import EYES, FaceFinder
from tests.support.set_layouts import bring_in, face, refusals, shoot, write
from training.database.card import DataError
from training.database.reader import Database
from training.renderer.face import LOOSE
from training.sources.cropping import Cropping, parse_eyes
from training.sources.csv import PlainCsv
from training.sources.importing import import_database


@pytest.fixture
def labels(tmp_path: Path) -> PlainCsv:
    """Twelve aligned crops, the fifth missing, the seventh broken, and a line without labels."""
    for number in range(12):
        if number != 4:
            shoot(tmp_path / f"set/{number}.png", number)
    (tmp_path / "set/6.png").write_bytes(b"nonsense")
    lines = [f"{number}.png,{'' if number == 8 else 0.5},p{number}" for number in range(12)]
    return PlainCsv(write(tmp_path / "set/labels.csv", "image,AU1,identity", *lines))


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _picture(folder: Path) -> Any:
    database = Database.open(folder)
    return np.concatenate(
        [
            database.images(split, np.arange(database.count(split)), 64)
            for split in ("train", "validation", "test")
        ]
    )[0]


def test_every_line_is_kept_or_named(labels: PlainCsv, tmp_path: Path) -> None:
    report, rows = bring_in(labels, tmp_path / "out")
    assert (report.read, report.kept, len(rows)) == (12, 9, 9)
    assert set(refusals(report)) == {"labels.csv:6", "labels.csv:8", "labels.csv:10"}
    with (tmp_path / "out/refused.csv").open() as file:
        assert [row["where"] for row in csv.DictReader(file)] == list(refusals(report))
    assert "not an image" in report.table() and "labels.csv:8" in report.table()


def test_a_stopped_import_goes_on_to_the_same_bytes(labels: PlainCsv, tmp_path: Path) -> None:
    bring_in(labels, tmp_path / "whole", shard_lines=5)
    part = tmp_path / "part"
    bring_in(labels, part, shard_lines=5)
    for name in (
        "shard-000001.tar",
        "shard-000001.parquet",
        "import-000001.json",
        "shard-000002.parquet",
        "import-000002.json",
    ):
        (part / name).unlink()
    untouched = (part / "shard-000000.tar").stat().st_mtime_ns
    report, _ = bring_in(labels, part, shard_lines=5)
    assert _bytes(part) == _bytes(tmp_path / "whole") and report.kept == 9
    assert (part / "shard-000000.tar").stat().st_mtime_ns == untouched


def test_two_workers_make_the_same_bytes_as_one(labels: PlainCsv, tmp_path: Path) -> None:
    bring_in(labels, tmp_path / "one", shard_lines=5)
    bring_in(labels, tmp_path / "two", workers=2, shard_lines=5)
    assert _bytes(tmp_path / "one") == _bytes(tmp_path / "two")


def test_a_folder_does_not_take_two_imports(labels: PlainCsv, tmp_path: Path) -> None:
    bring_in(labels, tmp_path / "out")
    with pytest.raises(DataError, match="other settings"):
        bring_in(labels, tmp_path / "out", splits="official")


def test_an_import_of_nothing_is_an_error(tmp_path: Path) -> None:
    source = PlainCsv(write(tmp_path / "labels.csv", "image,AU1", "nowhere.jpg,1"))
    with pytest.raises(DataError, match=r"could be used[^~]*the picture is missing"):
        bring_in(source, tmp_path / "out")


def test_photographs_are_aligned_as_serving_aligns_them(tmp_path: Path) -> None:
    shoot(tmp_path / "set/a.png", 1, framing=LOOSE, size_px=200)
    source = PlainCsv(write(tmp_path / "set/labels.csv", "image,AU1", "a.png,1"))
    import_database(source, tmp_path / "out", cropping=Cropping(size_px=64))
    roomy = cv2.copyMakeBorder(_picture(tmp_path / "out"), 32, 32, 32, 32, cv2.BORDER_REPLICATE)
    eyes = (FaceFinder().find(np.asarray(roomy, np.uint8))[0].points[:2] - 32) / 64
    assert np.abs(eyes - np.array(EYES)).max() < 0.06


def test_a_picture_without_a_face_is_refused(tmp_path: Path) -> None:
    shoot(tmp_path / "set/a.png", 1, framing=LOOSE, size_px=200)
    assert cv2.imwrite(str(tmp_path / "set/wall.png"), np.full((200, 200, 3), 90, np.uint8))
    source = PlainCsv(write(tmp_path / "set/labels.csv", "image,AU1", "a.png,1", "wall.png,1"))
    report = import_database(source, tmp_path / "out", cropping=Cropping(size_px=64))
    assert refusals(report)["labels.csv:3"].startswith("no face found: wall.png")


def test_crops_with_eyes_elsewhere_are_aligned_by_their_given_points(tmp_path: Path) -> None:
    aligned = face(1, size_px=64)
    shifted = np.roll(aligned, (6, 0), axis=(0, 1))
    (tmp_path / "set").mkdir()
    assert cv2.imwrite(str(tmp_path / "set/a.png"), shifted[..., ::-1])
    source = PlainCsv(write(tmp_path / "set/labels.csv", "image,AU1", "a.png,1"))
    height = 0.36 + 6 / 64
    import_database(
        source, tmp_path / "out", cropping=Cropping(size_px=64, eyes=(0.32, height, 0.68, height))
    )
    assert (
        np.abs(_picture(tmp_path / "out")[4:54, 4:60].astype(int) - aligned[4:54, 4:60]).mean() < 2
    )


def test_an_oblong_picture_is_no_aligned_crop(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for name, height in (("a", 48), ("b", 80)):
        assert cv2.imwrite(str(tmp_path / f"set/{name}.png"), np.zeros((height, 48, 3), np.uint8))
    source = PlainCsv(write(tmp_path / "set/labels.csv", "image,AU1", "a.png,1", "b.png,1"))
    report, _ = bring_in(source, tmp_path / "out")
    assert refusals(report)["labels.csv:3"].startswith("not a crop")


@pytest.mark.parametrize("text", ["0.3,0.4", "a,b,c,d", "0.7,0.4,0.3,0.4", "0.3,0.4,30,0.4"])
def test_eyes_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(DataError, match="eyes"):
        Cropping(eyes=parse_eyes(text))
