"""The table of readings: its columns, and files of it (CSV, Parquet, JSON lines) that are written
as rows come.

The columns and their order are part of the interface. A column is there whether or not the model
fills it.
"""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from affect.local.reading import LocalReading

if TYPE_CHECKING:
    import pyarrow as pa

HEAD = {
    "input": str,
    "frame": int,
    "time_seconds": float,
    "face": int,
    "track": int,
    "box_x": float,
    "box_y": float,
    "box_width": float,
    "box_height": float,
    "confidence": float,
    "realism": float,
    "valence": float,
    "arousal": float,
    "expression": str,
    "yaw": float,
    "pitch": float,
    "roll": float,
}
TAIL = {"warnings": str, "error": str}
BOX = ("box_x", "box_y", "box_width", "box_height")
DECIMALS = 5  # of what a model reads; its last bits depend on the machine
SUFFIXES = (".csv", ".parquet", ".jsonl")
Row = dict[str, Any]


class TableError(ValueError):
    """A table that cannot be written or read: says which and what to do."""


def columns(vocabulary: Sequence[str]) -> dict[str, type]:
    """Name and type of every column for a model's Action Units."""
    units = {
        name: kind
        for code in vocabulary
        for name, kind in ((code, float), (f"{code}_intensity", float), (f"{code}_present", bool))
    }
    return HEAD | units | TAIL


def row(reading: LocalReading, vocabulary: Sequence[str]) -> Row:
    """One entry as a row with every column; None is empty."""
    cells: Row = {
        name: getattr(reading, name) for name in HEAD if name not in BOX and hasattr(reading, name)
    }
    cells |= dict(zip(BOX, reading.box or (None,) * 4, strict=True))
    cells |= {axis: reading.pose.get(axis) for axis in ("yaw", "pitch", "roll")}
    for code in vocabulary:
        unit = reading.aus.get(code)
        cells[code] = unit and unit.probability
        cells[f"{code}_intensity"] = unit and unit.intensity
        cells[f"{code}_present"] = unit and unit.present
    cells |= {"warnings": ";".join(reading.warnings) or None, "error": reading.error}
    return {name: _rounded(cells[name]) for name in columns(vocabulary)}


def _rounded(value: Any) -> Any:
    return round(value, DECIMALS) if isinstance(value, float) else value


def schema(vocabulary: Sequence[str]) -> "pa.Schema":
    """The columns in Arrow's types."""
    import pyarrow as pa

    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    return pa.schema([(name, kinds[kind]) for name, kind in columns(vocabulary).items()])


def to_arrow(readings: Iterable[LocalReading], vocabulary: Sequence[str]) -> "pa.Table":
    """All entries as one table."""
    import pyarrow as pa

    rows = [row(reading, vocabulary) for reading in readings]
    return pa.Table.from_pylist(rows, schema=schema(vocabulary))


class TableWriter(Protocol):
    """A table file to which rows are appended."""

    def write(self, readings: Sequence[LocalReading]) -> None:
        """Append a row an entry."""

    def close(self) -> None:
        """Complete the file. A Parquet file cannot be read before."""


def check_suffix(path: Path) -> None:
    """Raises TableError unless the suffix names a kind of table."""
    if path.suffix.lower() not in SUFFIXES:
        raise TableError(
            f"{path}: which kind of table? Give a name that ends in {', '.join(SUFFIXES)}"
        )


def open_writer(path: Path, vocabulary: Sequence[str]) -> TableWriter:
    """A writer for the kind of table that the path's suffix names. Raises TableError, and OSError
    when it cannot be opened.
    """
    check_suffix(path)
    kinds: dict[str, type[CsvWriter | ParquetWriter | JsonLinesWriter]] = {
        ".csv": CsvWriter,
        ".parquet": ParquetWriter,
        ".jsonl": JsonLinesWriter,
    }
    return kinds[path.suffix.lower()](path, vocabulary)


class CsvWriter:
    """Comma-separated UTF-8 with a header; empty where there is nothing, true and false in
    words.
    """

    def __init__(self, path: Path, vocabulary: Sequence[str]) -> None:
        self.vocabulary = vocabulary
        self.file: IO[str] = path.open("w", newline="", encoding="utf-8")
        self.rows = csv.DictWriter(self.file, list(columns(vocabulary)), lineterminator="\n")
        self.rows.writeheader()

    def write(self, readings: Sequence[LocalReading]) -> None:
        self.rows.writerows(
            {name: _word(value) for name, value in row(reading, self.vocabulary).items()}
            for reading in readings
        )
        self.file.flush()

    def close(self) -> None:
        self.file.close()


class JsonLinesWriter:
    """One JSON object a line, null where there is nothing."""

    def __init__(self, path: Path, vocabulary: Sequence[str]) -> None:
        self.vocabulary = vocabulary
        self.file: IO[str] = path.open("w", encoding="utf-8")

    def write(self, readings: Sequence[LocalReading]) -> None:
        self.file.writelines(
            json.dumps(row(reading, self.vocabulary), ensure_ascii=False) + "\n"
            for reading in readings
        )
        self.file.flush()

    def close(self) -> None:
        self.file.close()


class ParquetWriter:
    """Row groups of ROWS rows."""

    ROWS = 8192

    def __init__(self, path: Path, vocabulary: Sequence[str]) -> None:
        from pyarrow import parquet

        self.vocabulary, self.rows = vocabulary, list[Row]()
        self.schema = schema(vocabulary)
        self.file = parquet.ParquetWriter(path, self.schema, compression="zstd")

    def write(self, readings: Sequence[LocalReading]) -> None:
        self.rows += [row(reading, self.vocabulary) for reading in readings]
        if len(self.rows) >= self.ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        self.file.write_table(pa.Table.from_pylist(self.rows, schema=self.schema))
        self.rows = []

    def close(self) -> None:
        if self.rows:
            self._flush()
        self.file.close()


def _word(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value
