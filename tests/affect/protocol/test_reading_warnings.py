"""Each warning where its limit is passed, and none on a face that is as it should be."""

from dataclasses import replace

import numpy as np
import pytest

from affect.card import WarningLimits
from affect.faces import Face
from affect.landmarks import Defects
from affect.protocol.messages import Predictions, PredictResponse
from affect.protocol.reading_warnings import limited_trust, reading_warnings
from affect.protocol.tensor_codec import arguments_from_tensors, zero_tensors
from tests.support.tiny import tiny_card

LIMITS = WarningLimits(realism=0.05, yaw_degrees=40, pitch_degrees=25, confidence=0.9, face_px=48)
CARD = tiny_card(reader=True).model_copy(update={"warning_limits": LIMITS})
FACE = Face((10.0, 20.0, 120.0, 120.0), np.zeros((5, 2), np.float32), 0.99)


def predictions(
    *, realism: float = 0.5, pose: tuple[float, float, float] = (0, 0, 0)
) -> Predictions:
    """Of one face."""
    read: Predictions = arguments_from_tensors(
        PredictResponse, zero_tensors(PredictResponse, CARD, N=1)
    )["read"]
    return replace(
        read,
        realism=np.array([realism], np.float32),
        pose=np.array([pose], np.float32),
    )


def codes(read: Predictions, face: Face | None) -> list[str]:
    return [warning.code for warning in reading_warnings(CARD, read, 0, face)]


def test_a_plain_face_has_no_warnings() -> None:
    assert codes(predictions(), FACE) == codes(predictions(), None) == []


@pytest.mark.parametrize(
    ("read", "face", "code"),
    [
        (predictions(realism=0.04), FACE, "unlike_training"),
        (predictions(pose=(-41, 0, 0)), FACE, "head_turned"),
        (predictions(pose=(0, 26, 0)), None, "head_turned"),
        (predictions(), replace(FACE, confidence=0.85), "finder_unsure"),
        (predictions(), replace(FACE, box=(0.0, 0.0, 47.0, 47.0)), "small_face"),
        (predictions(), replace(FACE, defects=Defects(eyes_hidden=0.6)), "eyes_hidden"),
        (predictions(), replace(FACE, defects=Defects(mouth_hidden=0.6)), "mouth_hidden"),
        (predictions(), replace(FACE, defects=Defects(drawn=0.6)), "drawn"),
    ],
)
def test_each_limit_that_is_passed_is_warned_about(
    read: Predictions, face: Face | None, code: str
) -> None:
    (warning,) = reading_warnings(CARD, read, 0, face)
    assert warning.code == code and warning.detail


def test_roll_is_no_matter_since_crops_are_upright() -> None:
    assert codes(predictions(pose=(0, 0, 80)), FACE) == []


def test_the_figure_and_its_limit_stand_in_the_detail() -> None:
    (warning,) = reading_warnings(CARD, predictions(pose=(55, -3, 0)), 0)
    assert "55" in warning.detail and "40" in warning.detail


def test_an_explanation_of_a_face_with_a_defect_is_not_trusted_highly() -> None:
    small = limited_trust(CARD, replace(FACE, box=(10.0, 20.0, 20.0, 20.0)), "high", ("steady",))
    assert small[0] == "medium" and "20 px" in small[1][0] and small[1][-1] == "steady"
    assert limited_trust(CARD, FACE, "high", ("steady",)) == ("high", ("steady",))
    assert limited_trust(CARD, None, "low", ()) == ("low", ())
