"""English and German, each with every word; the language is the browser's unless another is
chosen.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from affect.card import EarnedTrust, TrustName, TrustRequirement, WarningLimits
from affect.catalogue import CATALOGUE
from affect.counterfactual.judge_agreement import JudgeAgreement
from affect.counterfactual.trust import Evidence, outside, trust
from tests.support.browser import Visit, visit
from tests.support.gateway import Gateway

pytestmark = pytest.mark.processes

PAGE = Path(__file__).parents[3] / "service" / "page"
# Given in English by the catalogue, the card and the server.
TRANSLATED = re.compile(r"unit\.AU\d+\.name|nuisance\..*|said\..*")


def _words(language: str) -> dict[str, Any]:
    words: dict[str, Any] = json.loads((PAGE / "strings" / f"{language}.json").read_text())
    return words


def test_both_languages_have_the_same_words_with_the_same_places() -> None:
    english, german = _words("en"), _words("de")
    assert set(english) == {key for key in german if not TRANSLATED.fullmatch(key)}
    for key, text in english.items():
        assert re.findall(r"{\w+}", str(text)) == re.findall(r"{\w+}", str(german[key])) or set(
            re.findall(r"{\w+}", str(text))
        ) == set(re.findall(r"{\w+}", str(german[key]))), key


def test_every_word_that_the_page_asks_for_is_there() -> None:
    asked = {
        key
        for file in (PAGE / "js").glob("*.js")
        for key in re.findall(r'\bt\(\s*"([a-z_.]+)"', file.read_text())
    }
    assert asked and not asked - set(_words("en"))


def test_every_action_unit_has_words_in_both_languages() -> None:
    for language in ("en", "de"):
        words = _words(language)
        assert all(len(words[f"unit.{code}.does"]) == 3 for code in CATALOGUE)
    assert all(f"unit.{code}.name" in _words("de") for code in CATALOGUE)


def _reasons() -> set[str]:
    """Every reason for trust or doubt that an explanation can give."""
    bad = {"validity_margin": -0.5, "identity": 0.1, "realism": 0.01, "stability": 0.2}
    bad |= {"reconstruction_percentile": 0.99, "outside": 0.9, "sparsity": 9.0, "reached": 0.1}
    bad |= {"proximity": 0.05, "support": 0.0, "rule": 0.1, "bystanders": 2.0}
    good = {"validity_margin": 0.5, "identity": 0.99, "realism": 0.9, "stability": 1.0}
    good |= {"reconstruction_percentile": 0.1, "outside": 0.0, "sparsity": 1.0, "support": 0.9}
    shifted = [good | {"identity": identity / 100} for identity in range(100)]
    agreements = [None, *(JudgeAgreement(0.9, 0.1, agrees) for agrees in (True, False))]
    elsewhere = outside(WarningLimits(), 0.01, (60.0, 0.0, 0.0))
    measured = EarnedTrust(on="faces", answers=90, confirmed=0.5, low=0.4, high=0.6)
    unearned: dict[TrustName, TrustRequirement] = {
        "medium": TrustRequirement(least=None, earned=(measured,))
    }
    return {
        reason
        for scores in (bad, good, *shifted)
        for agreement in agreements
        for family in ("expression", "nuisance")
        for levels in ({}, unearned)
        for reason in trust(
            Evidence(scores is not bad, scores, agreement, family, elsewhere * (scores is bad)),
            levels,
        ).reasons
    }


def test_german_has_every_reason_for_trust() -> None:
    words = _words("de")
    keys = {"said." + re.sub(r"-?\d+(?:\.\d+)?", "#", reason) for reason in _reasons()}
    assert len(keys) == 24 and not keys - set(words)


def test_a_german_warning_has_german_figures(tab: Visit) -> None:
    tab.open("/?lang=de")
    sentence = tab.page.evaluate(
        """async () => {
          const { translated } = await import("/page/js/strings.js");
          return translated("the finder is sure of a face by 0.81; 0.90 is firm");
        }"""
    )
    assert sentence == "Die Suche ist sich eines Gesichts zu 0,81 sicher; 0,9 ist verlässlich."


def test_a_german_browser_gets_german(browser: Browser, gateway: Gateway) -> None:
    with visit(browser, gateway.url, locale="de-DE") as tab:
        page = tab.open()
        assert page.inner_text("h2") == "Lesen" and page.get_attribute("html", "lang") == "de"
        tab.read("smile")
        assert "Wahrscheinlichkeit" in page.inner_text(".reading") and " %" in page.inner_text(
            ".reading"
        ).replace("\xa0", " ")
        assert not tab.violations()


def test_another_language_is_chosen_and_stays_in_the_address(tab: Visit) -> None:
    page = tab.open()
    tab.read("smile")
    page.select_option("#language", "de")
    page.wait_for_selector("h2:has-text('Lesen')")
    assert "lang=de" in page.url and "Die Auswertung" in page.inner_text(".reading")
