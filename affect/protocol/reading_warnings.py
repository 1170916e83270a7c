"""Warnings that a reading may be unreliable, by the limits of the model's card.

The same in the gateway and in `affect.Reader`; no torch here.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from affect.card import ModelCard
from affect.faces import Face
from affect.protocol.messages import Predictions

UNLIKE_TRAINING = "unlike_training"
HEAD_TURNED = "head_turned"
FINDER_UNSURE = "finder_unsure"
SMALL_FACE = "small_face"
EYES_HIDDEN = "eyes_hidden"
MOUTH_HIDDEN = "mouth_hidden"
DRAWN = "drawn"


@dataclass(frozen=True)
class RowWarning:
    """A stable code, and a sentence with the figure and its limit."""

    code: str
    detail: str


def reading_warnings(
    card: ModelCard, read: Predictions, row: int, face: Face | None = None
) -> tuple[RowWarning, ...]:
    """Why the reading in this row may be unreliable; empty where no limit is passed. Without
    `face`, for a picture that came as an aligned crop, finder and size are not checked.
    """
    return (*_of_reading(card, read, row), *(_of_face(card, face) if face else ()))


def limited_trust(
    card: ModelCard, face: Face | None, level: str, reasons: tuple[str, ...]
) -> tuple[str, tuple[str, ...]]:
    """Trust in an explanation of a face, after the warnings about the face itself: trust was not
    measured on such faces, so it is never "high" there.
    """
    warnings = tuple(one.detail for one in _of_face(card, face)) if face else ()
    limited = "medium" if warnings and level == "high" else level
    return limited, (*warnings, *reasons)


def _of_reading(card: ModelCard, read: Predictions, row: int) -> Iterator[RowWarning]:
    limits, realism = card.warning_limits, float(read.realism[row])
    if limits.is_unlike(realism):
        detail = (
            f"of the faces that the model learnt from, {realism:.0%} look at least as strange; "
            f"below {limits.realism:.0%} it may be no face, or unlike any it knows"
        )
        yield RowWarning(UNLIKE_TRAINING, detail)
    if card.pose:
        yaw, pitch = (float(angle) for angle in read.pose[row, :2])
        if limits.is_turned(yaw, pitch):
            detail = (
                f"the head is turned by {yaw:.0f} and raised by {pitch:.0f} degrees; readings hold "
                f"up to {limits.yaw_degrees:.0f} and {limits.pitch_degrees:.0f} either way"
            )
            yield RowWarning(HEAD_TURNED, detail)


def _of_face(card: ModelCard, face: Face) -> Iterator[RowWarning]:
    limits, side_px = card.warning_limits, min(face.box[2:])
    if face.confidence < limits.confidence:
        sure, required = face.confidence, limits.confidence
        detail = f"the finder is sure of a face by {sure:.2f}; {required:.2f} is firm"
        yield RowWarning(FINDER_UNSURE, detail)
    if side_px < limits.face_px:
        detail = (
            f"the face is {side_px:.0f} px wide; "
            f"below {limits.face_px:.0f} px much of it is guessed"
        )
        yield RowWarning(SMALL_FACE, detail)
    for code, description, share, limit in (
        (EYES_HIDDEN, "the eyes are hidden", face.defects.eyes_hidden, limits.eyes_hidden),
        (MOUTH_HIDDEN, "the mouth is hidden", face.defects.mouth_hidden, limits.mouth_hidden),
        (DRAWN, "the face is drawn, not photographed,", face.defects.drawn, limits.drawn),
    ):
        if share >= limit:
            detail = f"{description} with a probability of {share:.2f}; warned from {limit:.2f}"
            yield RowWarning(code, detail)
