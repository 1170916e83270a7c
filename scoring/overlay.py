"""Pictures of a run: videos with the readings drawn into them, and contact sheets of faces."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path, PurePath
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from affect.inputs import InputPicture
from affect.local.reading import LocalReading

U8 = NDArray[np.uint8]
TIME_BASE = Fraction(1, 90_000)
LONGEST_PX = 1280  # larger frames are drawn smaller
COLOURS = ("#ffd400", "#3cb44b", "#42d4f4", "#f58231", "#e6194b", "#911eb4")
SHEET_FACES, SHEET_COLUMNS, CAPTION_PX = 64, 8, 28


class Overlay:
    """Pictures of a run in a folder; with no folder, nothing. What is there already stays: names
    count on.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._video: _Video | None = None
        self._faces: list[LocalReading] = []

    def __enter__(self) -> Self:
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._video is not None:
            self._video.close()
        if self._faces:
            self._sheet()

    def add(self, picture: InputPicture | None, entries: Sequence[LocalReading]) -> None:
        """What was read of one picture or frame."""
        if self.folder is None or picture is None:
            return
        if picture.frame is None:
            self._faces += [entry for entry in entries if entry.crop is not None]
            if len(self._faces) >= SHEET_FACES:
                self._sheet()
        elif isinstance(picture.source, np.ndarray):
            self._frame(picture, picture.source, entries)

    def _frame(self, picture: InputPicture, pixels: U8, entries: Sequence[LocalReading]) -> None:
        if self._video is None or self._video.name != picture.name:
            if self._video is not None:
                self._video.close()
            path = self._free(PurePath(picture.name).name.replace(":", "-"), ".mp4")
            self._video = _Video(picture.name, path, pixels.shape[1], pixels.shape[0])
        self._video.add(pixels, entries, picture.time_seconds or 0.0)

    def _sheet(self) -> None:
        faces, self._faces = self._faces[:SHEET_FACES], self._faces[SHEET_FACES:]
        sheet(faces).save(self._free("faces", ".jpg"), quality=90)

    def _free(self, stem: str, suffix: str) -> Path:
        assert self.folder is not None
        number = 1
        while (path := self.folder / f"{stem}-{number:04d}{suffix}").exists():
            number += 1
        return path


class _Video:
    """One video, written as its frames come."""

    def __init__(self, name: str, path: Path, width: int, height: int) -> None:
        self.name = name
        self._container = av.open(str(path), "w")
        self._stream: Any = self._container.add_stream(
            "libx264", options={"crf": "23", "preset": "veryfast"}
        )
        self._stream.width, self._stream.height = (
            side // 2 * 2 for side in fitted_size(width, height, LONGEST_PX)
        )
        self._stream.pix_fmt, self._stream.codec_context.time_base = "yuv420p", TIME_BASE
        self._last = -1

    def add(self, pixels: U8, entries: Sequence[LocalReading], time_seconds: float) -> None:
        """Draw into a copy of the frame."""
        picture = draw(pixels, entries, (self._stream.width, self._stream.height))
        frame = av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")
        self._last = max(self._last + 1, round(time_seconds / TIME_BASE))
        frame.pts, frame.time_base = self._last, TIME_BASE
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write the end of the file."""
        self._container.mux(self._stream.encode())
        self._container.close()


def draw(pixels: U8, entries: Sequence[LocalReading], sides: tuple[int, int]) -> Image.Image:
    """The frame as a picture of (width, height), with a box and a caption for each face."""
    scale = sides[0] / pixels.shape[1]
    picture = Image.fromarray(pixels).resize(sides)
    pen = ImageDraw.Draw(picture)
    for entry in entries:
        if entry.box is None:
            continue
        x, y, width, height = (side * scale for side in entry.box)
        number = entry.track if entry.track is not None else entry.face or 0
        colour = COLOURS[number % len(COLOURS)]
        pen.rectangle((x, y, x + width, y + height), outline=colour, width=2)
        name = "" if entry.track is None else f"#{entry.track}  "
        pen.text((x, y + height + 2), name + caption(entry), fill=colour)
    return picture


def fitted_size(width: int, height: int, longest_px: int) -> tuple[int, int]:
    """Width and height with no side longer than that."""
    scale = min(1.0, longest_px / max(width, height))
    return round(width * scale), round(height * scale)


def caption(entry: LocalReading) -> str:
    """Valence and arousal, then the Action Units that are present."""
    numbers = [f"{value:+.2f}" for value in (entry.valence, entry.arousal) if value is not None]
    present = [code.removeprefix("AU") for code, unit in entry.aus.items() if unit.present]
    return " ".join(numbers + ([f"AU {' '.join(present)}"] if present else []))


def sheet(faces: Sequence[LocalReading]) -> Image.Image:
    """Faces in rows, each with its caption."""
    side = max(face.crop.shape[0] for face in faces if face.crop is not None)
    rows = -(-len(faces) // SHEET_COLUMNS)
    picture = Image.new("RGB", (SHEET_COLUMNS * side, rows * (side + CAPTION_PX)), "white")
    pen = ImageDraw.Draw(picture)
    for number, face in enumerate(faces):
        assert face.crop is not None
        x = number % SHEET_COLUMNS * side
        y = number // SHEET_COLUMNS * (side + CAPTION_PX)
        picture.paste(Image.fromarray(face.crop), (x, y))
        words = f"{PurePath(face.input).name[:20]}\n{caption(face)[:22]}"
        pen.multiline_text((x + 2, y + side + 1), words, fill="black", font_size=10, spacing=1)
    return picture
