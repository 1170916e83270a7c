"""EmotioNet: a row a picture of the web, AU1 to AU60 as 0 or 1.

Tab-separated text without a header (URL, original URL, then sixty columns), or csv with quoted
names `URL`, `'AU 1'`, ... 999 is "not coded"; whatever is neither 0 nor 1 is unknown. Pictures are
looked up by the last part of their address.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from training.database.card import DataError
from training.sources.record import Item, Record, Refusal, Source, code_of, in_facs_order, visible

ADDRESS = "URL"
COLUMNS = (ADDRESS, "URL_orig", *(f"AU{number}" for number in range(1, 61)))
KNOWN = {"0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0}


class EmotioNet(Source):
    """Photographs from the web with AU occurrence."""

    name, title = "emotionet", "EmotioNet"
    labelled = "AU occurrence, by the algorithm of the set's authors or by their annotators"

    def vocabulary(self) -> tuple[str, ...]:
        present: set[str] = set()
        for path in self._lists():
            missing = {index: code for index, code in _columns(path).items() if code not in present}
            for _, fields in _rows(path):
                for index in [
                    index for index in missing if index < len(fields) and fields[index] in KNOWN
                ]:
                    present.add(missing.pop(index))
                if not missing:
                    break
        return in_facs_order(present)

    def items(self) -> Iterator[Item]:
        pictures = self.pictures("images", "pictures")
        coded = self.vocabulary()
        for path in self._lists():
            columns = {index: code for index, code in _columns(path).items() if code in coded}
            names = _names(path)
            for line, fields in _rows(path):
                yield _record(fields, self.location_of(path, line), names, columns, pictures)

    def _lists(self) -> list[Path]:
        lists = (
            [self.root]
            if self.root.is_file()
            else visible(p for p in self.root.iterdir() if p.suffix in (".txt", ".tsv", ".csv"))
        )
        if not lists:
            raise DataError(f"{self.root} holds no .txt, .tsv or .csv file of EmotioNet")
        return lists


def _record(
    fields: list[str], where: str, names: tuple[str, ...], columns: dict[int, str], pictures: Path
) -> Item:
    if len(fields) != len(names):
        return Refusal(where, f"the row has {len(fields)} fields, not {len(names)}")
    address = fields[names.index(ADDRESS)].strip("'\"")
    picture = unquote(urlsplit(address).path).rsplit("/", 1)[-1]
    if not picture:
        return Refusal(where, f"the address {address!r} names no picture")
    labels = {code: KNOWN.get(fields[index]) for index, code in columns.items()}
    return Record(where=where, picture=pictures / picture, labels=labels, identity=picture)


def _names(path: Path) -> tuple[str, ...]:
    """Column names: those of the header, or the sixty-two of the files without one."""
    first = next((fields for _, fields in _lines(path)), [])
    names = tuple(text.strip("'\"") for text in first)
    return names if names and names[0].upper() == ADDRESS else COLUMNS


def _columns(path: Path) -> dict[int, str]:
    """AU code by the place of its column."""
    return {index: code for index, name in enumerate(_names(path)) if (code := code_of(name))}


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, fields) of every line that is not the header."""
    for line, fields in _lines(path):
        if line > 1 or fields[0].strip("'\"").upper() != ADDRESS:
            yield line, fields


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        first = file.readline()
        file.seek(0)
        reader = csv.reader(file, delimiter="\t" if "\t" in first else ",", skipinitialspace=True)
        yield from (
            (reader.line_num, [text.strip() for text in fields]) for fields in reader if fields
        )
