"""One entry of an answer: a face and what is read off it, or why there is none."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from affect.card import ModelCard
from affect.faces import Face, NoFaceError
from affect.images import ImageError
from affect.inputs import InputPicture
from affect.labels import POSE
from affect.protocol.messages import Predictions
from affect.protocol.reading_warnings import reading_warnings


@dataclass(frozen=True, slots=True)
class ActionUnit:
    """One Action Unit of a face. `left` and `right` are intensities on the person's own sides, None
    where the sides are read as one.
    """

    probability: float  # calibrated, that it is present
    intensity: float  # in [0, 1]
    present: bool
    left: float | None = None
    right: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class LocalReading:
    """One face of one picture or frame. With `error` there is no face, and the code says why;
    `detail` says it in words.

    Labels that a model did not learn are None or empty, never zero.
    """

    input: str
    frame: int | None = None  # 0-based; None for pictures
    time_seconds: float | None = None  # presentation time of the frame
    face: int | None = None  # 0-based in the picture, the largest first
    track: int | None = None  # the same person through a video, when tracked
    # x, y, width, height in px of the upright original
    box: tuple[float, float, float, float] | None = None
    # eyes, nose tip, mouth corners; the picture's left first
    points: tuple[tuple[float, float], ...] | None = None
    confidence: float | None = None  # that this is a face
    # share of training faces that are at least as far from the training distribution
    realism: float | None = None
    valence: float | None = None  # in [-1, 1]
    arousal: float | None = None
    expressions: Mapping[str, float] = field(default_factory=dict)  # probability of each class
    pose: Mapping[str, float] = field(default_factory=dict)  # yaw, pitch, roll in degrees
    aus: Mapping[str, ActionUnit] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()  # codes of `affect.protocol.reading_warnings`
    error: str | None = None
    detail: str | None = None
    # (E,) of length 1, alike for one person; when asked for
    identity: NDArray[np.float32] | None = None
    crop: NDArray[np.uint8] | None = None  # (S, S, 3) the aligned face, when asked for

    @property
    def expression(self) -> str | None:
        """The likeliest class."""
        return max(self.expressions, key=lambda name: self.expressions[name], default=None)


def failed(picture: InputPicture, error: ImageError | NoFaceError) -> LocalReading:
    """The entry of a picture that gave no face."""
    return LocalReading(
        picture.name, picture.frame, picture.time_seconds, error=error.code, detail=error.detail
    )


def face_reading(
    picture: InputPicture,
    number: int,
    face: Face | None,
    card: ModelCard,
    read: Predictions,
    row: int,
) -> LocalReading:
    """The entry of one face. `face` is None for a picture that came as an aligned crop."""
    return LocalReading(
        picture.name,
        picture.frame,
        picture.time_seconds,
        number,
        box=face.box if face else None,
        points=tuple((float(x), float(y)) for x, y in face.points) if face else None,
        confidence=face.confidence if face else None,
        realism=float(read.realism[row]),
        valence=float(read.va[row, 0]) if card.learns_va else None,
        arousal=float(read.va[row, 1]) if card.learns_va else None,
        expressions=_named(card.expressions, read.expression[row]),
        pose=_named(POSE, read.pose[row]) if card.pose else {},
        aus=_units(card, read, row) if card.learns_aus else {},
        warnings=tuple(one.code for one in reading_warnings(card, read, row, face)),
    )


def _units(card: ModelCard, read: Predictions, row: int) -> dict[str, ActionUnit]:
    parts = (part[row].tolist() for part in (read.probability, read.intensity, read.present))
    sides = dict(zip(card.one_sided, read.sides[row].T.tolist(), strict=True))
    return {
        code: ActionUnit(probability, intensity, bool(present), *sides.get(code, (None, None)))
        for code, probability, intensity, present in zip(card.vocabulary, *parts, strict=True)
    }


def _named(names: tuple[str, ...], values: NDArray[np.float32]) -> dict[str, float]:
    return dict(zip(names, values.tolist(), strict=True))
