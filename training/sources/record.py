"""The items that a reader yields: records and refusals."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from affect.catalogue import CATALOGUE
from affect.labels import DIMENSIONS, LabelError, check
from training.database.card import DataError
from training.database.sample import TEST, TRAIN

# AU intensity in [0, 1], valence and arousal in [-1, 1]; None = the set says "not annotated"
Labels = dict[str, float | None]
Box = tuple[float, float, float, float]  # x, y, width, height in px
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".wmv", ".mpg", ".mpeg")
# Names that official splits go by. Their validation sets are what results are published on: they
# become our test split.
OFFICIAL = {"train": TRAIN, "training": TRAIN, "validation": TEST, "val": TEST, "test": TEST}


@dataclass(frozen=True, kw_only=True)
class Record:
    """One annotated picture of a set."""

    where: str  # "file:line" of the annotation
    picture: Path
    labels: Labels
    identity: str
    video: str = ""
    # what must not be divided between splits; the video or else the identity unless given
    unit: str = ""
    official: str = ""  # "train" or "test" by the set's own division
    frame: int | None = None  # 0-based, where `picture` is a video
    box: Box | None = None  # of the face in the picture
    annotated: bool = True  # a record of an annotated set needs at least one label
    groups: dict[str, str] = field(default_factory=dict)
    truth: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Refusal:
    """A line that cannot be used, and why."""

    where: str
    reason: str


Item = Record | Refusal


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of all formats."""

    pictures: Path | None = None  # where the pictures lie, when not where the layout has them
    threshold: int = 2  # DISFA: an intensity of so much (of 5) and more counts as present
    au_max: float = 1.0  # csv: the largest AU value of the file, 5 for intensities 0 to 5
    people: Path | None = None  # pictures: a CSV that says who is on which
    licence: str = ""  # pictures: under which they may be used


class Source(ABC):
    """An annotated set on disk."""

    name: ClassVar[str]  # of the format, as the command line spells it
    title: ClassVar[str]
    labelled: ClassVar[str]  # how its labels came about
    tight: ClassVar[bool] = False  # its pictures are cut close around the face

    def __init__(self, root: Path, options: Options | None = None) -> None:
        if not root.exists():
            raise DataError(
                f"{root} does not exist: give the folder of the {self.title} annotations"
            )
        self.root, self.options = root, options or Options()

    @abstractmethod
    def vocabulary(self) -> tuple[str, ...]:
        """The AUs that the set annotates, in FACS order.

        Raises DataError when the layout is not the format's.
        """

    @abstractmethod
    def items(self) -> Iterator[Item]:
        """Every line of the set, always in the same order: a record or a refusal."""

    @property
    def licence(self) -> str:
        """Under which its pictures may be used."""
        return "as agreed with the authors of the set; not for passing on"

    @property
    def positive_intensity(self) -> float:
        """From which intensity on an AU counts as present."""
        return 0.3

    def location_of(self, path: Path, line: int | None = None) -> str:
        """ "file:line" relative to the set."""
        inside = (
            path.relative_to(self.root)
            if path != self.root and path.is_relative_to(self.root)
            else path.name
        )
        return f"{inside}" if line is None else f"{inside}:{line}"

    def remarks(self) -> list[str]:
        """Remarks for the user beside the counts of read and refused lines."""
        return []

    def pictures(self, *usual: str) -> Path:
        """The folder of the pictures: the one given, else the first of the usual places that
        exists.
        """
        if self.options.pictures:
            if not self.options.pictures.is_dir():
                raise DataError(
                    f"--pictures is {self.options.pictures}, which is no folder: give "
                    f"where the pictures of {self.title} lie"
                )
            return self.options.pictures
        base = self.root if self.root.is_dir() else self.root.parent
        for name in usual:
            if (base / name).is_dir():
                return base / name
        raise DataError(
            f"{base} has no folder {' or '.join(usual)}: give where the pictures lie with "
            "--pictures"
        )


def numbers(fields: list[str]) -> list[float] | None:
    """All fields as numbers; None when one is none."""
    try:
        values = [float(text) for text in fields]
    except ValueError:
        return None
    return values if all(math.isfinite(value) for value in values) else None


class LineError(ValueError):
    """A line that cannot be used, and why."""


def visible(paths: Iterable[Path]) -> list[Path]:
    """In order, without names that begin with a dot: macOS puts a `._name` beside every file of an
    archive.
    """
    return sorted(path for path in paths if not path.name.startswith("."))


def number_of(text: str) -> float | None:
    """A number with a decimal point or comma; None when it is none."""
    commas = text.count(",")
    values = numbers([text.replace(",", ".") if commas == 1 and "." not in text else text])
    return values[0] if values else None


def frame_number(text: Mapping[str, str]) -> int:
    """The number of the frame in a row by column, 0 where it is not given. Raises LineError."""
    value = number_of(text.get("frame", "") or "0")
    if value is None or value < 0 or value != int(value):
        raise LineError(f"frame is {text['frame']!r}; give a whole number from 0 on")
    return int(value)


def occurrences(codes: tuple[str, ...], values: list[float], *, unknown: float) -> Labels:
    """AU labels of a row of 0 and 1.

    Raises LabelError for a value that is neither these nor `unknown`.
    """
    labels: Labels = {}
    for code, value in zip(codes, values, strict=True):
        if value not in (0, 1, unknown):
            raise LabelError(
                code, value, f"this format knows 0, 1 and {unknown:g} for not annotated"
            )
        labels[code] = None if value == unknown else value
    return labels


def circumplex(valence: float, arousal: float, *, unknown: float) -> Labels:
    """Valence and arousal, both masked when one is `unknown`. Raises LabelError outside [-1, 1]."""
    if unknown in (valence, arousal):
        return dict.fromkeys(DIMENSIONS)
    return {
        name: check(name, value) for name, value in zip(DIMENSIONS, (valence, arousal), strict=True)
    }


def code_of(text: str) -> str | None:
    """The catalogue's code of a column name such as "AU1", "AU01" or "'AU 1'"; None when it names
    no AU we know.
    """
    digits = text.strip().strip("'\"").upper().removeprefix("AU").strip(" _")
    code = f"AU{int(digits)}" if digits.isdecimal() else ""
    return code if code in CATALOGUE else None


def in_facs_order(codes: set[str]) -> tuple[str, ...]:
    """Codes by their FACS number."""
    return tuple(sorted(codes, key=lambda code: CATALOGUE[code].number))


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(1-based number, text) of each line that is not blank; a byte order mark and Windows line
    ends are no part of it.
    """
    with path.open(encoding="utf-8-sig", errors="replace", newline=None) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line.strip()


def picture_of(folder: Path, stem: str) -> Path:
    """`stem` with the suffix it has on disk, .jpg when there is no such picture."""
    for suffix in ("", *PICTURE_SUFFIXES):
        if (folder / f"{stem}{suffix}").is_file():
            return folder / f"{stem}{suffix}"
    return folder / f"{stem}.jpg"
