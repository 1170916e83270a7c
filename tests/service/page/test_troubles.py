"""What goes wrong is said in words, with a way on; a key is asked for when the server wants one."""

from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from playwright.sync_api import Browser

from service.backend.interface import BackendOverloaded
from service.settings import Settings
from tests.support.browser import Visit, visit
from tests.support.gateway import Gateway, serve
from tests.support.keys import add_key

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, str]]:
    """A gateway that wants a key, and one that it takes."""
    file: Path = tmp_path_factory.mktemp("keys") / "keys.yaml"
    key = add_key(file)
    for gateway in serve(Settings(keys_file=file)):
        yield gateway, key


@pytest.fixture
def locked_tab(browser: Browser, locked: tuple[Gateway, str]) -> Iterator[Visit]:
    with visit(browser, locked[0].url) as tab:
        yield tab


def test_no_key_is_asked_for_where_none_is_wanted(tab: Visit) -> None:
    page = tab.open()
    tab.read("smile")
    assert not page.query_selector("input[type=password]")


def test_a_key_is_asked_for_when_the_server_wants_one_and_then_used(
    locked_tab: Visit, locked: tuple[Gateway, str]
) -> None:
    page = locked_tab.open()
    assert not page.query_selector("input[type=password]")
    page.click("[data-example=smile]")
    page.fill("input[type=password]", locked[1])
    page.click(".key button")
    locked_tab.reading()
    assert not page.query_selector("input[type=password]")


def test_a_wrong_key_is_reported(locked_tab: Visit) -> None:
    page = locked_tab.open()
    page.click("[data-example=smile]")
    page.fill("input[type=password]", "ag_wrong")
    page.click(".key button")
    page.wait_for_selector(".reading [data-kind=key]")
    assert page.is_visible("input[type=password]")


def test_the_key_is_kept_nowhere(locked_tab: Visit, locked: tuple[Gateway, str]) -> None:
    page = locked_tab.open()
    page.click("[data-example=smile]")
    page.fill("input[type=password]", locked[1])
    page.click(".key button")
    locked_tab.reading()
    stored = page.evaluate(
        "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
    )
    assert locked[1] not in stored


def test_a_server_that_is_gone_is_reported_and_retried(tab: Visit) -> None:
    page = tab.open()
    page.route("**/v1/predict", lambda route: route.abort("connectionrefused"))
    page.click("[data-example=smile]")
    assert "cannot be reached" in page.inner_text("[data-kind=gone]")
    page.unroute("**/v1/predict")
    page.click("button:has-text('Try again')")
    tab.reading()


def test_a_test_that_waits_for_a_reading_fails_with_the_refusal_that_is_shown(tab: Visit) -> None:
    page = tab.open()
    page.route("**/v1/predict", lambda route: route.abort("connectionrefused"))
    with pytest.raises(AssertionError, match="cannot be reached"):
        tab.read("smile")


def test_a_server_that_is_gone_from_the_start_is_reported(tab: Visit) -> None:
    page = tab.page
    page.route("**/v1/models", lambda route: route.abort("connectionrefused"))
    page.goto(tab.url)
    page.wait_for_selector("[data-kind=gone]")
    page.unroute("**/v1/models")
    page.click("button:has-text('Try again')")
    page.wait_for_selector("[data-example]")


def test_a_busy_server_is_reported_with_the_time_it_asks_for(
    tab: Visit, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*args: object, **options: object) -> NoReturn:
        raise BackendOverloaded("full")

    page = tab.open()
    with monkeypatch.context() as now:
        now.setattr(gateway.backend, "predict", full)
        page.click("[data-example=smile]")
        text = page.inner_text("[data-kind=busy]")
    assert "busy" in text and "wait 1 s" in text
    page.click("button:has-text('Try again')")
    tab.reading()


def test_an_explanation_that_fails_is_reported_and_retried(tab: Visit) -> None:
    page = tab.open()
    tab.read("smile")
    page.route("**/v1/explain", lambda route: route.abort("connectionrefused"))
    page.click("#ask")
    page.wait_for_selector(".explanation [data-kind=gone]")
    page.unroute("**/v1/explain")
    page.click(".explanation button:has-text('Try again')")
    page.wait_for_selector(".explanation .trust")
