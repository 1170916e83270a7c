"""Every option reaches the table, and every kind of input is read alike."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from skimage import data

from scoring.events import COLUMNS
from tests.scoring.conftest import Run
from tests.support.pictures import encoded
from tests.support.tables import rows_of
from tests.support.tiny import tiny_card, tiny_run

FACE = encoded(data.astronaut()[:256, 96:352])


def test_the_median_of_a_person_becomes_neutral(run: Run, clip: Path, tmp_path: Path) -> None:
    options = ("--baseline", "median", "--events", tmp_path / "blinks.csv")
    done = run(clip, "--out", tmp_path / "t.jsonl", *options)
    assert done.exit_code == 0, done.output
    values = [row["valence"] for row in rows_of(tmp_path / "t.jsonl")]
    assert np.median(values) == pytest.approx(0, abs=2e-3)
    assert (tmp_path / "blinks.csv").read_text().splitlines()[0] == ",".join(
        f'"{name}"' for name in COLUMNS
    )


def test_a_picture_becomes_neutral(run: Run, tmp_path: Path) -> None:
    (tmp_path / "rest.png").write_bytes(FACE)
    picture = tmp_path / "rest.png"
    run(picture, "--out", tmp_path / "t.jsonl", "--baseline", picture)
    (row,) = rows_of(tmp_path / "t.jsonl")
    assert row["valence"] == 0 and row["AU12_intensity"] == 0 and not row["AU12_present"]


def test_smoothing_looks_at_the_past_alone(run: Run, clip: Path, tmp_path: Path) -> None:
    run(clip, "--out", tmp_path / "raw.jsonl")
    run(clip, "--out", tmp_path / "smooth.jsonl", "--smooth", 0.2)
    raw, smooth = (
        np.array([row["valence"] for row in rows_of(tmp_path / f"{name}.jsonl")])
        for name in ("raw", "smooth")
    )
    expected = raw.copy()
    for n in range(1, len(raw)):
        expected[n] = expected[n - 1] + (1 - np.exp(-0.04 / 0.2)) * (raw[n] - expected[n - 1])
    assert smooth == pytest.approx(expected, abs=1e-4)


def test_every_kind_of_input_reads_the_same_picture_alike(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(FACE)
    (tmp_path / "list.txt").write_text("a.png\n")
    parquet.write_table(pa.table({"image": [FACE], "name": ["a"]}), tmp_path / "a.parquet")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        member = tarfile.TarInfo("a.png")
        member.size = len(FACE)
        tar.addfile(member, io.BytesIO(FACE))
    inputs = [tmp_path / name for name in ("a.png", "list.txt", "a.parquet", "a.tar")]
    done = run(*inputs, "--out", tmp_path / "t.jsonl")
    assert done.exit_code == 0, done.output
    rows = rows_of(tmp_path / "t.jsonl")
    assert len({row.pop("input") for row in rows}) == 3  # the list names the first again
    assert len(rows) == 4 and all(row == rows[0] for row in rows)


def test_what_a_reader_knows_fills_its_columns(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(FACE)
    model = tiny_run(tmp_path / "run", tiny_card(reader=True))
    run(tmp_path / "a.png", "--out", tmp_path / "t.jsonl", model=model)
    (row,) = rows_of(tmp_path / "t.jsonl")
    assert row["expression"] and None not in [row[axis] for axis in ("yaw", "pitch", "roll")]
    assert row["warnings"] is None or row["warnings"].split(";")
