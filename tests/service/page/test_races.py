"""Every answer belongs to the picture, face or request that it was asked for, however late it
comes.
"""

import pytest

from tests.support.browser import EXAMPLES, Gate, Visit

pytestmark = pytest.mark.processes


def test_a_late_reading_does_not_stand_beside_another_picture(tab: Visit) -> None:
    page = tab.open()
    gate = Gate.before(page, "/v1/predict")
    page.click("[data-example=smile]")
    page.wait_for_selector("[data-status=reading]")
    other = tab.read("surprise")
    gate.open()
    page.wait_for_selector("[data-status=read] >> nth=1")
    assert tab.reading() == other and page.inner_text(".picture h3") == "Surprise"
    page.click(".strip .thumb >> nth=0")
    assert tab.reading() != other and page.inner_text(".picture h3") == "A smile"


def test_a_late_explanation_does_not_stand_beside_another_picture(tab: Visit) -> None:
    page = tab.open()
    tab.read("smile")
    gate = Gate.before(page, "/v1/explain")
    page.click("#ask")
    page.wait_for_selector(".explanation[aria-busy=true]")
    tab.read("surprise")
    gate.open()
    assert not page.query_selector(".explanation .trust, .explanation .busy")
    page.click(".strip .thumb >> nth=0")
    page.wait_for_selector(".explanation .trust")


def test_an_explanation_goes_with_the_face_that_is_chosen(tab: Visit) -> None:
    page = tab.open()
    tab.read("three")
    tab.explain()
    page.click("text=Face 2")
    assert not page.query_selector(".explanation .trust")
    page.click("text=Face 1")
    assert page.query_selector(".explanation .trust")


def test_a_picture_that_is_removed_is_not_read_to_the_end(tab: Visit) -> None:
    page = tab.open()
    Gate.before(page, "/v1/predict")
    page.click("[data-example=smile]")
    page.wait_for_selector("[data-status=reading]")
    with page.expect_event("requestfailed", lambda request: "/v1/predict" in request.url):
        page.click("text=Remove this picture")
    assert page.is_visible("text=No picture yet.")


def test_explaining_waits_for_a_face(tab: Visit) -> None:
    page = tab.open()
    assert page.is_disabled("#ask")
    gate = Gate.before(page, "/v1/predict")
    page.set_input_files("#files", EXAMPLES / "smile.jpg")
    page.wait_for_selector("[data-status=reading]")
    assert page.is_disabled("#ask")
    gate.open()
    page.wait_for_selector("#ask:enabled")


def test_the_last_request_is_the_one_that_is_shown(tab: Visit) -> None:
    page = tab.open("/#draw")
    page.wait_for_selector("[data-seed]")
    gate = Gate.before(page, "/v1/generate")
    page.click("#draw")
    page.wait_for_selector(".results[aria-busy=true]")
    page.click("text=Cancel")
    page.click("[data-seed='2']")
    page.click("#draw")
    page.wait_for_selector(".results figure >> nth=1")
    drawn = page.locator(".results img").evaluate_all("images => images.map(image => image.alt)")
    gate.held[0].abort()
    assert drawn == ["Drawn face, person 1", "Drawn face, person 2"]
