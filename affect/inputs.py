"""Picture inputs (paths, folders, bytes, arrays, PIL images) one after the other, each with a name.

Nothing is opened before it is its turn, so a folder of a million costs what one costs, and a broken
one fails alone.
"""

import io
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from affect.image_headers import JUMBF
from affect.images import (
    LONGEST_PX,
    MAX_PIXELS,
    DecodedImage,
    Header,
    ImageError,
    checked_header,
    decode,
    decode_header,
    pixels_of,
)

U8: TypeAlias = NDArray[np.uint8]

# Suffixes that count as pictures in a folder. Not all can be read; those fail with a reason.
PICTURE_SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".webp",
        ".bmp",
        ".tif",
        ".tiff",
        ".gif",
        ".heic",
        ".heif",
        ".avif",
    ]
)


@dataclass(frozen=True, eq=False)
class InputPicture:
    """One picture that is not opened yet, or the reason why it cannot be. `frame` and
    `time_seconds` say where in a video it was.
    """

    name: str
    source: Path | bytes | U8 | Image.Image | ImageError
    frame: int | None = None
    time_seconds: float | None = None

    def content(self) -> bytes:
        """The bytes of a file; arrays and PIL images become PNG. Raises ImageError when the file
        cannot be read.
        """
        if isinstance(self.source, ImageError):
            raise self.source
        if isinstance(self.source, bytes):
            return self.source
        if isinstance(self.source, Path):
            return _read(self.source)
        out = io.BytesIO()
        Image.fromarray(self.pixels()).save(out, "PNG", compress_level=1)
        return out.getvalue()

    def provenance(self) -> bytes | None:
        """The file, when it carries a C2PA manifest that what is made of it must keep."""
        if not isinstance(self.source, bytes | Path):
            return None
        content = self.content()
        return content if JUMBF in content else None

    def pixels(self, *, max_pixels: int = MAX_PIXELS) -> U8:
        """(H, W, 3) RGB, upright. Raises ImageError."""
        if isinstance(self.source, np.ndarray):
            return _rgb(self.source)
        if isinstance(self.source, Image.Image):
            return pixels_of(self.source)
        return decode(self.content(), max_pixels=max_pixels)

    def decoded(self) -> DecodedImage:
        """The same as the gateway decodes it: large files come at a fraction. Raises ImageError."""
        image = self.opened()
        return decode_header(image, longest_px=LONGEST_PX) if isinstance(image, Header) else image

    def opened(self) -> DecodedImage | Header:
        """The checked header of a file, or the pixels where there is no file. Raises ImageError."""
        if isinstance(self.source, np.ndarray | Image.Image):
            pixels = self.pixels()
            return DecodedImage(pixels, *pixels.shape[1::-1])
        return checked_header(self.content())


PictureLike: TypeAlias = (
    str | os.PathLike[str] | bytes | NDArray[np.uint8] | Image.Image | InputPicture
)
Pictures: TypeAlias = PictureLike | Iterable[PictureLike]


def expand(
    pictures: Pictures, *, suffixes: frozenset[str] = PICTURE_SUFFIXES
) -> Iterator[InputPicture]:
    """Every picture of the inputs; folders recursively, in the order of names."""
    if isinstance(pictures, str | os.PathLike | bytes | np.ndarray | Image.Image | InputPicture):
        pictures = [pictures]
    for number, one in enumerate(pictures):
        if isinstance(one, InputPicture):
            yield one
        elif isinstance(one, str | os.PathLike):
            yield from (InputPicture(_text(path), path) for path in files(Path(one), suffixes))
        elif isinstance(one, bytes):
            yield InputPicture(f"bytes-{number}", one)
        elif isinstance(one, np.ndarray):
            yield InputPicture(f"array-{number}", one)
        elif isinstance(one, Image.Image):
            yield InputPicture(str(getattr(one, "filename", "") or f"image-{number}"), one)
        else:
            raise TypeError(
                f"picture {number} is a {type(one).__name__}; give a path, bytes, a uint8 array "
                "(H, W, 3) or a PIL image"
            )


def files(path: Path, suffixes: frozenset[str] = PICTURE_SUFFIXES) -> Iterator[Path]:
    """The path itself, or of a folder every file with such a suffix. Names that begin with a dot
    are left out.

    What cannot be opened (a dangling link, a folder without permission) is yielded too, and fails
    alone.
    """
    if path.is_dir():
        yield from _walk(path, suffixes, frozenset())
    else:
        yield path


def _walk(folder: Path, suffixes: frozenset[str], inside: frozenset[Path]) -> Iterator[Path]:
    inside |= {folder.resolve()}
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        yield folder
        return
    for entry in entries:
        path = folder / entry.name
        if entry.name.startswith("."):
            continue
        if _is_folder(entry):
            if path.resolve() not in inside:  # a link to a parent folder would never end
                yield from _walk(path, suffixes, inside)
        elif path.suffix.lower() in suffixes:
            yield path


def _text(path: Path) -> str:
    """A path that can be printed and written as JSON: bytes that are no UTF-8 as \\xff."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """A link that leads to itself is none, and fails when it is read."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _read(path: Path) -> bytes:
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
        # pipes and devices, which may never end, are read only as /dev/stdin and `<(command)`
        if kind not in (stat.S_IFREG, stat.S_IFDIR) and path.parts[:2] != ("/", "dev"):
            raise OSError("it is a pipe, a socket or a device, and no file")
        return path.read_bytes()
    except OSError as error:
        raise ImageError(
            "unreadable", "Unreadable file", f"{path}: {error.strerror or error}"
        ) from error


def _rgb(array: U8) -> U8:
    """(H, W), (H, W, 1), (H, W, 3) or (H, W, 4) uint8 as (H, W, 3); alpha on white."""
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or 0 in array.shape:
        raise ImageError(
            "not_an_image",
            "Not an image",
            f"an array of shape {array.shape} and type {array.dtype}; give uint8 (H, W, 3) in RGB",
        )
    if array.ndim == 2 or array.shape[2] == 1:
        return np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)
    if array.shape[2] == 4:
        alpha = array[..., 3:].astype(np.float32) / 255
        return np.asarray(np.rint(array[..., :3] * alpha + 255 * (1 - alpha)), np.uint8)
    if array.shape[2] != 3:
        raise ImageError(
            "not_an_image",
            "Not an image",
            f"an array of shape {array.shape}; give uint8 (H, W, 3) in RGB",
        )
    return array
