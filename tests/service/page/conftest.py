"""A browser, and tabs of it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.support.browser import CHROMIUM, EXAMPLES, Visit, chromium, visit
from tests.support.gateway import Gateway


# Of a module, not of the session: Playwright's loop runs as long as the browser does, and no test
# with a loop of its own can run meanwhile.
@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None and os.environ.get("CI"):
        pytest.fail("no Chromium, and CI must not skip the tests of the page: see `make setup`")
    if CHROMIUM is None:
        pytest.skip("no Chromium: `make setup` as root on Debian installs it")
    film: Path = tmp_path_factory.mktemp("camera") / "smile.mjpeg"
    film.write_bytes(20 * (EXAMPLES / "smile.jpg").read_bytes())
    with chromium(film) as started:
        yield started


@pytest.fixture
def tab(browser: Browser, gateway: Gateway) -> Iterator[Visit]:
    """A visit of the page. It fails when a script does, or something is asked for elsewhere."""
    with visit(browser, gateway.url) as opened:
        yield opened
        assert not opened.complaints and not opened.foreign()
