"""AffectNet: the csv files of 2017 (whole photographs with a face box) and the folders of 2021 (cropped, one .npy a label).

Valence and arousal of -2 are not annotated; expressions 8 to 10 are "none", "uncertain" and "no face". It annotates no AUs.
In the release of 2021 the same number names different pictures in the two folders.
"""

import csv
from collections.abc import Iterator
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
LISTS = ("training.csv", "validation.csv", "automatically_annotated.csv")
FOLDERS = ("train_set", "val_set")
PICTURES = (
    "Manually_Annotated_Images",
    "Manually_Annotated/Manually_Annotated_Images",
    "Manually_Annotated",
    "images",
    ".",
)


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
        found = [
            path for path in (self.root / name for name in (*LISTS, *FOLDERS)) if path.exists()
        ]
        found = found or (
            [self.root] if self.root.suffix == ".csv" or self.root.name in FOLDERS else []
        )
        if not found:
            raise DataError(
                f"{self.root} holds neither {', '.join(LISTS)} nor the folders {' and '.join(FOLDERS)} of AffectNet"
            )
        return found

    def _csv(self, path: Path) -> Iterator[Item]:
        pictures = self.pictures(*PICTURES)
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file)
            names = COLUMNS
            for fields in rows:
                if rows.line_num == 1 and "valence" in (
                    lowered := [name.strip().lower() for name in fields]
                ):
                    names = lowered
                elif fields:
                    yield self._photograph(
                        dict(zip(names, fields, strict=False)),
                        self.shown(path, rows.line_num),
                        path,
                        pictures,
                    )

    def _photograph(self, row: dict[str, str], where: str, path: Path, pictures: Path) -> Item:
        try:
            name = row["subdirectory_filepath"]
            values = numbers([row[key] for key in ("expression", "valence", "arousal")])
            box = numbers([row[key] for key in COLUMNS[1:5]])
        except KeyError as error:
            return Refusal(where, f"column {error} is missing; a row has {', '.join(COLUMNS)}")
        if values is None:
            return Refusal(where, "expression, valence and arousal must be numbers")
        return _record(
            where,
            pictures / name.replace("\\", "/"),
            values,
            identity=name,
            official=OFFICIAL.get(path.stem, OFFICIAL["train"]),
            box=(box[0], box[1], box[2], box[3]) if box and box[2] > 0 else None,
        )

    def _folder(self, folder: Path) -> Iterator[Item]:
        annotations = folder / "annotations"
        if not annotations.is_dir():
            raise DataError(
                f"{folder} has no folder annotations: unpack the whole of AffectNet there"
            )
        numbers_of = {path.stem.rsplit("_", 1)[0] for path in annotations.glob("*_*.npy")}
        for number in sorted(numbers_of, key=lambda text: (len(text), text)):
            where = self.shown(annotations / f"{number}_val.npy")
            try:
                values = [
                    _scalar(annotations / f"{number}_{kind}.npy") for kind in ("exp", "val", "aro")
                ]
            except (OSError, ValueError) as error:
                yield Refusal(where, str(error))
                continue
            picture = picture_of(folder / "images", number)
            official = OFFICIAL[folder.name.removesuffix("_set")]
            yield _record(
                where,
                picture,
                values,
                identity=f"{folder.name}/{number}",
                official=official,
                box=None,
            )


def _record(
    where: str,
    picture: Path,
    values: list[float],
    *,
    identity: str,
    official: str,
    box: tuple[float, float, float, float] | None,
) -> Item:
    expression, valence, arousal = values
    if expression == NO_FACE:
        return Refusal(where, "the annotator saw no face (expression 10)")
    if expression not in range(len(EMOTIONS)):
        return Refusal(
            where, f"expression is {expression:g}; expressions are numbered 0 to {NO_FACE}"
        )
    try:
        labels: Labels = circumplex(valence, arousal, unknown=VA_UNKNOWN)
    except LabelError as error:
        return Refusal(where, str(error))
    emotion = EMOTIONS[int(expression)]
    return Record(
        where=where,
        picture=picture,
        labels=labels,
        identity=identity,
        official=official,
        box=box,
        truth={"emotion": emotion} if emotion else {},
    )


def _scalar(path: Path) -> float:
    """A number that may be stored as text. Raises OSError or ValueError with the file's name."""
    if not path.is_file():
        raise FileNotFoundError(f"{path.name} is missing")
    try:
        return float(np.load(path, allow_pickle=False).item())
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path.name} holds no number: {error}") from error
