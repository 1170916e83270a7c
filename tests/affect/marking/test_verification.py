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
    found = _verified(marker, marker.encode(FACE, CLAIM))
    assert found.verdict == "made here" and found.edited is True
    assert found.model == "affectgan 1.0" and found.payload == "5eed5eed"


def test_what_another_one_drew_is_made_by_ai(marker: Marker) -> None:
    content = Marker(MarkingSettings()).encode(FACE, CLAIM)
    found = _verified(marker, content)
    assert found.verdict == "made by AI" and found.manifest is not None
    assert found.manifest.valid and not found.manifest.trusted


def test_without_its_metadata_the_watermark_says_that_a_model_made_it(marker: Marker) -> None:
    found = _verified(marker, encode(decode(marker.encode(FACE, CLAIM)), "image/jpeg"))
    assert found.manifest is None and not found.metadata and found.edited is None
    assert found.verdict == "made by AI" and found.model == "affectgan 1.0"


def test_unsigned_metadata_alone_says_so_too(marker: Marker) -> None:
    found = _verified(marker, encode(FACE, synthetic={"model": "other"}))
    assert found.metadata and found.watermark is None and found.verdict == "made by AI"


def test_a_picture_without_marks_is_unknown(marker: Marker) -> None:
    found = _verified(marker, encode(FACE))
    assert found.verdict == "unknown" and found.manifest is None and found.watermark is None
