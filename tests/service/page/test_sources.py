"""Pictures come by file, folder, drop, paste, camera, example and address."""

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, JSHandle, Page

from service.settings import Settings
from tests.support.browser import EXAMPLES, Visit, visit
from tests.support.gateway import serve

pytestmark = pytest.mark.processes

SMILE, SADNESS = EXAMPLES / "smile.jpg", EXAMPLES / "sadness.jpg"


def _transfer(page: Page, *files: Path) -> JSHandle:
    """What a drop or a paste of these files carries."""
    contents = [[path.name, base64.b64encode(path.read_bytes()).decode()] for path in files]
    return page.evaluate_handle(
        """contents => {
          const transfer = new DataTransfer();
          for (const [name, text] of contents) {
            const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
            transfer.items.add(new File([bytes], name, { type: "image/jpeg" }));
          }
          return transfer;
        }""",
        contents,
    )


def _names(page: Page, count: int) -> list[str]:
    """Names in the strip, once so many are read."""
    page.wait_for_selector(f"[data-status=read] >> nth={count - 1}")
    return page.locator(".strip .thumb-name").all_inner_texts()


def test_several_files_are_read_and_the_first_is_shown(tab: Visit) -> None:
    page = tab.open()
    page.set_input_files("#files", [SMILE, SADNESS])
    assert _names(page, 2) == ["smile.jpg", "sadness.jpg"]
    assert page.inner_text(".picture h3") == "smile.jpg"


def test_a_folder_is_read_with_the_pictures_in_it(tab: Visit, tmp_path: Path) -> None:
    (tmp_path / "deeper").mkdir()
    shutil.copy(SMILE, tmp_path / "one.jpg")
    shutil.copy(SADNESS, tmp_path / "deeper" / "two.jpg")
    (tmp_path / "notes.txt").write_text("no picture")
    page = tab.open()
    page.set_input_files("#folder", tmp_path)
    assert sorted(_names(page, 2)) == ["one.jpg", "two.jpg"]


def test_pictures_are_dropped(tab: Visit) -> None:
    page = tab.open()
    page.dispatch_event(".drop", "drop", {"dataTransfer": _transfer(page, SMILE, SADNESS)})
    assert _names(page, 2) == ["smile.jpg", "sadness.jpg"]


def test_a_picture_is_pasted(tab: Visit) -> None:
    page = tab.open()
    page.evaluate(
        "data => dispatchEvent(new ClipboardEvent('paste', { clipboardData: data }))",
        _transfer(page, SMILE),
    )
    assert _names(page, 1) == ["smile.jpg"]


def test_the_camera_is_read_frame_by_frame_until_one_is_kept(tab: Visit) -> None:
    tab.page.context.grant_permissions(["camera"])
    page = tab.open()
    with page.expect_response("**/v1/predict"):
        page.click("#camera")
    with page.expect_response("**/v1/predict"):  # and the next frame, unasked
        tab.reading()
    page.click("text=Keep this picture")
    assert _names(page, 1) == ["camera.jpg"] and not page.query_selector("video")


def test_a_camera_that_is_refused_is_reported(tab: Visit) -> None:
    page = tab.open()
    page.evaluate(
        "() => { navigator.mediaDevices.getUserMedia = async () => { throw new Error('denied') } }"
    )
    page.click("#camera")
    assert "denied" in page.inner_text("[data-kind=no_camera]")


def test_six_examples_are_built_in(tab: Visit) -> None:
    page = tab.open()
    assert page.locator("[data-example]").count() == 6
    for name in ("surprise", "anger", "sadness"):
        assert "Probability" in tab.read(name)


def test_a_kind_that_the_server_does_not_take_is_sent_as_png(tab: Visit, tmp_path: Path) -> None:
    film = tmp_path / "smile.gif"
    Image.open(SMILE).save(film)
    page = tab.open()
    page.set_input_files("#files", film)
    assert _names(page, 1) == ["smile.gif"]


def test_a_file_that_is_no_picture_is_reported_and_its_neighbour_read(
    tab: Visit, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.gif"
    broken.write_bytes(b"GIF89a no more")
    page = tab.open()
    page.set_input_files("#files", [broken, SMILE])
    page.wait_for_selector("[data-kind=not_a_picture]")
    page.click("text=smile.jpg")
    tab.reading()


def test_there_is_no_field_for_addresses(tab: Visit) -> None:
    assert not tab.open().query_selector(".address")


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    """Another server with a picture, which lets pages of any origin read it."""
    for other in serve(Settings(cors_origins=("http://127.0.0.1:1",))):
        yield other.url


def test_a_named_host_may_be_loaded_from_and_no_other(browser: Browser, elsewhere: str) -> None:
    for named in serve(Settings(page_picture_origins=(elsewhere,))):
        with visit(browser, named.url) as tab:
            page = tab.open()
            page.route(
                f"{elsewhere}/smile.jpg",
                lambda route: route.fulfill(
                    path=SMILE, headers={"Access-Control-Allow-Origin": "*"}
                ),
            )
            page.fill("[name=address]", f"{elsewhere}/smile.jpg")
            page.click(".address button")
            assert _names(page, 1) == ["smile.jpg"]
            page.fill("[name=address]", "https://pictures.example/a.jpg")
            page.click(".address button")
            page.wait_for_selector("[data-kind=foreign]")
