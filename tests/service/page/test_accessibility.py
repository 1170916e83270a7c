"""axe finds nothing in any state, the keyboard reaches everything, 320 px are enough, dark is
dark.
"""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, Route

from tests.support.browser import EXAMPLES, PHONE, Gate, Visit, visit, wait_for_result
from tests.support.gateway import Gateway

pytestmark = pytest.mark.processes

FAR_TOO_WIDE = "() => document.documentElement.scrollWidth > document.documentElement.clientWidth"


def _empty(tab: Visit) -> None:
    tab.open()


def _reading(tab: Visit) -> None:
    page = tab.open()
    Gate.before(page, "/v1/predict")
    page.click("[data-example=smile]")
    page.wait_for_selector(".reading .busy")


def _read(tab: Visit) -> None:
    tab.open()
    tab.read("smile")
    for fold in tab.page.locator(".reading summary").all():
        fold.click()


def _hint(tab: Visit) -> None:
    _read(tab)
    tab.page.hover("[aria-describedby=tip-valence]")


def _group(tab: Visit) -> None:
    tab.open()
    tab.read("three")


def _no_face(tab: Visit) -> None:
    page = tab.open()
    page.set_input_files("#files", EXAMPLES.parent / "icon.svg")
    page.wait_for_selector(".reading .trouble")


def _searching(tab: Visit) -> None:
    tab.open()
    tab.read("smile")
    Gate.before(tab.page, "/v1/explain")
    tab.page.click("#ask")
    tab.page.wait_for_selector(".explanation .busy")


def _explained(tab: Visit) -> None:
    tab.open()
    tab.read("smile")
    tab.page.check(".question input[type=checkbox]")
    tab.explain()
    tab.page.click(".explanation summary")


def _nuisance(tab: Visit) -> None:
    tab.open()
    tab.read("smile")
    tab.page.click("#tab-nuisance")
    tab.explain()


def _camera(tab: Visit) -> None:
    tab.page.context.grant_permissions(["camera"])
    tab.open()
    tab.page.click("#camera")
    wait_for_result(tab.page, ".reading .sentence")


def _people(tab: Visit) -> None:
    tab.open("/#draw")
    wait_for_result(tab.page, "[data-seed]")


def _drawn(tab: Visit) -> None:
    _people(tab)
    tab.page.click("[data-preset=smile]")
    tab.page.click("#draw")
    wait_for_result(tab.page, ".results figure")


def _gone(tab: Visit) -> None:
    tab.open()
    tab.page.route("**/v1/predict", lambda route: route.abort())
    tab.page.click("[data-example=smile]")
    tab.page.wait_for_selector("[data-kind=gone]")


def _busy(tab: Visit) -> None:
    tab.open()
    headers = {"Retry-After": "3"}
    tab.page.route("**/v1/predict", lambda route: route.fulfill(status=503, headers=headers))
    tab.page.click("[data-example=smile]")
    tab.page.wait_for_selector("[data-kind=busy]")


def _key_asked(tab: Visit) -> None:
    tab.open()
    tab.page.route("**/v1/predict", lambda route: route.fulfill(status=401))
    tab.page.click("[data-example=smile]")
    tab.page.wait_for_selector("[type=password]")


def _warned(tab: Visit) -> None:
    tab.open()
    tab.page.route("**/v1/predict", _with_a_warning)
    tab.read("upside_down")
    tab.page.wait_for_selector(".warnings")


def _with_a_warning(route: Route) -> None:
    answer = route.fetch()
    body = answer.json()
    body["results"][0]["faces"][0]["warnings"] = [{"code": "small_face", "detail": "30 px"}]
    route.fulfill(response=answer, json=body)


def _drawing(tab: Visit) -> None:
    _people(tab)
    Gate.before(tab.page, "/v1/generate")
    tab.page.click("#draw")
    tab.page.wait_for_selector(".results .busy")


def _checked(tab: Visit) -> None:
    tab.open("/#check")
    tab.page.set_input_files("#check-files", EXAMPLES / "smile.jpg")
    wait_for_result(tab.page, "[data-verdict]")


STATES: tuple[Callable[[Visit], None], ...] = (
    _empty,
    _reading,
    _read,
    _hint,
    _group,
    _no_face,
    _searching,
    _explained,
    _nuisance,
    _camera,
    _people,
    _drawing,
    _drawn,
    _warned,
    _gone,
    _busy,
    _key_asked,
    _checked,
)


@pytest.mark.parametrize("state", STATES)
def test_axe_finds_no_violation_by_day_and_by_night(
    browser: Browser, gateway: Gateway, state: Callable[[Visit], None]
) -> None:
    with visit(browser, gateway.url, color_scheme="light") as tab:
        state(tab)
        assert not tab.violations()
        tab.page.emulate_media(color_scheme="dark")
        assert not tab.violations()


@pytest.fixture
def phone(browser: Browser, gateway: Gateway) -> Iterator[Visit]:
    with visit(browser, gateway.url, viewport=PHONE, has_touch=True) as tab:
        yield tab


@pytest.mark.parametrize("state", [_read, _hint, _group, _explained, _drawn, _warned, _checked])
def test_a_phone_needs_no_sideways_scroll(phone: Visit, state: Callable[[Visit], None]) -> None:
    state(phone)
    assert not phone.page.evaluate(FAR_TOO_WIDE)
    assert not phone.violations()


def test_german_words_fit_a_phone(phone: Visit) -> None:
    phone.page.goto(phone.url + "/?lang=de")
    phone.page.wait_for_selector("main h2")
    phone.read("smile")
    assert not phone.page.evaluate(FAR_TOO_WIDE)


def test_dark_follows_the_system(browser: Browser, gateway: Gateway) -> None:
    with visit(browser, gateway.url, color_scheme="dark") as tab:
        ground = tab.open().evaluate("getComputedStyle(document.body).backgroundColor")
        assert sum(map(int, ground[4:-1].split(", "))) < 128


def _focused(page: Page) -> str:
    name: str = page.evaluate(
        "document.activeElement.textContent.trim() || document.activeElement.id"
    )
    return name


def test_the_first_key_skips_to_the_content(tab: Visit) -> None:
    page = tab.open()
    page.keyboard.press("Tab")
    assert _focused(page) == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_a_face_is_read_and_questioned_by_keyboard_alone(tab: Visit) -> None:
    page = tab.open()
    page.focus("[data-example=smile]")
    page.keyboard.press("Enter")
    wait_for_result(page, ".reading .sentence")
    page.focus("#tab-expression")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute("#tab-nuisance", "aria-selected") == "true"
    page.keyboard.press("ArrowLeft")
    page.focus("#ask")
    page.keyboard.press("Space")
    wait_for_result(page, ".explanation .trust")


def test_every_control_can_be_reached_by_tab(tab: Visit) -> None:
    page = tab.open()
    tab.read("three")
    reachable = page.locator("a[href], button:not(:disabled), select, input").evaluate_all(
        "all => all.filter(one => one.tabIndex < 0).map(one => one.id)"
    )
    assert reachable == ["tab-nuisance"]  # by arrow from the other tab


def test_events_are_announced_to_screen_readers(tab: Visit) -> None:
    page = tab.open()
    tab.read("smile")
    assert page.inner_text("[role=status]") == "A smile is read. Faces: 1."
    tab.explain()
    assert page.inner_text("[role=status]") == "The explanation is there."
