"""From a record to the aligned crop that a database stores."""

from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from affect.faces import LEAST_CONFIDENCE, FaceFinder, NoFaceError, align, crops
from affect.images import ImageError, decode, encode
from affect.landmarks import Box
from training.database.card import DataError
from training.sources.record import Record

U8 = NDArray[np.uint8]
ROOM = 0.3  # of a face box, added on each side before the face is looked for
TIGHT_ROOM = 0.35  # of a picture cut close around the face
PICTURES = (".jpg", ".jpeg", ".png", ".webp")
SQUARE = 0.1  # sides of a crop may differ by so much


@dataclass(frozen=True, kw_only=True)
class Cropping:
    """How a picture becomes a crop: by the finder that serving uses, as it is, or by known eye
    centres.
    """

    size_px: int = 128
    aligned: bool = False  # the pictures are aligned crops already
    # x, y of the picture-left and -right eye in shares of the picture
    eyes: tuple[float, float, float, float] | None = None
    tight: bool = False  # the pictures are cut close around the face

    def __post_init__(self) -> None:
        if not 32 <= self.size_px <= 512:
            raise DataError(f"size is {self.size_px} px; choose 32 to 512")
        if self.eyes and not (
            all(0 <= value <= 1 for value in self.eyes) and self.eyes[2] - self.eyes[0] > 0.05
        ):
            raise DataError(
                f"eyes are {self.eyes}; give x,y of the picture's left eye, then of its "
                "right, in shares of the picture"
            )

    def crop(self, record: Record) -> bytes:
        """PNG of the aligned crop.

        Raises ValueError (ImageError, NoFaceError) that says why there is none.
        """
        return encode(self._crop(load(record), record))

    def _crop(self, image: U8, record: Record) -> U8:
        height, width = image.shape[:2]
        if self.eyes:
            points = np.array(self.eyes, np.float32).reshape(2, 2) * (width, height)
            return align(image, points.astype(np.float32), self.size_px)
        if self.aligned:
            if abs(width - height) > SQUARE * max(width, height):
                raise ImageError(
                    "not_a_crop",
                    "Not a crop",
                    f"{width} x {height} px is not square; import it without --aligned",
                )
            return crops(finder(), image, faces="none", size_px=self.size_px)[0][1]
        if record.box:
            image = around(image, record.box)
        if self.tight:
            return self._of_tight(image)
        return crops(finder(), image, faces="largest", size_px=self.size_px)[0][1]

    def _of_tight(self, image: U8) -> U8:
        """The finder needs to see where a face ends; where it still finds none, the whole picture
        is taken for the face's box.
        """
        height, width = image.shape[:2]
        room = round(TIGHT_ROOM * max(width, height))
        try:
            roomy = np.asarray(
                cv2.copyMakeBorder(image, room, room, room, room, cv2.BORDER_REPLICATE), np.uint8
            )
            return crops(finder(), roomy, faces="largest", size_px=self.size_px)[0][1]
        except NoFaceError:
            points, confidence, _ = finder().landmarks.refine(
                image, Box(width / 2, height / 2, max(width, height))
            )
            if confidence < LEAST_CONFIDENCE:
                raise
            return align(image, points, self.size_px)


def parse_eyes(text: str) -> tuple[float, float, float, float]:
    """ "x1,y1,x2,y2" as four numbers. Raises DataError."""
    try:
        x1, y1, x2, y2 = (float(part) for part in text.split(","))
    except ValueError as error:
        raise DataError(
            f"eyes are {text!r}; give four numbers x1,y1,x2,y2 in shares of the picture"
        ) from error
    return (x1, y1, x2, y2)


def load(record: Record) -> U8:
    """The picture (H, W, 3) of a record. Raises ImageError when it is missing or broken."""
    if not record.picture.is_file():
        raise ImageError("missing", "The picture is missing", f"expected at {record.picture}")
    if record.frame is not None:
        return frame_of(record.picture, record.frame)
    try:
        content = record.picture.read_bytes()
    except OSError as error:
        raise ImageError("unreadable", "The picture cannot be read", str(error.strerror)) from error
    return decode(content)


def around(image: U8, box: tuple[float, float, float, float]) -> U8:
    """The part of a picture that a face box and some room about it cover."""
    x, y, width, height = box
    left, top = max(round(x - ROOM * width), 0), max(round(y - ROOM * height), 0)
    cut = image[top : round(y + (1 + ROOM) * height), left : round(x + (1 + ROOM) * width)]
    if not cut.size:
        raise ImageError(
            "outside",
            "The face box lies outside the picture",
            f"{box} in {image.shape[1]} x {image.shape[0]} px",
        )
    return cut


def faces_of(folder: Path, size_px: int) -> list[U8]:
    """The aligned faces (S, S, 3) of every picture of a folder, the largest of each first.

    Raises DataError when there is none.
    """
    face_crops: list[U8] = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in PICTURES:
            with suppress(NoFaceError):
                face_crops += [
                    crop
                    for _, crop in crops(
                        finder(), decode(path.read_bytes()), faces="all", size_px=size_px
                    )
                ]
    if not face_crops:
        raise DataError(f"{folder} holds no picture ({', '.join(PICTURES)}) with a face in it")
    return face_crops


@lru_cache(maxsize=1)
def finder() -> FaceFinder:
    """One for a process."""
    return FaceFinder()


@dataclass
class _SourceVideo:
    capture: cv2.VideoCapture
    next_frame: int = 0


@lru_cache(maxsize=4)
def _opened(path: Path) -> _SourceVideo:
    return _SourceVideo(cv2.VideoCapture(str(path)))


def frame_of(path: Path, frame: int) -> U8:
    """Frame `frame` (0-based) of a video.

    Frames asked for in order are read in order: seeking is inexact in many codecs.
    """
    video = _opened(path)
    if frame < video.next_frame:
        _opened.cache_clear()
        video = _opened(path)
    while video.next_frame < frame and video.capture.grab():
        video.next_frame += 1
    succeeded, image = video.capture.read()
    if not succeeded or video.next_frame != frame:
        raise ImageError("missing", "The frame is missing", f"{path.name} has no frame {frame + 1}")
    video.next_frame += 1
    return np.ascontiguousarray(image[..., ::-1])
