"""AffectNet as of 2017 and as of 2021."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.support.set_layouts import bring_in, face, refusals, shoot, write
from training.database.card import DataError
from training.database.reader import Database
from training.renderer.face import LOOSE
from training.sources.affectnet import AffectNet
from training.sources.cropping import Cropping
from training.sources.importing import import_database
from training.sources.record import Options, Record

HEADER = (
    "subDirectory_filePath,face_x,face_y,face_width,face_height,"
    "facial_landmarks,expression,valence,arousal"
)


def _row(picture: str, expression: int, valence: float, arousal: float) -> str:
    return f"{picture},0,0,48,48,{';'.join(['1.5'] * 136)},{expression},{valence},{arousal}"


@pytest.mark.parametrize("header", [HEADER, HEADER.replace("filePath", "filepath"), None])
def test_the_csv_of_2017_is_read_whatever_its_header(tmp_path: Path, header: str | None) -> None:
    shoot(tmp_path / "set/Manually_Annotated_Images/12/a.jpg")
    write(
        tmp_path / "set/training.csv",
        *([header] if header else []),
        _row("12/a.jpg", 1, 0.75, 0.25),
    )
    _, rows = bring_in(AffectNet(tmp_path / "set"), tmp_path / "out")
    (row,) = rows.values()
    assert (
        row["labels"] == {"valence": 0.75, "arousal": 0.25}
        and row["truth"]["emotion"] == "happiness"
    )


def _delivered(root: Path) -> AffectNet:
    """The tree of 2017 as its archives unpack, with both lists and both folders of photographs."""
    shoot(root / "Manually_Annotated/Manually_Annotated_Images/1/a.jpg")
    shoot(root / "Automatically_Annotated/Automatically_Annotated_Images/2/b.jpg", 1)
    write(root / "Manually_Annotated_file_lists/training.csv", HEADER, _row("1/a.jpg", 1, 0.5, 0))
    write(root / "Manually_Annotated_file_lists/validation.csv", _row("1/a.jpg", 2, 0.25, 0))
    lists = root / "Automatically_annotated_file_list"
    write(lists / "automatically_annotated.csv", HEADER, _row("2/b.jpg", 3, 0, 0.5))
    return AffectNet(root)


def test_the_layout_of_2017_is_read_as_delivered(tmp_path: Path) -> None:
    source = _delivered(tmp_path / "set")
    items = list(source.items())
    assert all(isinstance(item, Record) and item.picture.is_file() for item in items)
    assert [item.where.split("/")[-1] for item in items] == [
        "training.csv:2",
        "validation.csv:1",
        "automatically_annotated.csv:2",
    ]


def test_photographs_elsewhere_hold_both_folders_too(tmp_path: Path) -> None:
    root = _delivered(tmp_path / "set").root
    (tmp_path / "disk").mkdir()
    for name in ("Manually_Annotated", "Automatically_Annotated"):
        (root / name).rename(tmp_path / "disk" / name)
    items = list(AffectNet(root, Options(pictures=tmp_path / "disk")).items())
    assert all(isinstance(item, Record) and item.picture.is_file() for item in items)


def test_copies_of_a_list_are_read_once_and_differing_ones_refused(tmp_path: Path) -> None:
    source = _delivered(tmp_path / "set")
    text = (source.root / "Manually_Annotated_file_lists/training.csv").read_text()
    (source.root / "training.csv").write_text(text)
    assert len(list(source.items())) == 3
    (source.root / "training.csv").write_text(text + text)
    with pytest.raises(DataError, match="differ"):
        source.vocabulary()


def test_invalid_affect_and_faceless_pictures_are_refused(tmp_path: Path) -> None:
    for number in range(4):
        shoot(tmp_path / f"set/images/{number}.jpg")
    rows = [
        _row("0.jpg", 0, 0, 0),
        _row("1.jpg", 9, -2, -2),
        _row("2.jpg", 10, -2, -2),
        _row("3.jpg", 11, 0, 0),
        "4.jpg,0,0",
    ]
    write(tmp_path / "set/validation.csv", HEADER, *rows)
    report, imported = bring_in(AffectNet(tmp_path / "set"), tmp_path / "out", splits="official")
    refused = refusals(report)
    assert (
        refused["validation.csv:3"].startswith("no label is known")
        and "saw no face" in refused["validation.csv:4"]
    )
    assert (
        "expression is 11" in refused["validation.csv:5"]
        and "is missing" in refused["validation.csv:6"]
    )
    assert [row["split"] for row in imported.values()] == ["test"]


def _folder(root: Path, part: str, number: int, **labels: object) -> None:
    shoot(root / part / "images" / f"{number}.jpg", number)
    (root / part / "annotations").mkdir(exist_ok=True)
    for kind, value in {"exp": 3, "val": 0.5, "aro": 0.5, "lnd": np.zeros(136), **labels}.items():
        np.save(root / part / "annotations" / f"{number}_{kind}.npy", np.asarray(value))


def test_the_folders_of_2021_hold_numbers_or_text(tmp_path: Path) -> None:
    _folder(tmp_path / "set", "train_set", 7)
    _folder(tmp_path / "set", "val_set", 7, exp="6", val="-0.5", aro="0.875")
    _, rows = bring_in(AffectNet(tmp_path / "set"), tmp_path / "out", splits="official")
    assert (
        rows["val_set/7/7.jpg"]["labels"] == {"valence": -0.5, "arousal": 0.875}
        and rows["val_set/7/7.jpg"]["split"] == "test"
    )
    assert (
        rows["train_set/7/7.jpg"]["labels"] == {"valence": 0.5, "arousal": 0.5}
        and rows["train_set/7/7.jpg"]["split"] != "test"
    )


def test_a_label_file_that_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    for number in range(3):
        _folder(tmp_path / "set", "train_set", number)
    (tmp_path / "set/train_set/annotations/1_aro.npy").unlink()
    (tmp_path / "set/train_set/annotations/2_val.npy").write_bytes(b"")
    report, _ = bring_in(AffectNet(tmp_path / "set"), tmp_path / "out")
    refused = refusals(report)
    assert "1_aro.npy is missing" in refused["train_set/annotations/1_val.npy"]
    assert "2_val.npy holds no number" in refused["train_set/annotations/2_val.npy"]


def test_the_face_in_the_box_is_taken_from_a_crowd(tmp_path: Path) -> None:
    pair = np.concatenate([face(1, LOOSE, 160), face(2, LOOSE, 160)], axis=1)
    (tmp_path / "set/images").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "set/images/pair.png"), pair[..., ::-1])
    cv2.imwrite(str(tmp_path / "set/images/alone.png"), face(2, LOOSE, 160)[..., ::-1])
    rows = ["pair.png,200,40,80,80,,0,0.1,0.1", "alone.png,40,40,80,80,,0,0.1,0.1"]
    write(tmp_path / "set/training.csv", HEADER, *rows)
    import_database(AffectNet(tmp_path / "set"), tmp_path / "out", cropping=Cropping(size_px=64))
    database = Database.open(tmp_path / "out")
    images = np.concatenate(
        [
            database.images(split, np.arange(database.count(split)), 64)
            for split in ("train", "validation", "test")
        ]
    )
    assert np.abs(images[0].astype(int) - images[1]).mean() < 8


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="train_set"):
        AffectNet(tmp_path).vocabulary()
