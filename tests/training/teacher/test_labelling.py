"""Photographs are written with a teacher's labels, its confidence, and its name on the card."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.made_database import card, make
from tests.support.made_meshes import MadeFaces, save
from training.database.annotations import read_annotations
from training.database.card import DataError
from training.database.reader import Database
from training.database.sample import SPLITS
from training.sources.commands import data
from training.teacher.labelling import Request, mixed, teach_photographs
from training.teacher.targets import Targets
from training.teacher.teacher import Labels

AUS = ("AU4", "AU12")
RENDERS, PHOTOS = 240, 40


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Request:
    """240 made renders and 40 made photographs; every second of these shows somebody at rest."""
    folder, made = tmp_path_factory.mktemp("teach"), MadeFaces.draw(2)
    rng = np.random.default_rng(0)
    true = np.where(rng.random((RENDERS, 2)) < 0.5, 0.0, rng.random((RENDERS, 2)))
    rows = [
        (n, f"p{n}", {"AU4": a, "AU12": b, "valence": b - a, "arousal": 0.0})
        for n, (a, b) in enumerate(true.tolist())
    ]
    make(folder / "renders", card(*AUS, name="drawn", renderer="abc"), rows)
    save(folder / "renders.parquet", [f"k{n}" for n in range(RENDERS)], made.meshes(true, rng))
    faces: list[tuple[int, str, dict[str, float]]] = [(n, f"q{n}", {}) for n in range(PHOTOS)]
    make(folder / "photos", card(licence="CC0-1.0"), faces, truth={"picture": "neutral/a.jpg"})
    shown = np.zeros((PHOTOS, 2))
    shown[1::2, 1] = 0.8
    save(
        folder / "photos.parquet",
        [f"k{n}" for n in range(PHOTOS - 1)],
        made.meshes(shown, rng)[:-1],
    )
    return Request(
        folder / "renders",
        folder / "renders.parquet",
        folder / "photos",
        folder / "photos.parquet",
        folder / "out",
    )


@pytest.fixture(scope="module")
def labelled(paths: Request) -> Database:
    """The labelled database."""
    report = teach_photographs(paths)
    assert (report.photographs, report.labelled) == (PHOTOS, PHOTOS - 1)
    return Database.open(paths.out)


def _labels(database: Database) -> dict[str, np.ndarray]:
    return {
        key: row
        for split in SPLITS
        for key, row in zip(
            database.table(split, ["key"])["key"].to_pylist(), database.labels(split), strict=True
        )
    }


def test_who_smiles_is_labelled_so(labelled: Database) -> None:
    smiles = [row[1] for key, row in _labels(labelled).items() if int(key[1:]) % 2]
    others = [row[1] for key, row in _labels(labelled).items() if not int(key[1:]) % 2]
    assert np.nanmin(smiles) > 0.5 and np.nanmax(others) < 0.3


def test_a_picture_without_a_mesh_keeps_no_label(labelled: Database) -> None:
    assert np.isnan(_labels(labelled)[f"k{PHOTOS - 1}"]).all()


def test_each_label_has_a_confidence(labelled: Database) -> None:
    confidence = read_annotations(labelled, "train").confidence
    assert ((confidence >= 0) & (confidence <= 1)).all() and (confidence < 1).any()


def test_pixels_splits_and_licence_stay(labelled: Database, paths: Request) -> None:
    photos = Database.open(paths.photos)
    for split in SPLITS:
        rows = np.arange(photos.count(split))
        assert labelled.count(split) == len(rows)
        if len(rows):
            assert (labelled.images(split, rows, 16) == photos.images(split, rows, 16)).all()
    assert labelled.card.licence == "CC0-1.0"


def test_the_card_says_what_taught(labelled: Database) -> None:
    assert "pseudo-labels" in labelled.card.labelled and "drawn" in labelled.card.teacher


def test_a_finished_database_is_not_written_over(labelled: Database, paths: Request) -> None:
    with pytest.raises(DataError, match="another --out"):
        teach_photographs(paths)


def test_points_of_other_pictures_are_refused(paths: Request, tmp_path: Path) -> None:
    strange = save(tmp_path / "p.parquet", ["x"], np.zeros((1, 478, 3)))
    with pytest.raises(DataError, match="no mesh"):
        teach_photographs(
            Request(paths.renders, paths.points, paths.photos, strange, tmp_path / "o")
        )


def test_the_command_takes_people_at_rest(paths: Request, tmp_path: Path) -> None:
    (tmp_path / "rest.txt").write_text("# by eye\nneutral/*\n")
    options = [
        "--points",
        paths.points,
        "--photos",
        paths.photos,
        "--photo-points",
        paths.photo_points,
        "--neutral",
        tmp_path / "rest.txt",
        "--out",
        tmp_path / "o",
    ]
    done = CliRunner().invoke(
        data, ["teach", str(paths.renders), *map(str, options)], catch_exceptions=False
    )
    assert "labelled 39 of 40" in done.output
    assert "neutral photographs" in Database.open(tmp_path / "o").card.teacher


def test_a_student_s_scale_is_brought_to_the_teacher_s() -> None:
    rng, targets = np.random.default_rng(0), Targets(AUS)
    values = np.clip(rng.random((50, len(targets.names))), 0, 1)
    teacher = Labels(values, np.ones_like(values))
    student = 0.1 * values[:, :4] + 0.4
    both = mixed(teacher, student, targets)
    assert np.allclose(both.values, values, atol=1e-6)


def test_lossless_webp_holds_the_same_pixels(labelled: Database, paths: Request) -> None:
    row = labelled.offsets("train")
    content = labelled.read_bytes(int(row.shard[0]), int(row.offset[0]), int(row.size[0]))
    assert content[8:12] == b"WEBP"
    assert cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) is not None
