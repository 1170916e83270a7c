"""The person of a reading, for smoothing, baselines and events."""

from pathlib import PurePath
from typing import TypeAlias

from affect.local.reading import LocalReading

Person: TypeAlias = tuple[str, int]


def person_of(entry: LocalReading) -> Person:
    """In a video the track, or without tracking the place among the faces; the pictures of a folder
    are of one person.
    """
    if entry.frame is None:
        return str(PurePath(entry.input).parent), 0
    number = entry.track if entry.track is not None else entry.face
    return entry.input, -1 if number is None else number
