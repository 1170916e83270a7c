"""Frame numbers to pictures, where a folder holds the frames of a video as numbered files."""

from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path

from training.sources.record import PICTURE_SUFFIXES, visible


class NumberingError(ValueError):
    """Which picture is the first frame is ambiguous."""


@lru_cache(maxsize=64)
def numbered(folder: Path) -> Mapping[int, Path]:
    """Pictures of a folder by the number their names end with, whatever the padding."""
    by_number: dict[int, Path] = {}
    for path in visible(folder.iterdir()) if folder.is_dir() else []:
        digits = path.stem[len(path.stem.rstrip("0123456789")) :]
        if digits.isascii() and digits and path.suffix.lower() in PICTURE_SUFFIXES:
            by_number.setdefault(int(digits), path)
    return by_number


def frames_of(folder: Path, labelled: Collection[int]) -> Mapping[int, Path]:
    """Pictures of a folder by the numbers that labels give to frames, also where the two count from
    different numbers.

    Many programs number the first frame 0, most annotations number it 1: a picture 0 beside labels
    from 1 on (or the reverse) means that every picture is one away. Raises NumberingError where
    both readings are possible.
    """
    pictures = numbered(folder)
    if not pictures or not labelled or (0 in pictures) == (0 in labelled):
        return pictures
    if 0 in pictures:
        if max(pictures) == max(labelled):
            raise NumberingError(
                f"{folder} holds pictures 0 to {max(pictures)}, and labels go from "
                f"{min(labelled)} to {max(labelled)}: "
                "whether the first frame is picture 0 or 1 cannot be told; remove the "
                "picture that is no frame"
            )
        return {number + 1: path for number, path in pictures.items()}
    return (
        {number - 1: path for number, path in pictures.items()}
        if max(pictures) == max(labelled) + 1
        else pictures
    )
