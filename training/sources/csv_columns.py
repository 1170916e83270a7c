"""What the columns of a CSV mean: our own names, and those of OpenFace and py-feat."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from affect.labels import DIMENSIONS
from training.database.card import DataError
from training.sources.record import code_of

IMAGE, FRAME, IDENTITY, VIDEO, SPLIT, BOX, PAIR, GROUP, FACE, SUCCESS = (
    "image",
    "frame",
    "identity",
    "video",
    "split",
    "box",
    "pair",
    "group_",
    "face",
    "success",
)
OWN = (IMAGE, *DIMENSIONS, IDENTITY, VIDEO, SPLIT, BOX, PAIR)
SIDES = ("box_x", "box_y", "box_width", "box_height")
SYNONYMS = {
    "input": IMAGE,  # py-feat, and `affectgan score`
    **{
        f"facerect{side}": name
        for side, name in zip(("x", "y", "width", "height"), SIDES, strict=True)
    },
    **{name: name for name in (*OWN, *SIDES, FRAME)},
}
OPENFACE_SYNONYMS = {"face_id": FACE, "face": FACE, "success": SUCCESS}
OPENFACE_AU = re.compile(r"au(\d+)_([rc])")
OPENFACE_LANDMARK = re.compile(r"[xy]_\d+")
OPENFACE_STRONGEST = 5.0  # intensity; `_c` is presence
LIKENESS = 0.8  # from which a name is taken for a misspelt one
SHOWN = 12  # names of columns in a remark


@dataclass(frozen=True)
class Column:
    """One column that is used: its place in a row, what it means, and the largest value of an
    AU.
    """

    place: int
    meaning: str  # of `OWN`, an AU code, `group_<name>`, or a landmark's coordinate
    largest: float | None = None


@dataclass(frozen=True)
class Columns:
    """Those of one file."""

    count: int
    used: tuple[Column, ...]
    skipped: tuple[str, ...]
    openface: bool

    @property
    def codes(self) -> set[str]:
        """The AUs that the file annotates."""
        return {column.meaning for column in self.used if code_of(column.meaning)}

    def remark(self) -> str:
        """The columns that are not used, those that differ in their number only once; "" when all
        are.
        """
        stills = any(column.meaning == FRAME for column in self.used) and not self.openface
        names = (*self.skipped, *(["frame (but of videos)"] if stills else []))
        families = dict.fromkeys(re.sub(r"\d+", "*", name) for name in names)
        omitted = len(families) - SHOWN
        return ", ".join(
            [*list(families)[:SHOWN], *([f"and {omitted} more"] if omitted > 0 else [])]
        )


def columns_of(header: list[str], path: object) -> Columns:
    """What a header means.

    Raises DataError when it names no picture, or one thing twice or nearly.
    """
    names = [name.strip().lower() for name in header]
    openface = any(OPENFACE_AU.fullmatch(name) for name in names) and not _has_picture(names)
    used = tuple(_openface_columns(names) if openface else _own_columns(names))
    used_places = {column.place for column in used}
    skipped = tuple(name for index, name in enumerate(names) if index not in used_places and name)
    meanings = [column.meaning for column in used]
    twice = next((name for name in meanings if meanings.count(name) > 1), None)
    misspelt = next(
        (
            (name, matches[0])
            for name in skipped
            if (matches := get_close_matches(name, set(OWN) - set(meanings), 1, LIKENESS))
        ),
        None,
    )
    fault = (
        f"has the column {misspelt[0]!r}: is {misspelt[1]!r} meant?"
        if misspelt
        else f"names {twice!r} twice"
        if twice
        else f"lacks {IMAGE!r}"
        if not openface and IMAGE not in meanings
        else ""
    )
    if fault:
        raise DataError(
            f"the header of {path} {fault}; it may have {', '.join(OWN)}, AU<number> and "
            f"{GROUP}<name>, each once"
        )
    return Columns(len(names), used, skipped, openface)


def _has_picture(names: list[str]) -> bool:
    return any(SYNONYMS.get(name) == IMAGE for name in names)


def _own_columns(names: list[str]) -> Iterator[Column]:
    for index, name in enumerate(names):
        if name.startswith("au") and (code := code_of(name)):
            yield Column(index, code)
        elif name in SYNONYMS:
            yield Column(index, SYNONYMS[name])
        elif name.startswith(GROUP) and name != GROUP:
            yield Column(index, name)


def _openface_columns(names: list[str]) -> Iterator[Column]:
    """Intensities, presence of those AUs that have no intensity, and what finds the picture and the
    face in it.
    """
    for index, name in enumerate(names):
        if match := OPENFACE_AU.fullmatch(name):
            number, kind = match.groups()
            code = code_of(number)
            if code and kind == "r":
                yield Column(index, code, OPENFACE_STRONGEST)
            elif code and f"au{number}_r" not in names:
                yield Column(index, code, 1.0)
        elif name in OPENFACE_SYNONYMS or name == FRAME or OPENFACE_LANDMARK.fullmatch(name):
            yield Column(index, OPENFACE_SYNONYMS.get(name, name))
