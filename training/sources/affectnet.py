"""AffectNet: the lists of 2017 (whole photographs with a face box) and the folders of 2021
(cropped, one .npy a label).

As delivered, the lists of 2017 lie in `Manually_Annotated_file_lists/` and
`Automatically_annotated_file_list/`, the photographs in
`Manually_Annotated/Manually_Annotated_Images/` and
`Automatically_Annotated/Automatically_Annotated_Images/`; lists beside the photographs are read as
well. Valence and arousal of -2 are not annotated; expressions 8 to 10 are "none", "uncertain" and
"no face". It annotates no AUs. In the release of 2021 the same number names different pictures in
the two folders.
"""

import csv
import filecmp
import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from affect.labels import LabelError
from training.database.card import DataError
from training.sources.record import (
    OFFICIAL,
    Item,
    Labels,
    Record,
    Refusal,
    Source,
    circumplex,
    numbers,
    picture_of,
)

VA_UNKNOWN = -2
EMOTIONS = (
    "neutral",
    "happiness",
    "sadness",
    "surprise",
    "fear",
    "disgust",
    "anger",
    "contempt",
    "",
    "",
    "",
)
NO_FACE = 10
COLUMNS = [
    "subdirectory_filepath",
    "face_x",
    "face_y",
    "face_width",
    "face_height",
    "facial_landmarks",
    "expression",
    "valence",
    "arousal",
]
LISTS = {  # by whom they are annotated: the folders of their photographs are named after it
    "training.csv": "Manually_Annotated",
    "validation.csv": "Manually_Annotated",
    "automatically_annotated.csv": "Automatically_Annotated",
}
FOLDERS = ("train_set", "val_set")
LOOKS = 100  # rows of a list whose pictures are looked for, to tell the folder that holds them


class AffectNet(Source):
    """Photographs from the web with valence and arousal."""

    name, title = "affectnet", "AffectNet"
    labelled = "valence, arousal and expression by one annotator a picture"

    def vocabulary(self) -> tuple[str, ...]:
        self._parts()
        return ()

    def items(self) -> Iterator[Item]:
        for part in self._parts():
            yield from self._csv(part) if part.is_file() else self._folder(part)

    def _parts(self) -> list[Path]:
        if self.root.suffix == ".csv" or self.root.name in FOLDERS:
            return [self.root]
        lists = [path for name in LISTS if (path := self._list(name))]
        folders = [self.root / name for name in FOLDERS if (self.root / name).is_dir()]
        if not lists and not folders:
            raise DataError(
                f"{self.root} holds neither {', '.join(LISTS)} nor the folders "
                f"{' and '.join(FOLDERS)} of AffectNet"
            )
        return [*lists, *folders]

    def _list(self, name: str) -> Path | None:
        """The list of that name, in the folder itself or in one below; copies of it are read
        once.
        """
        lists = [
            path
            for pattern in (".", "*", "*/*")
            for path in sorted(self.root.glob(f"{pattern}/{name}"))
        ]
        for other in lists[1:]:
            if not filecmp.cmp(lists[0], other, shallow=False):
                raise DataError(
                    f"{self.location_of(lists[0])} and {self.location_of(other)} of {self.root} "
                    "differ: give the one to import as PATH"
                )
        return lists[0] if lists else None

    def _csv(self, path: Path) -> Iterator[Item]:
        rows = list(itertools.islice(_rows(path), LOOKS))
        pictures = self._photographs(
            path, [row.get("subdirectory_filepath", "") for _, row in rows]
        )
        for line, row in _rows(path):
            yield self._photograph(row, self.location_of(path, line), path, pictures)

    def _photographs(self, path: Path, names: list[str]) -> Path:
        """The folder of a list's photographs: of the usual ones, the first that holds one of
        them.
        """
        if self.options.pictures:
            self.pictures()  # raises DataError when it is no folder
        kind = LISTS.get(path.name, LISTS["training.csv"])
        bases = (
            [self.options.pictures]
            if self.options.pictures
            else [self.root, path.parent, path.parent.parent]
        )
        usual = (f"{kind}/{kind}_Images", f"{kind}_Images", kind, "images", ".")
        places = [base / name for base in bases for name in usual if (base / name).is_dir()]
        for folder in places:
            if any((folder / _posix(name)).is_file() for name in names if name):
                return folder
        if not places:
            raise DataError(
                f"{self.root} has no folder {' or '.join(usual[:-1])}: give where the "
                "pictures lie with --pictures"
            )
        return places[0]

    def _photograph(self, row: dict[str, str], where: str, path: Path, pictures: Path) -> Item:
        try:
            name = row["subdirectory_filepath"]
            values = numbers([row[key] for key in ("expression", "valence", "arousal")])
            box = numbers([row[key] for key in COLUMNS[1:5]])
        except KeyError as error:
            return Refusal(where, f"column {error} is missing; a row has {', '.join(COLUMNS)}")
        if values is None:
            return Refusal(where, "expression, valence and arousal must be numbers")
        record = Record(
            where=where,
            picture=pictures / _posix(name),
            labels={},
            identity=name,
            official=OFFICIAL.get(path.stem, OFFICIAL["train"]),
            box=(box[0], box[1], box[2], box[3]) if box and box[2] > 0 else None,
        )
        return _labelled(record, *values)

    def _folder(self, folder: Path) -> Iterator[Item]:
        annotations = folder / "annotations"
        if not annotations.is_dir():
            raise DataError(
                f"{folder} has no folder annotations: unpack the whole of AffectNet there"
            )
        numbers_of = {path.stem.rsplit("_", 1)[0] for path in annotations.glob("*_*.npy")}
        for number in sorted(numbers_of, key=lambda text: (len(text), text)):
            where = self.location_of(annotations / f"{number}_val.npy")
            try:
                values = [
                    _scalar(annotations / f"{number}_{kind}.npy") for kind in ("exp", "val", "aro")
                ]
            except (OSError, ValueError) as error:
                yield Refusal(where, str(error))
                continue
            picture = picture_of(folder / "images", number)
            official = OFFICIAL[folder.name.removesuffix("_set")]
            record = Record(
                where=where,
                picture=picture,
                labels={},
                identity=f"{folder.name}/{number}",
                official=official,
            )
            yield _labelled(record, *values)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, fields by column) of a list, which may have a header."""
    names = COLUMNS
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file)
        for fields in rows:
            lowered = [name.strip().lower() for name in fields]
            if rows.line_num == 1 and "valence" in lowered:
                names = lowered
            elif fields:
                yield rows.line_num, dict(zip(names, fields, strict=False))


def _posix(name: str) -> str:
    return name.replace("\\", "/")


def _labelled(record: Record, expression: float, valence: float, arousal: float) -> Item:
    """The record with its labels, or why it has none."""
    if expression == NO_FACE:
        return Refusal(record.where, "the annotator saw no face (expression 10)")
    if expression not in range(len(EMOTIONS)):
        reason = f"expression is {expression:g}; expressions are numbered 0 to {NO_FACE}"
        return Refusal(record.where, reason)
    try:
        labels: Labels = circumplex(valence, arousal, unknown=VA_UNKNOWN)
    except LabelError as error:
        return Refusal(record.where, str(error))
    emotion = EMOTIONS[int(expression)]
    return replace(record, labels=labels, truth={"emotion": emotion} if emotion else {})


def _scalar(path: Path) -> float:
    """A number that may be stored as text. Raises OSError or ValueError with the file's name."""
    if not path.is_file():
        raise FileNotFoundError(f"{path.name} is missing")
    try:
        return float(np.load(path, allow_pickle=False).item())
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path.name} holds no number: {error}") from error
