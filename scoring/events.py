"""Blinks: eyes that close (AU43, or AU45 where the model has it) and open again, with onset and
length.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from affect.local.reading import LocalReading
from scoring.persons import Person, person_of

CLOSED = ("AU45", "AU43")  # the first that a model has
LONGEST_BLINK_SECONDS = 0.5  # longer is eyes that are kept shut (Caffier et al. 2003)
COLUMNS = ("input", "track", "face", "event", "frame", "onset_seconds", "length_seconds", "peak")


@dataclass(frozen=True)
class Event:
    """Something that has a beginning and a length."""

    input: str
    track: int | None
    face: int | None
    event: str  # blink, or eyes_closed
    frame: int  # of the onset
    onset_seconds: float
    length_seconds: float
    peak: float  # the highest probability


@dataclass
class _Closure:
    onset: LocalReading
    last: LocalReading
    peak: float


class Blinks:
    """Detects the blinks of every person."""

    def __init__(self) -> None:
        self._closed: dict[Person, _Closure] = {}
        self._input = ""

    def add(self, entry: LocalReading) -> Iterator[Event]:
        """Events that end with this entry."""
        if entry.input != self._input:
            yield from self.finish()
            self._input = entry.input
        code = next((code for code in CLOSED if code in entry.aus), None)
        if code is None or entry.time_seconds is None:
            return
        unit, person = entry.aus[code], person_of(entry)
        closure = self._closed.get(person)
        if unit.present and closure is None:
            self._closed[person] = _Closure(entry, entry, unit.probability)
        elif unit.present and closure is not None:
            closure.last, closure.peak = entry, max(closure.peak, unit.probability)
        elif closure is not None:
            yield _event(self._closed.pop(person), entry.time_seconds)

    def finish(self) -> Iterator[Event]:
        """Events still open at the end of the video or of the face's track."""
        for closure in self._closed.values():
            assert closure.last.time_seconds is not None
            yield _event(closure, closure.last.time_seconds)
        self._closed = {}


def _event(closure: _Closure, end_seconds: float) -> Event:
    onset = closure.onset
    assert onset.time_seconds is not None and onset.frame is not None
    length = end_seconds - onset.time_seconds
    kind = "blink" if length <= LONGEST_BLINK_SECONDS else "eyes_closed"
    return Event(
        onset.input,
        onset.track,
        onset.face,
        kind,
        onset.frame,
        round(onset.time_seconds, 5),
        round(length, 5),
        round(closure.peak, 5),
    )


def save_events(events: list[Event], path: Path) -> None:
    """Write events as the kind of table that the path names."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    types = (str, int, int, str, int, float, float, float)
    schema = pa.schema([(name, kinds[kind]) for name, kind in zip(COLUMNS, types, strict=True)])
    rows: list[dict[str, Any]] = [asdict(event) for event in events]
    table = pa.Table.from_pylist(rows, schema=schema)
    kind = path.suffix.lower()
    if kind == ".parquet":
        parquet.write_table(table, path)
    elif kind == ".csv":
        csv.write_csv(table, path)
    else:
        table.to_pandas().to_json(path, orient="records", lines=True)
