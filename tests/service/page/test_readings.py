"""A reading is shown in plain words, with every number's name, unit and threshold."""

from typing import Any

import pytest

from tests.support.browser import EXAMPLES, Visit
from tests.support.gateway import Gateway
from tests.support.pictures import packed
from tests.support.tiny import tiny_card

pytestmark = pytest.mark.processes

SMILE = EXAMPLES / "smile.jpg"
AT_REST = {"probability": 0.02, "intensity": 0.0, "present": False}


def _unit(probability: float, intensity: float, **sides: float) -> dict[str, Any]:
    return {
        "probability": probability,
        "intensity": intensity,
        "present": probability > 0.5,
        **sides,
    }


def _shown(tab: Visit, reading: dict[str, Any], selector: str = ".reading") -> str:
    """The text that the page makes of a reading."""
    page = tab.open()
    page.evaluate(
        """async reading => {
          const { render } = await import("/page/vendor/lit-html/lit-html.js");
          const { readingView } = await import("/page/js/reading.js");
          const place = document.createElement("div");
          place.className = "made";
          document.querySelector("main").append(place);
          render(readingView({ reading }), place);
        }""",
        {"realism": 0.5, "aus": {}, **reading},
    )
    return page.inner_text(f".made {'' if selector == '.reading' else selector}")


def test_a_reading_is_one_sentence_in_plain_words(tab: Visit) -> None:
    aus = {"AU12": _unit(0.97, 0.9), "AU6": AT_REST, "AU4": _unit(0.45, 0.2)}
    text = _shown(tab, {"valence": 0.62, "arousal": -0.2, "aus": aus}, ".sentence")
    assert text == ("Broad smile, eyes relaxed; very pleasant, calm; unsure about: the brows.")


@pytest.mark.parametrize(
    ("aus", "words"),
    [
        ({"AU6": _unit(0.9, 0.8), "AU12": _unit(0.9, 0.5)}, "broad smile that reaches the eyes"),
        ({"AU1": _unit(0.9, 0.2), "AU2": _unit(0.9, 0.1)}, "brows slightly raised"),
        ({"AU12": AT_REST}, "no movement is seen"),
    ],
)
def test_movements_that_go_together_have_one_word(
    tab: Visit, aus: dict[str, Any], words: str
) -> None:
    assert words in _shown(tab, {"aus": aus}, ".sentence").lower()


def test_warnings_come_first(tab: Visit) -> None:
    warning = {"code": "brand_new", "detail": "the face is upside down"}
    text = _shown(tab, {"aus": {"AU12": AT_REST}, "warnings": [warning]})
    assert text.startswith("Do not trust this reading") and "upside down" in text[:80]


def test_expression_pose_and_sides_are_shown_where_the_model_has_them(tab: Visit) -> None:
    text = _shown(
        tab,
        {
            "expression": {"label": "happiness", "probabilities": {"happiness": 0.8}},
            "pose": {"yaw": -12.4, "pitch": 3.0, "roll": 0.0},
            "aus": {"AU12": _unit(0.9, 0.6, left=0.7, right=0.5)},
        },
    )
    assert "happiness 80%" in text and "turned 12° to the picture's left, raised 3°" in text
    assert "tilted" not in text and "left\n0.70" in text and "right\n0.50" in text


def test_every_number_has_its_unit(tab: Visit) -> None:
    aus = {"AU12": _unit(0.9, 0.6, left=0.7, right=0.5)}
    text = _shown(tab, {"valence": 0.2, "arousal": 0.1, "aus": aus, "pose": {"yaw": 0.2}})
    assert text.count("to +1") == 2 and "Intensity\n0 to 1" in text and "90%" in text
    assert "Left, right\n0 to 1" in text and "less than 1°" in text


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("unlike_training", "upside down"),
        ("head_turned", "turned further"),
        ("finder_unsure", "not certain"),
        ("small_face", "too small"),
    ],
)
def test_every_warning_is_shown_in_plain_words_with_its_figures(
    tab: Visit, code: str, words: str
) -> None:
    warning = {"code": code, "detail": "the measured figure is 2"}
    text = _shown(tab, {"aus": {"AU12": AT_REST}, "warnings": [warning]}, ".warnings")
    assert words in text and "the measured figure is 2" in text


def test_a_model_of_one_kind_of_label_shows_that_kind(tab: Visit) -> None:
    assert "Valence" not in _shown(tab, {"aus": {"AU12": AT_REST}})
    assert "Movement" not in _shown(tab, {"valence": 0.1, "arousal": 0.2})


def test_each_unit_has_its_name_muscle_bar_and_threshold(tab: Visit) -> None:
    tab.open()
    text = tab.read("smile")
    assert "lip corner puller" in text and "zygomaticus major" in text
    card = tiny_card()
    marks = tab.page.locator(".units .mark").evaluate_all(
        "marks => marks.map(mark => Number(mark.getAttribute('x1')))"
    )
    assert len(marks) == len(card.vocabulary)
    assert set(marks) == {100 * card.calibration["AU12"].threshold}


def test_the_circumplex_has_axes_regions_and_the_point(tab: Visit, gateway: Gateway) -> None:
    tab.open()
    tab.read("smile")
    circle = tab.page.locator(".reading .circumplex")
    words = {text.strip() for text in circle.locator("text").all_text_contents()}
    assert {"delighted", "sad", "calm", "pleasant +1", "excited +1"} <= words
    answer = gateway.post("/v1/predict", {"images": packed(SMILE.read_bytes())}).json
    valence = answer["results"][0]["faces"][0]["valence"]
    assert f"valence {valence:+.2f}" in (circle.get_attribute("aria-label") or "")


def test_the_typical_error_follows_the_card(tab: Visit) -> None:
    error = tab.open().evaluate(
        """async () => {
          const { state } = await import("/page/js/store.js");
          const { typicalError } = await import("/page/js/reading.js");
          const measured = value => ({ value });
          state.card = { ...state.card, reference: { valence: [-1, 1], arousal: [0, 1] },
            quality: { valence_ccc: measured(0.5), arousal_rmse: measured(0.3) } };
          return typicalError();
        }"""
    )
    assert error["valence"] == pytest.approx(1.0) and error["arousal"] == 0.3


def test_valence_is_explained_on_hover_and_focus(tab: Visit) -> None:
    page = tab.open()
    tab.read("smile")
    assert not page.is_visible("#tip-valence")
    page.hover("[aria-describedby=tip-valence]")
    assert page.is_visible("#tip-valence")
    page.mouse.move(0, 0)
    page.locator("[aria-describedby=tip-arousal]").press("Tab")
    page.locator("[aria-describedby=tip-arousal]").focus()
    page.keyboard.press("Escape")
    assert not page.is_visible("#tip-arousal")


def test_limits_and_law_stand_beside_every_reading(tab: Visit) -> None:
    page = tab.open()
    tab.read("smile")
    plain = page.inner_text(".limits")
    assert "The model learnt from" in plain and tiny_card().data.licence in plain
    assert "at work or in education is prohibited (AI Act, Article 5(1)(f))" in plain
    page.click(".limits summary")
    law = page.inner_text(".limits")
    assert "Article 50" in law and "2 August 2026" in law and "2 December 2027" in law


def test_every_face_of_a_group_is_shown_and_read(tab: Visit) -> None:
    page = tab.open()
    first = tab.read("three")
    assert page.locator(".boxes .box-number").all_text_contents() == ["1", "2", "3"]
    page.click("text=Face 3")
    assert page.locator(".boxes .box").nth(2).get_attribute("class") == "box chosen"
    assert tab.reading() != first
    page.locator(".boxes .box").first.click()
    assert tab.reading() == first
