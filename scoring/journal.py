"""The journal of a run: readings in part files, written atomically beside the table that is made of
them.

A part holds the readings of some chunks as the model gave them, before tracking or smoothing, and
where the run stood after them. A run that was killed reads its parts again, which is cheap, and
resumes after the last.
"""

import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import ipc

from affect.local.reading import ActionUnit, LocalReading
from scoring.chunks import Mark

RUN_FILE = "run.json"
# A part is written when this share of the run's time has passed since the last: a kill loses that
# much work.
PART_SHARE, LONGEST_PART_SECONDS = 0.01, 10.0
PART_ROWS = 4096
FLOATS, NAMED = pa.list_(pa.float64()), pa.map_(pa.string(), pa.float64())
SCHEMA = pa.schema(
    [
        ("input", pa.string()),
        ("frame", pa.int64()),
        ("time_seconds", pa.float64()),
        ("face", pa.int64()),
        ("box", FLOATS),
        ("points", FLOATS),
        ("confidence", pa.float64()),
        ("realism", pa.float64()),
        ("valence", pa.float64()),
        ("arousal", pa.float64()),
        ("expressions", NAMED),
        ("pose", NAMED),
        ("units", pa.list_(pa.string())),
        ("probability", FLOATS),
        ("intensity", FLOATS),
        ("present", pa.list_(pa.bool_())),
        ("left", FLOATS),
        ("right", FLOATS),
        ("warnings", pa.list_(pa.string())),
        ("error", pa.string()),
        ("detail", pa.string()),
        ("identity", pa.list_(pa.float32())),
    ]
)
SAME = (
    "input",
    "frame",
    "time_seconds",
    "face",
    "confidence",
    "realism",
    "valence",
    "arousal",
    "error",
    "detail",
)


class JournalError(ValueError):
    """A journal that belongs to another run, or is there when none should be."""


@dataclass
class Journal:
    """The journal in a folder. `mark` is the run's progress, None before its first part."""

    folder: Path
    mark: Mark | None = None
    parts: int = 0
    _rows: list[dict[str, Any]] = field(default_factory=list)
    _next: Mark | None = None  # where it stands when what is held has been written
    _begun: float = field(default_factory=time.monotonic)
    _written: float = field(default_factory=time.monotonic)

    @staticmethod
    def begin(folder: Path, run: Mapping[str, Any]) -> "Journal":
        """Create a journal. Raises OSError."""
        folder.mkdir(parents=True)
        (folder / RUN_FILE).write_text(json.dumps(run, indent=1))
        return Journal(folder)

    @staticmethod
    def resume(folder: Path, run: Mapping[str, Any]) -> "Journal":
        """Open an earlier run's journal. Raises JournalError when its inputs or settings differ."""
        try:
            stored = json.loads((folder / RUN_FILE).read_text())
        except (OSError, json.JSONDecodeError) as error:
            raise JournalError(
                f"{folder} is no journal of a run: begin again with --overwrite"
            ) from error
        differing = sorted(name for name in stored | dict(run) if stored.get(name) != run.get(name))
        if differing:
            name = differing[0]
            raise JournalError(
                f"the run that was stopped had another {name} ({_short(stored.get(name))}, now "
                f"{_short(run.get(name))}): repeat its command, or begin again with --overwrite"
            )
        for unfinished in folder.glob("*.tmp"):
            unfinished.unlink()
        journal = Journal(folder, parts=len(list(folder.glob("part-*.arrow"))))
        if journal.parts:
            with ipc.open_file(journal._path(journal.parts - 1)) as part:
                journal.mark = mark_of(part.schema)
        return journal

    def replay(self) -> Iterator[list[LocalReading]]:
        """The entries of every picture so far, as they were added."""
        for number in range(self.parts):
            with ipc.open_file(self._path(number)) as part:
                for batch in range(part.num_record_batches):
                    yield from _pictures(part.get_batch(batch).to_pylist())

    def add(self, readings: Iterable[Sequence[LocalReading]], mark: Mark) -> None:
        """The entries of the pictures of a chunk. Raises OSError when they cannot be written."""
        self._rows += [_row(entry) for entries in readings for entry in entries]
        self._next = mark
        now = time.monotonic()
        longest = min(PART_SHARE * (now - self._begun), LONGEST_PART_SECONDS)
        if len(self._rows) >= PART_ROWS or now - self._written > longest:
            self.flush()

    def flush(self) -> None:
        """Write pending entries. Raises OSError."""
        if self._next is None:
            return
        metadata = {b"mark": json.dumps(self._next.__dict__).encode()}
        table = pa.Table.from_pylist(self._rows, schema=SCHEMA.with_metadata(metadata))
        path = self._path(self.parts)
        unfinished = path.with_suffix(".tmp")
        with unfinished.open("wb") as file:
            with ipc.new_file(
                file, table.schema, options=ipc.IpcWriteOptions(compression="zstd")
            ) as out:
                out.write_table(table)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        self.mark, self.parts = self._next, self.parts + 1
        self._rows, self._next, self._written = [], None, time.monotonic()

    def remove(self) -> None:
        """Delete the journal of a finished run."""
        shutil.rmtree(self.folder)

    def _path(self, number: int) -> Path:
        return self.folder / f"part-{number:08d}.arrow"


def mark_of(schema: pa.Schema) -> Mark:
    """Where a run stood when it had written this part."""
    return Mark(**json.loads(schema.metadata[b"mark"]))


def _row(entry: LocalReading) -> dict[str, Any]:
    units = list(entry.aus.values())
    row = {name: getattr(entry, name) for name in SAME}
    return row | {
        "box": entry.box,
        "points": None if entry.points is None else [x for point in entry.points for x in point],
        "expressions": list(entry.expressions.items()),
        "pose": list(entry.pose.items()),
        "units": list(entry.aus),
        **{name: [getattr(unit, name) for unit in units] for name in ActionUnit.__slots__},
        "warnings": list(entry.warnings),
        "identity": entry.identity,
    }


def _reading(row: dict[str, Any]) -> LocalReading:
    units = zip(*(row[name] for name in ActionUnit.__slots__), strict=True)
    points = row["points"]
    identity = row["identity"]
    return LocalReading(
        **{name: row[name] for name in SAME},
        box=row["box"] and tuple(row["box"]),
        points=points and tuple(zip(points[::2], points[1::2], strict=True)),
        expressions=dict(row["expressions"]),
        pose=dict(row["pose"]),
        aus={code: ActionUnit(*unit) for code, unit in zip(row["units"], units, strict=True)},
        warnings=tuple(row["warnings"]),
        identity=None if identity is None else np.array(identity, np.float32),
    )


def _pictures(rows: Iterable[dict[str, Any]]) -> Iterator[list[LocalReading]]:
    """Rows of one picture together: its faces are numbered from 0, an error stands alone."""
    entries = list[LocalReading]()
    for row in rows:
        if entries and row["face"] in (None, 0):
            yield entries
            entries = []
        entries.append(_reading(row))
    if entries:
        yield entries


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) < 60 else f"{text[:57]}..."
