"""The page says in words which marks a picture carries."""

import base64
import json
from pathlib import Path

import pytest

from affect.images import encode
from tests.support.browser import EXAMPLES, Visit, wait_for_result
from tests.support.gateway import Gateway
from tests.support.pictures import FACE

pytestmark = pytest.mark.processes

pytestmark = pytest.mark.processes
PAGE = Path(__file__).parents[3] / "service" / "page"


def _checked(tab: Visit, picture: Path, address: str = "/#check") -> str:
    page = tab.open(address)
    page.set_input_files("#check-files", picture)
    wait_for_result(page, "[data-verdict]")
    return page.inner_text(".check")


def _drawn(gateway: Gateway, folder: Path) -> Path:
    body = {"items": [{"seed": 3}]}
    image = gateway.post("/v1/generate", body).json["results"][0]["image"]
    (folder / "drawn.png").write_bytes(base64.b64decode(image["content"]))
    return folder / "drawn.png"


def test_what_was_drawn_here_is_reported_with_signer_model_and_deed(
    tab: Visit, gateway: Gateway, tmp_path: Path
) -> None:
    text = _checked(tab, _drawn(gateway, tmp_path))
    assert "Made here" in text and "Signed by AffectGAN development certificate" in text
    assert "names the model affectgan 1.0" in text and "drawn from nothing" in text


def test_a_plain_picture_is_unknown_and_its_lack_of_marks_is_named(
    tab: Visit, tmp_path: Path
) -> None:
    (tmp_path / "plain.png").write_bytes(encode(FACE))
    text = _checked(tab, tmp_path / "plain.png", "/?lang=de#check")
    assert "Unbekannt" in text and "nicht signiert" in text and "kein Kennzeichen zu finden" in text


def test_a_bad_file_is_reported_and_the_next_is_checked(tab: Visit, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    page = tab.open("/#check")
    page.set_input_files("#check-files", [tmp_path / "bad.png", EXAMPLES / "smile.jpg"])
    page.wait_for_selector("[data-kind=refused]")
    page.wait_for_selector("[data-verdict]")
    assert page.locator(".check").count() == 2


def test_every_verdict_has_words() -> None:
    for language in ("en", "de"):
        words = json.loads((PAGE / "strings" / f"{language}.json").read_text())
        assert all(
            f"check.verdict.{one}" in words for one in ("made here", "made by AI", "unknown")
        )
