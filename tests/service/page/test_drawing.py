"""People to pick, states to begin from, sliders that can be let go, faces that say they are
synthetic.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Page

from tests.support.browser import Visit, wait_for_result
from tests.support.tiny import tiny_card

pytestmark = pytest.mark.processes


@pytest.fixture
def page(tab: Visit) -> Page:
    """The view, with people to pick."""
    opened = tab.open("/#draw")
    wait_for_result(opened, "[data-seed]")
    return opened


def _drawn(page: Page) -> dict[str, Any]:
    """What is asked when faces are drawn; they are there afterwards."""
    with page.expect_request("**/v1/generate") as sent:
        page.click("#draw")
    wait_for_result(page, ".results[aria-busy=false] figure")
    body: dict[str, Any] = json.loads(sent.value.post_data or "")
    return body


def test_a_preset_sets_the_sliders_that_the_model_has(page: Page) -> None:
    page.click("[data-preset=smile]")
    assert page.input_value("#wish-AU12") == "0.9" and page.input_value("#wish-valence") == "0.7"
    (item,) = _drawn(page)["items"]
    assert item == {"aus": {"AU6": 0.6, "AU12": 0.9, "AU25": 0.6}, "valence": 0.7, "seed": 1}


def test_every_preset_is_drawn(page: Page) -> None:
    names = page.locator("[data-preset]").evaluate_all("all => all.map(b => b.dataset.preset)")
    for name in names:
        page.click(f"[data-preset={name}]")
        _drawn(page)
        assert not page.query_selector(".trouble"), name


def test_sliders_are_named_and_grouped_by_the_part_of_the_face(page: Page) -> None:
    groups = page.locator("legend").all_inner_texts()
    assert {"Brows", "Nose and cheeks", "Mouth and chin"} <= set(groups)
    names = page.locator(".wish label").all_inner_texts()
    assert "lip corner puller" in names and len(names) == len(tiny_card().vocabulary) + 2


def test_a_slider_is_let_go_by_keyboard(page: Page) -> None:
    slider = page.locator("#wish-AU12")
    assert slider.get_attribute("aria-valuetext") == "any"
    slider.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "0.05"
    slider.press("Delete")
    assert slider.get_attribute("aria-valuetext") == "any"
    assert _drawn(page)["items"] == [{"aus": {}, "seed": 1}]


def test_valence_and_arousal_are_dragged_in_the_circle(page: Page) -> None:
    circle = page.locator(".circumplex.draggable")
    frame = circle.bounding_box()
    assert frame is not None
    middle = frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + frame["width"] * 96 / 260 / 2, middle[1])
    page.mouse.up()
    assert float(page.input_value("#wish-valence")) == pytest.approx(0.5, abs=0.06)
    assert float(page.input_value("#wish-arousal")) == pytest.approx(0.0, abs=0.06)


def test_people_are_picked_by_their_faces(page: Page) -> None:
    page.click("[data-seed='3']")
    page.click("[data-seed='1']")
    assert [item["seed"] for item in _drawn(page)["items"]] == [3]
    page.click("#others")
    page.wait_for_selector("[data-seed='7']")


def test_a_read_face_can_be_drawn_in_another_state(tab: Visit) -> None:
    page = tab.open()
    tab.read("three")
    page.click("text=Face 2")
    page.click("nav >> text=Draw")
    page.click("#reference")
    body = _drawn(page)
    assert body["face"] == 1 and body["items"][0]["reference"]["content"]


def test_while_it_draws_it_says_so_and_can_be_stopped(page: Page) -> None:
    page.route("**/v1/generate", lambda route: None)
    page.click("#draw")
    assert page.is_visible(".results[aria-busy=true] .busy") and page.is_disabled("#draw")
    page.click(".results >> text=Cancel")
    assert page.is_enabled("#draw")


def test_it_draws_with_each_change_when_asked_to(page: Page) -> None:
    with page.expect_response("**/v1/generate"):
        page.check("text=Draw with each change")
    with page.expect_request("**/v1/generate") as sent:
        page.locator("#wish-AU12").press("End")
    assert json.loads(sent.value.post_data or "")["items"][0]["aus"] == {"AU12": 1}
    page.wait_for_selector(".results[aria-busy=false] figure")


def test_a_face_is_saved_and_says_in_its_metadata_that_it_is_synthetic(
    page: Page, tmp_path: Path
) -> None:
    _drawn(page)
    with page.expect_download() as saved:
        page.click(".results >> text=Save")
    picture = Image.open(saved.value.path())
    assert saved.value.suggested_filename == "face-1.png"
    assert "synthetic" in str(picture.info["Comment"])


def test_the_aim_stands_beside_what_is_read_back(page: Page) -> None:
    page.click("[data-preset=smile]")
    _drawn(page)
    page.click(".results summary")
    rows = page.locator(".results tbody tr").all_inner_texts()
    assert rows[0].startswith("Valence\t+0.70\t")
    assert any(row.startswith("lip corner puller (AU12)\t0.90\t0.") for row in rows)


def test_a_drawn_face_is_read_back_and_can_be_questioned(page: Page) -> None:
    _drawn(page)
    assert "Read back" in page.inner_text(".results figcaption")
    page.click("text=Read and question it")
    page.wait_for_selector(".reading .sentence")
    assert page.is_checked(".picture input[type=checkbox]") and page.is_enabled("#ask")
