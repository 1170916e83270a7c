"""Photographs that nobody has annotated become a database."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.set_layouts import bring_in, refusals, rows_of, shoot, write
from training.database.card import DataError
from training.database.describe import description
from training.database.reader import Database
from training.database.survey import survey
from training.renderer.face import LOOSE
from training.sources.cropping import Cropping
from training.sources.importing import import_database
from training.sources.pictures import Pictures
from training.sources.record import Options


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three aligned crops in two folders, a broken file and a text."""
    for number, name in enumerate(("a/0.png", "a/1.png", "b/0.png")):
        shoot(tmp_path / "set" / name, number)
    (tmp_path / "set/b/broken.jpg").write_bytes(b"nonsense")
    write(tmp_path / "set/b/notes.txt", "no picture")
    return tmp_path / "set"


def test_every_picture_of_every_subfolder_is_another_person(folder: Path, tmp_path: Path) -> None:
    report, rows = bring_in(Pictures(folder), tmp_path / "out")
    names = {"a/0.png", "a/1.png", "b/0.png"}
    assert set(rows) == {f"{name}/{name}" for name in names}
    assert refusals(report) == {"b/broken.jpg": refusals(report)["b/broken.jpg"]}
    assert all(not row["labels"] for row in rows.values())


def test_a_csv_says_who_is_who(folder: Path, tmp_path: Path) -> None:
    lines = ("image,identity", "a/0.png,ann", "b/0.png,ann", "c/7.png,bob")
    people = write(tmp_path / "people.csv", *lines)
    report, rows = bring_in(Pictures(folder, Options(people=people)), tmp_path / "out")
    assert {row["identity"] for row in rows.values()} == {"ann", "a/1.png"}
    assert rows["ann/a/0.png"]["split"] == rows["ann/b/0.png"]["split"]
    assert "c/7.png" in refusals(report)["people.csv:4"]


def test_a_csv_without_the_columns_is_refused(folder: Path, tmp_path: Path) -> None:
    people = write(tmp_path / "people.csv", "file,who", "a/0.png,ann")
    with pytest.raises(DataError, match="it needs image and identity"):
        Pictures(folder, Options(people=people)).vocabulary()


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no picture"):
        Pictures(tmp_path).vocabulary()


def test_the_card_says_photographs_and_the_licence_given(folder: Path, tmp_path: Path) -> None:
    bring_in(Pictures(folder, Options(licence="CC0-1.0")), tmp_path / "out")
    database = Database.open(tmp_path / "out")
    assert database.card.licence == "CC0-1.0" and "photographs" in database.card.labelled
    assert "pictures carry no label" in description(survey(database))


def test_a_stopped_import_of_pictures_goes_on(folder: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    bring_in(Pictures(folder), whole, shard_lines=2)
    before = {path.name: path.read_bytes() for path in whole.iterdir()}
    (whole / "shard-000001.parquet").unlink(missing_ok=True)
    (whole / "import-000001.json").unlink()
    bring_in(Pictures(folder), whole, shard_lines=2)
    assert {path.name: path.read_bytes() for path in whole.iterdir()} == before


def test_photographs_are_cropped_by_the_finder_that_serves(tmp_path: Path) -> None:
    shoot(tmp_path / "set/face.png", 1, framing=LOOSE, size_px=200)
    report = import_database(
        Pictures(tmp_path / "set"), tmp_path / "out", cropping=Cropping(size_px=64)
    )
    (row,) = rows_of(tmp_path / "out").values()
    crop = Database.open(tmp_path / "out").images(row["split"], np.array([0]), 64)
    assert report.kept == 1 and crop.shape == (1, 64, 64, 3)
