"""FaceMotion, the set of the seed paper: `final_images/<video>/*.jpg` and
`final_annotations/*_*_<video>.txt`.

A line is `<name> : <valence> <arousal> [<8 AUs>]`. Pictures are found by their name, never by their
place in a list.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from affect.catalogue import LABEL_SETS
from affect.labels import LabelError
from training.database.card import DataError
from training.sources.record import (
    Item,
    Record,
    Refusal,
    Source,
    circumplex,
    numbers,
    occurrences,
    picture_of,
    text_lines,
)

CODES = LABEL_SETS["seed"]
LINE = re.compile(
    r"^(?P<name>.+?)\s*:\s*(?P<valence>\S+)[\s,]+(?P<arousal>[^\s\[]+)\s*\[(?P<aus>[^\]]*)\]$"
)
AU_UNKNOWN, VA_UNKNOWN = -1, -5


class FaceMotion(Source):
    """Videos with valence, arousal and eight AUs a frame."""

    name, title = "facemotion", "FaceMotion"
    labelled = "valence, arousal and AU occurrence a frame"

    def vocabulary(self) -> tuple[str, ...]:
        self._files()
        return CODES

    def items(self) -> Iterator[Item]:
        pictures = self.pictures("final_images")
        for path in self._files():
            video = path.stem.split("_", 2)[-1]
            for line, text in text_lines(path):
                yield _record(text, self.location_of(path, line), pictures / video, video)

    def _files(self) -> list[Path]:
        files = sorted((self.root / "final_annotations").glob("*_*_*.txt"))
        if not files:
            raise DataError(f"{self.root} holds no final_annotations/*_*_<video>.txt")
        return files


def _record(text: str, where: str, folder: Path, video: str) -> Item:
    match = LINE.match(text)
    values = (
        numbers([match["valence"], match["arousal"], *re.split(r"[\s,]+", match["aus"].strip())])
        if match
        else None
    )
    if match is None or values is None or len(values) != 2 + len(CODES):
        return Refusal(
            where, f"{text[:80]!r} is not '<name> : <valence> <arousal> [<{len(CODES)} AUs>]'"
        )
    try:
        labels = circumplex(values[0], values[1], unknown=VA_UNKNOWN) | occurrences(
            CODES, values[2:], unknown=AU_UNKNOWN
        )
    except LabelError as error:
        return Refusal(where, str(error))
    return Record(
        where=where,
        picture=picture_of(folder, match["name"]),
        labels=labels,
        identity=video,
        video=video,
    )
