"""English and German, each with every word; the language is the browser's unless another is chosen."""

import json
import re
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser

from affect.catalogue import CATALOGUE
from tests.support.browser import Visit, visit
from tests.support.gateway import Gateway

PAGE = Path(__file__).parents[3] / "service" / "page"
# Given in English by the catalogue and the card.
TRANSLATED = re.compile(r"unit\.AU\d+\.name|nuisance\..*")


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
    assert "lang=de" in page.url and "Die Lesung" in page.inner_text(".reading")
