"""DISFA: `ActionUnit_Labels/SNxxx/SNxxx_au<k>.txt`, lines `frame,intensity`, frames from 1,
intensities 0 to 5, no header.

An intensity of 2 and more counts as present, as most papers have it; some use 1. Frames come from
folders of pictures, where frames numbered from 0 are noticed, or from the videos of the left
camera.
"""

from collections.abc import Iterator
from pathlib import Path

from training.database.card import DataError
from training.sources.frames import NumberingError, frames_of
from training.sources.record import (
    Item,
    Labels,
    Record,
    Refusal,
    Source,
    code_of,
    in_facs_order,
    numbers,
    text_lines,
    visible,
)

STRONGEST = 5
FOLDERS = ("Images", "images", "Frames", "Videos_LeftCamera", "Video_LeftCamera")


class Disfa(Source):
    """Twenty-seven people watching a video, with AU intensities a frame."""

    name, title = "disfa", "DISFA"
    labelled = "AU intensities 0 to 5 by a FACS coder"

    def vocabulary(self) -> tuple[str, ...]:
        return in_facs_order({code for files in self._files().values() for code in files})

    @property
    def positive_intensity(self) -> float:
        if not 1 <= self.options.threshold <= STRONGEST:
            raise DataError(f"threshold is {self.options.threshold}; choose 1 to {STRONGEST}")
        return self.options.threshold / STRONGEST

    def items(self) -> Iterator[Item]:
        pictures = self.pictures(*FOLDERS)
        for person, files in self._files().items():
            labels: dict[int, Labels] = {}
            for code, path in files.items():
                yield from self._read(code, path, labels)
            yield from self._records(person, labels, pictures, next(iter(files.values())).parent)

    def _files(self) -> dict[str, dict[str, Path]]:
        """Per person, the file of each AU."""
        base = (
            self.root / "ActionUnit_Labels"
            if (self.root / "ActionUnit_Labels").is_dir()
            else self.root
        )
        by_video: dict[str, dict[str, Path]] = {}
        for path in visible(base.glob("*/*_au*.txt")):
            if code := code_of(path.stem.rsplit("_au", 1)[1]):
                by_video.setdefault(path.parent.name, {})[code] = path
        if not by_video:
            raise DataError(f"{self.root} holds no ActionUnit_Labels/SNxxx/SNxxx_au<k>.txt")
        return by_video

    def _read(self, code: str, path: Path, labels: dict[int, Labels]) -> Iterator[Refusal]:
        for line, text in text_lines(path):
            values = numbers(text.split(","))
            if values is None or len(values) != 2 or values[1] not in range(STRONGEST + 1):
                yield Refusal(
                    self.location_of(path, line),
                    f"{text!r} is not a frame and an intensity from 0 to {STRONGEST}",
                )
            else:
                labels.setdefault(int(values[0]), {})[code] = values[1] / STRONGEST

    def _records(
        self, person: str, labels: dict[int, Labels], pictures: Path, folder: Path
    ) -> Iterator[Item]:
        """Pictures `<person>/<frame>.jpg`, or frames of the person's video, which are counted from
        0.
        """
        videos = visible(
            path for path in pictures.glob(f"*{person}*") if path.suffix.lower() in (".avi", ".mp4")
        )
        try:
            stills = frames_of(pictures / person, labels)
        except NumberingError as error:
            yield Refusal(self.location_of(folder), str(error))
            return
        first = 0 if 0 in labels else 1
        for frame, frame_labels in sorted(labels.items()):
            picture = stills.get(frame)
            yield Record(
                where=f"{self.location_of(folder)} frame {frame}",
                picture=picture
                or (videos[0] if videos else pictures / person / f"{frame:05d}.jpg"),
                frame=None if picture or not videos else frame - first,
                labels=frame_labels,
                identity=person,
            )
