"""The pictures in docs/page.md, taken of a page that is being served.

python -m experiments.page_pictures [http://127.0.0.1:8000] [--out docs/pictures]

Start the server with `affectgan serve` first. Only rendered examples are shown. Needs Chromium
(`make setup` brings Debian's).
"""

import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import click
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

BROWSERS = ("chromium", "google-chrome", "chromium-headless-shell")  # the first there is
DESKTOP = {"width": 960, "height": 1100}
PHONE = {"width": 360, "height": 740}
WAIT_MS = 60_000
QUALITY = 80  # of the JPEG


def read(page: Page, example: str) -> None:
    """Choose an example, and wait for what is read."""
    page.click(f"[data-example={example}]")
    page.wait_for_selector(".reading .sentence")


def warned(page: Page) -> None:
    """A face upside down, with its warnings."""
    read(page, "upside_down")


def read_on_a_phone(page: Page) -> None:
    """The reading of a surprised face."""
    read(page, "surprise")
    page.evaluate("document.querySelector('.reading').scrollIntoView()")


def explained(page: Page) -> None:
    """A smile, and what would end it."""
    read(page, "smile")
    page.click("#ask")
    page.wait_for_selector(".explanation .trust")
    page.evaluate("document.querySelector('.explanation').scrollIntoView()")


def drawn(page: Page) -> None:
    """People, presets, sliders, and a drawn face."""
    page.get_by_text("Draw", exact=True).first.click()
    page.wait_for_selector(".people .thumb img")
    page.get_by_role("button", name="Smile", exact=True).click()
    page.click("#draw")
    page.wait_for_selector(".results img")


SHOTS: tuple[tuple[str, Callable[[Page], None], dict[str, Any]], ...] = (
    ("page-reading", warned, {"viewport": DESKTOP}),
    ("page-explanation", explained, {"viewport": DESKTOP}),
    ("page-drawing", drawn, {"viewport": DESKTOP}),
    (
        "page-phone",
        read_on_a_phone,
        {"viewport": PHONE, "color_scheme": "dark", "locale": "de-DE"},
    ),
)


@click.command()
@click.argument("url", default="http://127.0.0.1:8000")
@click.option("--out", type=click.Path(path_type=Path), default=Path("docs/pictures"))
def main(url: str, out: Path) -> None:
    """Take the four pictures."""
    with sync_playwright() as driver:
        chromium = next(filter(None, map(shutil.which, BROWSERS)), None)
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, prepare, options in SHOTS:
            path = out / f"{name}.jpg"
            path.write_bytes(_taken(browser, url, prepare, options))
            click.echo(f"{path}  {path.stat().st_size / 1e3:.0f} kB")


def _taken(
    browser: Browser, url: str, prepare: Callable[[Page], None], options: dict[str, Any]
) -> bytes:
    context = browser.new_context(**{"locale": "en-GB", **options})
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector("main h2")
    prepare(page)
    page.wait_for_load_state("networkidle")
    shot, jpeg = Image.open(BytesIO(page.screenshot())).convert("RGB"), BytesIO()
    context.close()
    shot.save(jpeg, "JPEG", quality=QUALITY, optimize=True)
    return jpeg.getvalue()


if __name__ == "__main__":
    main()
