import numpy as np
import pytest

from affect.images import decode, encode
from affect.marking import Claim, Marker, MarkingSettings
from affect.marking.verification import Verification, Verifier
from tests.support import cartoons
from tests.support.tiny import tiny_card

MADE_BY = {"name": "affectgan", "version": "1.0", "digest": "5eed5eed" * 8}
CARD = tiny_card().model_copy(update=MADE_BY)
CLAIM = Claim.of(CARD, "edited")
FACE = np.repeat(np.repeat(cartoons.draw(cartoons.STATES["happiness"], 7), 4, 0), 4, 1)


@pytest.fixture(scope="module")
def marker() -> Marker:
    return Marker(MarkingSettings())


def _verified(marker: Marker, content: bytes) -> Verification:
    return Verifier(marker, [CARD]).verify(content, decode(content))


def test_what_this_gateway_drew_is_made_here(marker: Marker) -> None:
    verification = _verified(marker, marker.encode(FACE, CLAIM))
    assert verification.verdict == "made here" and verification.edited is True
    assert verification.model == "affectgan 1.0" and verification.payload == "5eed5eed"


def test_what_another_one_drew_is_made_by_ai(marker: Marker) -> None:
    content = Marker(MarkingSettings()).encode(FACE, CLAIM)
    verification = _verified(marker, content)
    assert verification.verdict == "made by AI" and verification.manifest is not None
    assert verification.manifest.valid and not verification.manifest.trusted


def test_without_its_metadata_the_watermark_says_that_a_model_made_it(marker: Marker) -> None:
    verification = _verified(marker, encode(decode(marker.encode(FACE, CLAIM)), "image/jpeg"))
    assert (
        verification.manifest is None and not verification.metadata and verification.edited is None
    )
    assert verification.verdict == "made by AI" and verification.model == "affectgan 1.0"


def test_unsigned_metadata_alone_says_so_too(marker: Marker) -> None:
    verification = _verified(marker, encode(FACE, synthetic={"model": "other"}))
    assert (
        verification.metadata
        and verification.watermark is None
        and verification.verdict == "made by AI"
    )


def test_a_picture_without_marks_is_unknown(marker: Marker) -> None:
    verification = _verified(marker, encode(FACE))
    assert (
        verification.verdict == "unknown"
        and verification.manifest is None
        and verification.watermark is None
    )
