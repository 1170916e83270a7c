"""Nothing is asked of anybody but this server, and the browser is told to see to it."""

import hashlib
import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Error, Page

from tests.support.browser import Visit, wait_for_result
from tests.support.gateway import Gateway

pytestmark = pytest.mark.processes

PAGE = Path(__file__).parents[3] / "service" / "page"


def test_a_whole_visit_stays_on_this_server(tab: Visit) -> None:
    page = tab.open()
    tab.read("three")
    tab.explain()
    page.click("nav >> text=Draw")
    wait_for_result(page, "[data-seed]")
    page.click("#draw")
    wait_for_result(page, ".results figure")
    assert not tab.foreign() and len(tab.requests) > 20


def test_the_policy_lets_nothing_in_from_elsewhere(gateway: Gateway) -> None:
    headers = gateway.get("/").headers
    policy = dict(
        part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert not re.search(r"https?:", headers["Content-Security-Policy"])
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "attempt",
    [
        "fetch('https://elsewhere.example/')",
        "new Promise((good, bad) => { const image = new Image(); image.onerror = bad; "
        "image.onload = good; image.src = 'https://elsewhere.example/a.png' })",
        "import('https://elsewhere.example/a.js')",
    ],
)
def test_the_browser_refuses_to_ask_elsewhere(tab: Visit, attempt: str) -> None:
    page = tab.open()
    refused = page.evaluate(
        f"""async () => {{
          const violation = new Promise(resolve =>
            addEventListener("securitypolicyviolation", event => resolve(event.blockedURI)));
          await {attempt}.catch(() => null);
          return violation;
        }}"""
    )
    assert refused.startswith("https://elsewhere.example")
    tab.complaints.clear()
    tab.requests = [address for address in tab.requests if "elsewhere.example" not in address]


@pytest.mark.parametrize(
    "attempt",
    [
        "document.body.setAttribute('onclick', 'document.title = 1')",
        "document.body.innerHTML = '<img src=x onerror=alert(1)>'",
    ],
)
def test_a_script_that_is_written_into_the_page_does_not_run(tab: Visit, attempt: str) -> None:
    page = tab.open()
    with pytest.raises(Error, match=r"Trusted|Content Security Policy"):
        page.evaluate(f"() => {{ {attempt} }}")
    tab.complaints.clear()


def test_vendored_files_are_those_of_the_package(tmp_path: Path) -> None:
    listed = json.loads((PAGE / "vendor" / "vendor.json").read_text())
    digests = {
        str(path.relative_to(PAGE / "vendor")): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (PAGE / "vendor").rglob("*")
        if path.is_file() and path.name != "vendor.json"
    }
    assert digests == {
        name: digest for package in listed for name, digest in package["files"].items()
    }
    assert all(package["version"] and package["licence"] for package in listed)


@pytest.mark.parametrize(
    ("path", "ready"), [("/docs", ".opblock"), ("/redoc", "[data-section-id]")]
)
def test_the_readers_of_the_interface_work_offline(tab: Visit, path: str, ready: str) -> None:
    page: Page = tab.page
    page.goto(tab.url + path)
    page.wait_for_selector(ready)
    assert "predict" in page.inner_text("body").lower()
    tab.requests = [address for address in tab.requests if "cdn.redoc" not in address]
    tab.complaints.clear()
