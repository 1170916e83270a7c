"""Tables in text files of any encoding, separator and line end; a bad row fails alone."""

import codecs
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from training.database.card import DataError

DELIMITERS = ",;\t|"
SEPARATOR_LINE = "sep="  # first line by which spreadsheets say what separates
MARKS = {  # the longer ones first: UTF-32's begins as UTF-16's does
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
NO_TEXT = {b"PK\x03\x04": "a workbook or an archive", b"\x1f\x8b": "packed by gzip"}
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Row:
    """One row: its line or lines in the file, its fields, and what is wrong with it where it cannot
    be read.
    """

    lines: str
    fields: list[str]
    fault: str = ""


def rows_of(path: Path) -> Iterator[Row]:
    """The rows that are not blank, the header first."""
    delimiter = _delimiter(path)
    with path.open(encoding=encoding_of(path), errors="replace", newline="") as file:
        rows = csv.reader(file, delimiter=delimiter)
        while True:
            first = rows.line_num + 1
            try:
                fields = [text.strip() for text in next(rows)]
            except StopIteration:
                return
            except csv.Error as error:
                yield Row(_span(first, rows.line_num), [], str(error))
                continue
            if any(fields) and not (first == 1 and _says_separator(fields)):
                yield Row(_span(first, rows.line_num), fields)


def encoding_of(path: Path) -> str:
    """By its mark, its zeros or its bytes: UTF-8, UTF-16, UTF-32, or else Windows-1252, which reads
    Latin-1 too. Raises DataError for what is no text.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        start = file.read(CHUNK_BYTES)
        for mark, name in NO_TEXT.items():
            if start.startswith(mark):
                raise DataError(f"{path} is {name}, not a table in text; unpack or export it")
        for mark, name in MARKS.items():
            if start.startswith(mark):
                return name
        if b"\0" in start[:2]:  # the text begins with a letter of ASCII, without a mark
            return "utf-16-be" if start[0] == 0 else "utf-16-le"
        try:
            while start:
                decoder.decode(start)
                start = file.read(CHUNK_BYTES)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "cp1252"
    return "utf-8"


def _delimiter(path: Path) -> str:
    """What divides the header into most fields, unless the file says it."""
    with path.open(encoding=encoding_of(path), errors="replace") as file:
        header = next((line for line in file if line.strip()), "")
    if header.lower().startswith(SEPARATOR_LINE) and len(header.strip("\n")) == 5:
        return header[4]
    return max(DELIMITERS, key=lambda mark: len(next(csv.reader([header], delimiter=mark), [])))


def _says_separator(fields: list[str]) -> bool:
    return fields[0].lower() == SEPARATOR_LINE or fields[0].lower()[:-1] == SEPARATOR_LINE


def _span(first: int, last: int) -> str:
    return f"{first}" if last <= first else f"{first}-{last}"
