"""The multi-task lists of the ABAW challenges: one line a picture,
`<video>/00001.jpg,valence,arousal,expression,AU x 12`.

The header has five names (`image,valence,arousal,expression,aus`) and every row sixteen fields.
Valence and arousal are known when both are above -5, an AU when it is not negative, the expression
above -1.
"""

from collections.abc import Iterator
from pathlib import Path

from affect.catalogue import LABEL_SETS
from affect.labels import LabelError
from training.database.card import DataError
from training.sources.affwild2 import (
    AU_UNKNOWN,
    SIDES,
    VA_UNKNOWN,
    crop_folders,
    emotion_name,
)
from training.sources.record import (
    OFFICIAL,
    Item,
    Record,
    Refusal,
    Source,
    circumplex,
    numbers,
    occurrences,
    text_lines,
    visible,
)

CODES = LABEL_SETS["affwild2"]
FIELDS = 4 + len(CODES)


class Abaw(Source):
    """Pictures of s-Aff-Wild2 with all three tasks."""

    name, title, tight = "abaw", "ABAW multi-task", True
    labelled = "AU occurrence and continuous valence and arousal by trained annotators of Aff-Wild2"

    def vocabulary(self) -> tuple[str, ...]:
        self._lists()
        return CODES

    def items(self) -> Iterator[Item]:
        folders = crop_folders(self, "images")
        for path, official in self._lists():
            for line, text in text_lines(path):
                if not text.startswith("image,"):
                    yield self._record(text, self.location_of(path, line), official, folders)

    def _lists(self) -> list[tuple[Path, str]]:
        files = [] if self.root.is_dir() else [self.root]
        for folder in (self.root, self.root / "MTL_Challenge", self.root / "annotations"):
            files += visible(path for path in folder.glob("*_set*.txt") if _part(path) in OFFICIAL)
        if not files:
            raise DataError(
                f"{self.root} holds no training_set_annotations.txt, "
                "validation_set_annotations.txt, train_set.txt or the like"
            )
        return [(path, OFFICIAL.get(_part(path), "")) for path in files]

    def _record(self, text: str, where: str, official: str, folders: list[Path]) -> Item:
        picture, *rest = text.split(",")
        values = numbers(rest)
        if values is None or len(values) != FIELDS - 1:
            return Refusal(
                where,
                f"a row has {FIELDS} fields: a picture and {FIELDS - 1} numbers; this one "
                f"has {len(rest) + 1}: {text[:80]!r}",
            )
        try:
            labels = circumplex(
                *(max(value, VA_UNKNOWN) for value in values[:2]), unknown=VA_UNKNOWN
            )
            labels |= occurrences(
                CODES, [max(value, AU_UNKNOWN) for value in values[3:]], unknown=AU_UNKNOWN
            )
            emotion = emotion_name(values[2])
        except LabelError as error:
            return Refusal(where, str(error))
        video = Path(picture).parent.name
        recording = next(
            (video.removesuffix(side) for side in SIDES if video.endswith(side)), video
        )
        truth = {"emotion": emotion} if emotion else {}
        return Record(
            where=where,
            picture=next(
                (path for f in folders if (path := f / picture).is_file()), folders[0] / picture
            ),
            labels=labels,
            identity=video,
            video=recording,
            official=official,
            truth=truth,
        )


def _part(path: Path) -> str:
    return path.stem.lower().split("_")[0]
