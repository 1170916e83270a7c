"""A visitor with a real browser: Debian's Chromium, driven by Playwright."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, sync_playwright

from tests.support.waiting import LIMIT_SECONDS

# The shell is Chromium without its own windows: the same pages for half of the processor's time.
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
EXAMPLES = Path(__file__).parents[2] / "service" / "page" / "examples"
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 320, "height": 640}
OF_THE_PAGE = ("data:", "blob:")
TIMEOUT_MS = 1000 * LIMIT_SECONDS  # for what must happen; tests wait for states, never for a time


def wait_for_result(page: Page, selector: str) -> None:
    """Wait until it is visible; fail at once, with its text, when the page shows a refusal."""
    result, trouble = page.locator(selector), page.locator(".trouble")
    result.or_(trouble).first.wait_for()
    assert result.count(), f"no {selector}; the page says: {trouble.first.inner_text()}"


@dataclass
class Visit:
    """A tab, and what it asked for and complained about since it was opened."""

    page: Page
    url: str
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def open(self, address: str = "/") -> Page:
        """Go there, and wait until the page is ready."""
        self.page.goto(self.url + address)
        self.page.wait_for_selector("main h2")
        return self.page

    def read(self, name: str) -> str:
        """Choose an example, and wait for its reading."""
        before = self.page.locator(".strip .thumb").count()
        self.page.click(f"[data-example={name}]")
        self.page.wait_for_selector(f".strip .thumb >> nth={before}")
        wait_for_result(self.page, ".strip [aria-pressed=true][data-status=read]")
        return self.reading()

    def reading(self) -> str:
        """The text of the reading that is shown, once there is one."""
        self.page.wait_for_selector(".reading .sentence")
        return self.page.inner_text(".reading")

    def explain(self) -> None:
        """Question the face, and wait for the answer."""
        self.page.click("#ask")
        wait_for_result(self.page, ".explanation .trust")

    def foreign(self) -> list[str]:
        """What was asked of anybody but this server."""
        ours = (self.url, *OF_THE_PAGE)
        return [address for address in self.requests if not address.startswith(ours)]

    def violations(self) -> list[str]:
        """What axe finds against the rules of WCAG and good practice."""
        options = {"resultTypes": ["violations"]}
        violations_found = Axe().run(self.page, options=options).response["violations"]
        return [
            f"{rule['id']}: {node['html']} ({node['failureSummary']})"
            for rule in violations_found
            for node in rule["nodes"]
        ]


@contextmanager
def chromium(camera: Path) -> Iterator[Browser]:
    """The browser. What its camera sees is a film of JPEGs, one after the other."""
    flags = [
        "--disable-gpu",  # without one, a processor would play it
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={camera}",
    ]
    if os.geteuid() == 0:
        flags.append("--no-sandbox")  # Chromium's own sandbox refuses to run as root
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@contextmanager
def visit(browser: Browser, url: str, **options: Any) -> Iterator[Visit]:
    """A new tab without a past."""
    context = browser.new_context(**{"viewport": DESKTOP, "locale": "en-GB", **options})
    context.set_default_timeout(TIMEOUT_MS)
    tab = Visit(context.new_page(), url)
    tab.page.on("request", lambda request: tab.requests.append(request.url))
    tab.page.on("pageerror", lambda error: tab.complaints.append(str(error)))
    tab.page.on("console", lambda message: _record(tab, message.type, message.text))
    yield tab
    context.close()


def _record(tab: Visit, kind: str, text: str) -> None:
    if kind == "error" and "Failed to load resource" not in text:  # a refusal is no fault
        tab.complaints.append(text)


@dataclass
class Gate:
    """Holds the first request that a tab sends to a path, until it is opened."""

    held: list[Route] = field(default_factory=list)

    @classmethod
    def before(cls, page: Page, path: str) -> "Gate":
        """Hold the next request to this path."""
        gate = cls()
        page.route(f"**{path}", gate._hold)
        return gate

    def _hold(self, route: Route) -> None:
        if self.held:
            route.continue_()
        else:
            self.held.append(route)

    def open(self) -> None:
        """Let it go, and wait for its answer."""
        request = self.held[0].request
        with request.frame.page.expect_response(lambda answer: answer.request == request):
            self.held[0].continue_()
