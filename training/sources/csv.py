"""A plain CSV, for sets without a format of their own, and what OpenFace and py-feat write.

One header line, then one line a picture; comma, semicolon, tab or `|`; decimal points or commas.
Columns, in any order and any subset; others are named and skipped:

    image          path of the picture, from the CSV's folder (or --pictures); `input` means the
    same
    AU1, AU12 ...  intensity from 0 to 1, or presence 0/1; with --au-max 5 from 0 to 5
    valence, arousal   -1 to 1
    identity, video    who it shows, and in which recording: neither is ever divided between splits
    split          train, validation or test, followed with --splits official
    box            face in px of the picture as `x y width height`, or a column for each (`box_x`,
    `FaceRectX` ...)
    frame          of a picture that is a video, from 0
    pair           faces of one name are one person in different states, e.g. neutral and smiling:
    `affectgan evaluate`
                   says how often the stronger one is read as the stronger
    group_<name>   an attribute that results are broken down by, e.g. group_sex

An empty field, `nan`, `na`, `null`, `-` are "not annotated"; so are AU -1 and valence or arousal -5
and -2. Of lines that say the same of one face the first is kept; lines that contradict each other
are all refused.

OpenFace names no picture: `clip.csv` belongs to the video `clip.*` or to the frames in `clip/`
beside it (or in --pictures, which may be the video itself), counted from 1; with a column `face`
and no `frame`, to the picture `clip.*`.
"""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath

from affect.labels import DIMENSIONS, LabelError, check
from training.database.card import DataError
from training.database.sample import SPLITS
from training.sources.csv_columns import (
    BOX,
    GROUP,
    IDENTITY,
    IMAGE,
    PAIR,
    SIDES,
    SPLIT,
    VIDEO,
    Column,
    Columns,
    columns_of,
)
from training.sources.duplicates import duplicates
from training.sources.frames import NumberingError
from training.sources.openface import Frames, openface_record
from training.sources.record import (
    VIDEO_SUFFIXES,
    Box,
    Item,
    LineError,
    Record,
    Refusal,
    Source,
    code_of,
    frame_number,
    in_facs_order,
    number_of,
    visible,
)
from training.sources.text_tables import Row, rows_of

UNKNOWN = ("", "nan", "na", "null", "-")
AU_UNKNOWN, VA_UNKNOWN = (-1.0,), (-5.0, -2.0)


class PlainCsv(Source):
    """One CSV file, or every CSV file of a folder."""

    name, title = "csv", "CSV"
    labelled = "see the source of the file"

    @property
    def licence(self) -> str:
        return "as agreed with the authors of the pictures"

    def vocabulary(self) -> tuple[str, ...]:
        return in_facs_order({code for _, columns in self._files for code in columns.codes})

    def items(self) -> Iterator[Item]:
        for item in self._lines():
            reason = self._duplicates.get(item.where)
            yield Refusal(item.where, reason) if reason else item

    def remarks(self) -> list[str]:
        return [
            f"columns of {self.location_of(path)} not used: {columns.remark()}"
            for path, columns in self._files
            if columns.remark()
        ]

    @cached_property
    def _files(self) -> list[tuple[Path, Columns]]:
        """The files, each with what its columns mean. Raises DataError."""
        paths = [self.root] if self.root.is_file() else visible(self.root.glob("*.csv"))
        if not paths:
            raise DataError(f"{self.root} holds no .csv file")
        empty = Row("1", [])
        return [(path, columns_of(next(rows_of(path), empty).fields, path)) for path in paths]

    @cached_property
    def _duplicates(self) -> dict[str, str]:
        return duplicates(lambda: (i for i in self._lines() if isinstance(i, Record)))

    def _lines(self) -> Iterator[Item]:
        for path, columns in self._files:
            rows = rows_of(path)
            next(rows, None)  # the header
            frames = Frames(path, self.options.pictures or path.parent)
            for row in rows:
                where = f"{self.location_of(path)}:{row.lines}"
                try:
                    yield self._record(path, where, columns, row, frames)
                except (LabelError, LineError, NumberingError) as error:
                    yield Refusal(where, str(error))

    def _record(self, path: Path, where: str, columns: Columns, row: Row, frames: Frames) -> Record:
        """Raises LabelError and LineError."""
        fields = _fields(row, columns)
        text = {column.meaning: fields[column.place] for column in columns.used}
        labels = {
            column.meaning: self._label(column, fields[column.place])
            for column in columns.used
            if column.meaning in DIMENSIONS or code_of(column.meaning)
        }
        if columns.openface:
            return openface_record(where, path, text, labels, frames)
        if not text[IMAGE] or text.get(SPLIT, "") not in ("", *SPLITS):
            raise LineError(f"image or split is wrong: {text[IMAGE]!r}, {text.get(SPLIT, '')!r}")
        picture = _picture(self.options.pictures or path.parent, text[IMAGE])
        name = str(PurePosixPath(text[IMAGE].replace("\\", "/")))
        return Record(
            where=where,
            picture=picture,
            frame=frame_number(text) if picture.suffix.lower() in VIDEO_SUFFIXES else None,
            labels=labels,
            identity=text.get(IDENTITY) or text.get(PAIR) or text.get(VIDEO) or name,
            video=text.get(VIDEO, ""),
            unit=text.get(IDENTITY) or text.get(PAIR) or text.get(VIDEO, ""),
            official=text.get(SPLIT, ""),
            box=_box(text),
            groups={
                name.removeprefix(GROUP): value
                for name, value in text.items()
                if name.startswith(GROUP) and value
            },
            truth={PAIR: text[PAIR]} if text.get(PAIR) else {},
        )

    def _label(self, column: Column, text: str) -> float | None:
        name = column.meaning
        if text.lower() in UNKNOWN:
            return None
        value = number_of(text)
        if value is None:
            raise LabelError(name, text, "give a number, or nothing when it is not annotated")
        if value in (VA_UNKNOWN if name in DIMENSIONS else AU_UNKNOWN):
            return None
        if name in DIMENSIONS:
            return check(name, value)
        largest = column.largest or self.options.au_max
        if not 0 <= value <= largest:
            remedy = f"give a number from 0 to {largest:g}"
            hint = "" if column.largest else ", or say with --au-max what the largest value is"
            raise LabelError(name, text, remedy + hint)
        return value / largest


def _fields(row: Row, columns: Columns) -> list[str]:
    """The fields of a row, without the empty ones behind the last column. Raises LineError."""
    if row.fault:
        raise LineError(row.fault)
    fields = row.fields
    while len(fields) > columns.count and not fields[-1]:
        fields = fields[:-1]
    if len(fields) != columns.count:
        hint = ": is a quotation mark open?" if "-" in row.lines else ""
        raise LineError(f"the line has {len(fields)} fields, the header {columns.count}{hint}")
    return fields


def _picture(base: Path, name: str) -> Path:
    """The picture of that name, which may be written as Windows does."""
    return base / name if (base / name).is_file() else base / name.replace("\\", "/")


def _box(text: dict[str, str]) -> Box | None:
    parts = [text[side] for side in SIDES if text.get(side)] or text.get(BOX, "").split()
    if not parts or all(part.lower() in UNKNOWN for part in parts):
        return None
    values = [number_of(part) for part in parts]
    if len(values) != 4 or None in values:
        raise LineError(f"box is {' '.join(parts)!r}; give x, y, width and height in px")
    x, y, width, height = (value for value in values if value is not None)
    return (x, y, width, height)
