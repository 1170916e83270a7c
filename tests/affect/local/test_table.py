"""Readings as a table: fixed columns, the same content in every kind of file."""

import csv
import json
from pathlib import Path

import pytest
from pyarrow import parquet

from affect import Reader
from affect.inputs import U8
from affect.labels import EXPRESSIONS
from affect.local import Readings
from affect.local.table import HEAD, TAIL, TableError, columns
from tests.support.tiny import tiny_card, tiny_run

VOCABULARY = ("AU1", "AU12")


@pytest.fixture(scope="module")
def readings(reader: Reader, portrait: U8) -> Readings:
    return reader.read([portrait, b"broken", portrait])


def test_the_columns_stand_in_their_order() -> None:
    names = list(columns(VOCABULARY))
    units = [f"{code}{end}" for code in VOCABULARY for end in ("", "_intensity", "_present")]
    assert names == [*HEAD, *units, *TAIL]
    assert names[:5] == ["input", "frame", "time_seconds", "face", "track"]


def test_what_a_model_does_not_know_is_empty(readings: Readings) -> None:
    frame = readings.to_pandas()
    assert frame["pitch"].isna().all() and frame["expression"].isna().all()
    assert frame["error"].tolist()[1] == "not_an_image" and frame["error"].isna().sum() == 2


def test_a_model_that_reads_expression_and_pose_fills_their_columns(
    portrait: U8, tmp_path: Path
) -> None:
    reader = Reader(tiny_run(tmp_path / "run", tiny_card(reader=True)), device="cpu")
    row = reader.read([portrait]).to_pandas().iloc[0]
    (reading,) = reader.read([portrait])
    assert row["expression"] in EXPRESSIONS and row["yaw"] == round(reading.pose["yaw"], 5)
    assert reading.aus["AU12"].left is not None and reading.aus["AU25"].left is None


def test_a_frame_and_an_arrow_table_hold_the_same(readings: Readings) -> None:
    table, frame = readings.to_arrow(), readings.to_pandas()
    assert table.column_names == list(frame.columns)
    assert table["AU12"].to_pylist()[0] == frame["AU12"].iloc[0]
    assert str(frame["AU12_present"].dtype) == "boolean" and str(frame["face"].dtype) == "Int64"


def test_every_kind_of_file_holds_the_same(readings: Readings, tmp_path: Path) -> None:
    paths = [readings.save(tmp_path / f"t{suffix}") for suffix in (".csv", ".parquet", ".jsonl")]
    text = list(csv.DictReader(paths[0].open()))
    rows = parquet.read_table(paths[1]).to_pylist()
    lines = [json.loads(line) for line in paths[2].read_text().splitlines()]
    assert rows == lines == readings.to_arrow().to_pylist()
    assert [row["valence"] for row in text] == [
        "" if row["valence"] is None else str(row["valence"]) for row in rows
    ]


def test_nothing_is_overwritten_unasked(readings: Readings, tmp_path: Path) -> None:
    path = readings.save(tmp_path / "t.csv")
    with pytest.raises(TableError, match="exists"):
        readings.save(path)
    assert readings.save(path, overwrite=True) == path


def test_a_name_that_is_no_table_is_refused(readings: Readings, tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"\.parquet"):
        readings.save(tmp_path / "t.xlsx")


def test_a_plot_shows_units_and_the_circumplex(readings: Readings, tmp_path: Path) -> None:
    figure = readings.plot()
    figure.savefig(tmp_path / "plot.png")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:2] == ["probability of Action Units", "valence and arousal"]


def test_there_is_no_plot_of_nothing(readings: Readings) -> None:
    with pytest.raises(ValueError, match="nothing to plot"):
        readings.errors.plot()
