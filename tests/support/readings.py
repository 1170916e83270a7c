"""Readings as a model might give them, to test what is done with them."""

import numpy as np

from affect.catalogue import codes
from affect.local.reading import ActionUnit, LocalReading

CLOSED_EYES, SMILE = codes(43, 12)


def unit(intensity: float, threshold: float = 0.5) -> ActionUnit:
    """An uncalibrated Action Unit: its probability is its intensity."""
    return ActionUnit(intensity, intensity, intensity >= threshold)


def reading(
    frame: int,
    *,
    face: int = 0,
    x: float = 0.0,
    person: int = 0,
    smile: float = 0.0,
    closed: float = 0.0,
    valence: float = 0.0,
    seconds: float | None = None,
) -> LocalReading:
    """A face of 100 px at x, of a person with looks of its own, in a video of 25 frames a
    second.
    """
    looks = np.zeros(8, np.float32)
    looks[person] = 1
    return LocalReading(
        "clip.mp4",
        frame,
        frame / 25 if seconds is None else seconds,
        face,
        box=(x, 50.0, 100.0, 100.0),
        points=((x, 1.0), (x, 2.0), (x, 3.0), (x, 4.0), (x, 5.0)),
        confidence=1.0,
        realism=0.5,
        valence=valence,
        arousal=0.1,
        expressions={"neutral": 0.75, "anger": 0.25},
        pose={"yaw": 1.0, "pitch": 2.0, "roll": 3.0},
        aus={SMILE: unit(smile), CLOSED_EYES: unit(closed)},
        warnings=("head turned",),
        identity=looks,
    )
