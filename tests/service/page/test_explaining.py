"""An explanation shows what changes, where, on which way, and how far to trust it."""

import re

import pytest
from playwright.sync_api import Page

from tests.support.browser import Visit
from tests.support.tiny import tiny_card

pytestmark = pytest.mark.processes


@pytest.fixture
def explained(tab: Visit) -> Page:
    """A face that has been questioned."""
    page = tab.open()
    tab.read("smile")
    tab.explain()
    return page


def test_it_says_in_a_sentence_what_would_change_and_how_far_to_trust_it(explained: Page) -> None:
    sentence = explained.inner_text(".explanation > .sentence")
    assert sentence.endswith(".") and re.search(r"AU\d+|Valence|Arousal", sentence)
    assert "Trust in this explanation" in explained.inner_text(".trust")
    assert explained.locator(".trust li").count() >= 1


def test_before_and_after_lie_under_a_slider_at_three_times_their_size(explained: Page) -> None:
    before = explained.locator(".layers img").first.bounding_box()
    assert before is not None and before["width"] == 3 * tiny_card().image_px
    after = explained.get_by_alt_text("The changed face").first
    explained.fill("[data-name=split]", "25")
    assert "75%" in after.evaluate("image => image.style.clipPath")


def test_the_picture_itself_is_dragged_to_compare(explained: Page) -> None:
    layers = explained.locator(".layers")
    layers.scroll_into_view_if_needed()
    frame = layers.bounding_box()
    assert frame is not None
    explained.mouse.move(frame["x"] + 0.5 * frame["width"], frame["y"] + 9)
    explained.mouse.down()
    explained.mouse.move(frame["x"] + 0.8 * frame["width"], frame["y"] + 9)
    explained.mouse.up()
    assert explained.input_value("[data-name=split]") == "80"


def test_the_map_is_laid_over_the_face(explained: Page) -> None:
    layer = explained.get_by_alt_text("Where it changed").first
    assert layer.evaluate("image => image.style.opacity") == "0"
    explained.fill("[data-name=map]", "60")
    assert layer.evaluate("image => image.style.opacity") == "0.6"


def test_the_path_is_played_and_stepped_through(explained: Page) -> None:
    shown = explained.locator(".path img")
    last = shown.get_attribute("src")
    explained.fill("[data-name=frame]", "0")
    assert shown.get_attribute("src") != last
    explained.click("#play")
    explained.wait_for_selector("#play:has-text('Pause')")
    explained.wait_for_selector("#play:has-text('Play')")
    assert shown.get_attribute("src") == last


def test_a_question_about_valence_has_a_target(tab: Visit) -> None:
    page = tab.open()
    tab.read("smile")
    page.select_option("#question", "valence")
    page.fill(".question input[type=number]", "-0.3")
    page.click("#ask")
    page.wait_for_selector(".explanation .trust")
    assert page.inner_text(".explanation > .sentence").startswith("Valence would")


def test_a_question_about_a_unit_is_answered_about_it(tab: Visit) -> None:
    page = tab.open()
    tab.read("smile")
    page.select_option("#question", "AU12")
    tab.explain()
    assert page.inner_text(".explanation > .sentence").startswith("Lip corner puller (AU12)")


def test_what_should_not_matter_has_a_tab_of_its_own(explained: Page) -> None:
    explained.click("#tab-nuisance")
    assert not explained.query_selector(".explanation .trust")
    explained.click("#ask")
    explained.wait_for_selector(".explanation .trust")
    sentence = explained.inner_text(".explanation > .sentence")
    assert re.search(r"light|skin|action unit", sentence, re.I)
    explained.click("#tab-expression")
    assert explained.query_selector(".explanation .trust")


def test_pixels_that_made_the_decision_are_shown_when_asked_for(tab: Visit) -> None:
    page = tab.open()
    tab.read("smile")
    page.check(".question input[type=checkbox]")
    tab.explain()
    assert page.get_by_alt_text("Which pixels made the decision").is_visible()


def test_numbers_have_names_and_units(explained: Page) -> None:
    explained.click(".explanation summary")
    names = explained.locator(".scores dt").all_inner_texts()
    assert names and not [name for name in names if "_" in name]
    assert all(unit.strip() for unit in explained.locator(".scores small").all_inner_texts())


def test_another_face_of_a_group_is_explained_by_its_own_crop(tab: Visit) -> None:
    page = tab.open()
    tab.read("three")
    page.click("text=Face 2")
    with page.expect_response("**/v1/explain") as answer:
        tab.explain()
    (result,) = answer.value.json()["results"]
    chosen = page.locator(".boxes .box").nth(1)
    assert result["box"][0] == pytest.approx(float(chosen.get_attribute("x") or 0), abs=1)


def test_a_search_can_be_given_up(tab: Visit) -> None:
    page = tab.open()
    tab.read("smile")
    page.route("**/v1/explain", lambda route: None)
    page.click("#ask")
    page.click(".explanation >> text=Cancel")
    assert page.is_enabled("#ask") and not page.query_selector(".explanation .busy")
