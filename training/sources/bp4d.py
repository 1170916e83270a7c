"""BP4D: `AUCoding/AU_OCC/<F001>_<T1>.csv`, a header of AU numbers behind a column `0` for the
frame; 0, 1, and 9 for unknown.
"""

from collections.abc import Iterator
from pathlib import Path

from affect.labels import LabelError
from training.database.card import DataError
from training.sources.frames import numbered
from training.sources.record import (
    Item,
    Record,
    Refusal,
    Source,
    code_of,
    in_facs_order,
    numbers,
    occurrences,
    text_lines,
    visible,
)

UNKNOWN = 9
SEXES = {"F": "female", "M": "male"}


class Bp4d(Source):
    """Forty-one people in eight tasks each, with AU occurrence a frame."""

    name, title = "bp4d", "BP4D"
    labelled = "AU occurrence by FACS coders"

    def vocabulary(self) -> tuple[str, ...]:
        return in_facs_order({code for path in self._files() for code in _columns(path).values()})

    def items(self) -> Iterator[Item]:
        pictures = self.pictures("2D+3D", "Sequences", "images", "Images")
        for path in self._files():
            columns = _columns(path)
            for line, text in text_lines(path):
                if line > 1:
                    yield self._record(path, line, text, columns, pictures)

    def _files(self) -> list[Path]:
        for folder in (self.root / "AUCoding" / "AU_OCC", self.root / "AU_OCC", self.root):
            if files := visible(path for path in folder.glob("*_*.csv")):
                return files
        raise DataError(f"{self.root} holds no AUCoding/AU_OCC/<person>_<task>.csv")

    def _record(
        self, path: Path, line: int, text: str, columns: dict[int, str], pictures: Path
    ) -> Item:
        values = numbers(text.split(","))
        if values is None or len(values) <= max(columns, default=0):
            return Refusal(self.location_of(path, line), f"{text[:60]!r} does not fit the header")
        try:
            labels = occurrences(
                tuple(columns.values()), [values[column] for column in columns], unknown=UNKNOWN
            )
        except LabelError as error:
            return Refusal(self.location_of(path, line), str(error))
        person, task = path.stem.split("_")[:2]
        folder, frame = pictures / person / task, int(values[0])
        return Record(
            where=self.location_of(path, line),
            picture=numbered(folder).get(frame, folder / f"{frame:04d}.jpg"),
            labels=labels,
            identity=person,
            video=path.stem,
            unit=person,
            groups={"sex": SEXES[person[0]]} if person[0] in SEXES else {},
        )


def _columns(path: Path) -> dict[int, str]:
    """AU code of each column but the first."""
    header = next((text for _, text in text_lines(path)), "").split(",")
    return {index: code for index, name in enumerate(header) if index and (code := code_of(name))}
