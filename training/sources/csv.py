"""A plain CSV, for sets without a format of their own.

One header line, then one line a picture; comma, semicolon or tab. Columns, in any order and any subset:

    image          path of the picture, from the CSV's folder (or --pictures); required
    AU1, AU12 ...  intensity from 0 to 1, or presence 0/1; with --au-max 5 from 0 to 5
    valence, arousal   -1 to 1
    identity, video    who it shows, and in which recording: neither is ever divided between splits
    split          train, validation or test, followed with --splits official
    box            face in px of the picture as `x y width height`
    pair           faces of one name are one person in different states, e.g. neutral and smiling: `affectgan evaluate`
                   says how often the stronger one is read as the stronger
    group_<name>   an attribute that results are broken down by, e.g. group_sex

An empty field, `nan`, `na`, `null`, `-` are "not annotated"; so are AU -1 and valence or arousal -5 and -2.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

from affect.labels import DIMENSIONS, LabelError, check
from training.database.card import DataError
from training.database.sample import SPLITS
from training.sources.record import Item, Record, Refusal, Source, code_of, in_facs_order, numbers

IMAGE, IDENTITY, VIDEO, SPLIT, BOX, PAIR, GROUP = (
    "image",
    "identity",
    "video",
    "split",
    "box",
    "pair",
    "group_",
)
OTHERS = (IMAGE, *DIMENSIONS, IDENTITY, VIDEO, SPLIT, BOX, PAIR)
UNKNOWN = ("", "nan", "na", "null", "-")
AU_UNKNOWN, VA_UNKNOWN = (-1.0,), (-5.0, -2.0)
DELIMITERS = ",;\t"


class PlainCsv(Source):
    """One CSV file, or every CSV file of a folder."""

    name, title = "csv", "CSV"
    labelled = "see the source of the file"

    @property
    def licence(self) -> str:
        return "as agreed with the authors of the pictures"

    def vocabulary(self) -> tuple[str, ...]:
        return in_facs_order(
            {
                code
                for path in self._files()
                for name in self._header(path)
                if (code := code_of(name))
            }
        )

    def items(self) -> Iterator[Item]:
        for path in self._files():
            header = self._header(path)
            with path.open(encoding="utf-8-sig", newline="") as file:
                rows = csv.reader(file, delimiter=_delimiter(file.readline()))
                for fields in rows:
                    if any(text.strip() for text in fields):
                        yield self._record(
                            path,
                            self.shown(path, rows.line_num + 1),
                            header,
                            [text.strip() for text in fields],
                        )

    def _files(self) -> list[Path]:
        found = [self.root] if self.root.is_file() else sorted(self.root.glob("*.csv"))
        if not found:
            raise DataError(f"{self.root} holds no .csv file")
        return found

    def _header(self, path: Path) -> list[str]:
        """Column names, AU codes as the catalogue spells them. Raises DataError for a column that means nothing here."""
        with path.open(encoding="utf-8-sig", newline="") as file:
            line = file.readline()
        names = [
            name.strip().lower()
            for name in next(csv.reader([line], delimiter=_delimiter(line)), [])
        ]
        header = [code_of(name) or name for name in names]
        strange = [
            name
            for name in header
            if name not in OTHERS and not name.startswith(GROUP) and not code_of(name)
        ]
        if IMAGE not in header or strange or len(set(header)) != len(header):
            fault = (
                f"has the column {strange[0]!r}"
                if strange
                else f"lacks {IMAGE!r}"
                if IMAGE not in header
                else "names a column twice"
            )
            raise DataError(
                f"the header of {path} {fault}; it may have {', '.join(OTHERS)}, AU<number> and {GROUP}<name>, each once"
            )
        return header

    def _record(self, path: Path, where: str, header: list[str], fields: list[str]) -> Item:
        if len(fields) != len(header):
            return Refusal(where, f"the line has {len(fields)} fields, the header {len(header)}")
        row = dict(zip(header, fields, strict=True))
        try:
            labels = {
                name: self._label(name, text)
                for name, text in row.items()
                if name in DIMENSIONS or code_of(name)
            }
        except LabelError as error:
            return Refusal(where, str(error))
        box = numbers(row.get(BOX, "").split())
        if (
            not row[IMAGE]
            or (row.get(BOX) and (box is None or len(box) != 4))
            or row.get(SPLIT, "") not in ("", *SPLITS)
        ):
            return Refusal(
                where,
                f"image, box or split is wrong: {row[IMAGE]!r}, {row.get(BOX, '')!r}, {row.get(SPLIT, '')!r}",
            )
        return Record(
            where=where,
            picture=(self.options.pictures or path.parent) / row[IMAGE],
            labels=labels,
            identity=row.get(IDENTITY) or row.get(PAIR) or row.get(VIDEO) or row[IMAGE],
            video=row.get(VIDEO, ""),
            unit=row.get(IDENTITY) or row.get(PAIR) or row.get(VIDEO, ""),
            official=row.get(SPLIT, ""),
            box=(box[0], box[1], box[2], box[3]) if box and len(box) == 4 else None,
            groups={
                name.removeprefix(GROUP): text
                for name, text in row.items()
                if name.startswith(GROUP) and text
            },
            truth={PAIR: row[PAIR]} if row.get(PAIR) else {},
        )

    def _label(self, name: str, text: str) -> float | None:
        if text.lower() in UNKNOWN:
            return None
        value = numbers([text])
        if value is None:
            raise LabelError(name, text, "give a number, or nothing when it is not annotated")
        if value[0] in (VA_UNKNOWN if name in DIMENSIONS else AU_UNKNOWN):
            return None
        return check(name, value[0] if name in DIMENSIONS else value[0] / self.options.au_max)


def _delimiter(line: str) -> str:
    return max(DELIMITERS, key=line.count)
