"""Files of OpenFace: lines that name a frame or a face, and no picture."""

from functools import cached_property
from pathlib import Path

from training.sources.csv_columns import FACE, FRAME, SUCCESS
from training.sources.frames import frames_of
from training.sources.record import (
    PICTURE_SUFFIXES,
    VIDEO_SUFFIXES,
    Box,
    Labels,
    LineError,
    Record,
    frame_number,
    number_of,
)
from training.sources.text_tables import Row, rows_of


class Frames:
    """Where the pictures of a file of OpenFace are, by frame from 1."""

    def __init__(self, path: Path, base: Path) -> None:
        self.path, stem = path, path.stem
        self.missing = base if base.suffix.lower() in VIDEO_SUFFIXES else base / f"{stem}.mp4"
        videos = [base] if base.is_file() else [base / f"{stem}{end}" for end in VIDEO_SUFFIXES]
        self.still = next(
            (
                base / f"{stem}{end}"
                for end in PICTURE_SUFFIXES
                if (base / f"{stem}{end}").is_file()
            ),
            base / f"{stem}.jpg",
        )
        self.video = next((video for video in videos if video.is_file()), None)
        self.folder = base / stem if (base / stem).is_dir() else base

    def place(self, frame: int) -> tuple[Path, int | None]:
        """The picture of a frame, and its number from 0 where that is a video.

        Raises NumberingError.
        """
        if self.video is not None:
            return self.video, frame - 1
        by_number = frames_of(self.folder, range(1, self.last + 1))
        if picture := by_number.get(frame) or self._in_order.get(frame):
            return picture, None
        return self.missing, frame - 1

    @cached_property
    def last(self) -> int:
        """The largest number of a frame."""
        rows = rows_of(self.path)
        column = [name.lower() for name in next(rows).fields].index(FRAME)
        return max((int(row.fields[column]) for row in rows if _has_whole(row, column)), default=0)

    @cached_property
    def _in_order(self) -> dict[int, Path]:
        """OpenFace counts the pictures of a folder in the order of their names."""
        files = sorted(p for p in self.folder.glob("*") if p.suffix.lower() in PICTURE_SUFFIXES)
        return dict(enumerate(files, 1)) if len(files) == self.last else {}


def _has_whole(row: Row, column: int) -> bool:
    return len(row.fields) > column and row.fields[column].isdecimal()


def openface_record(
    where: str, path: Path, text: dict[str, str], labels: Labels, frames: Frames
) -> Record:
    """A line of OpenFace, which names no picture. Raises LineError."""
    if text.get(SUCCESS, "1") in ("0", "0.0"):
        raise LineError("OpenFace found no face here (success is 0)")
    frame = frame_number(text) if FRAME in text else None
    picture, place = (frames.still, None) if frame is None else frames.place(frame)
    face = text.get(FACE, "0")
    return Record(
        where=where,
        picture=picture,
        frame=place,
        labels=labels,
        identity=path.stem if face in ("", "0") else f"{path.stem}#{face}",
        video="" if frame is None else path.stem,
        unit=path.stem,
        box=_around_landmarks(text),
    )


def _around_landmarks(text: dict[str, str]) -> Box | None:
    points = [
        [
            number
            for name, value in text.items()
            if name.startswith(axis) and (number := number_of(value))
        ]
        for axis in ("x_", "y_")
    ]
    if not all(points):
        return None
    (left, right), (top, bottom) = ((min(values), max(values)) for values in points)
    return (left, top, right - left, bottom - top)
