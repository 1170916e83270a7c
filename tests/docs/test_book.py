"""The book: it builds without a warning, its links lead somewhere, its commands exist, its snippets
run.
"""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import nbformat
import pytest
from nbclient import NotebookClient

from affect.cli import cli
from service.settings import Settings
from tests.support.browser import EXAMPLES
from tests.support.gateway import Gateway, serve

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
NOTEBOOK = DOCS / "notebooks" / "training.ipynb"
GATEWAY = "http://127.0.0.1:8000"  # as the book writes it
PAGES = sorted({*DOCS.glob("*.md"), ROOT / "README.md"})
WITH_REQUESTS = [
    path for path in PAGES if path.stem in ("start", "reading", "drawing", "explaining")
]


def _blocks(path: Path, language: str) -> list[str]:
    """Code of a page in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.M | re.S)


def _commands() -> Iterator[tuple[str, str]]:
    """Every line of the book and of the notebook that runs `affectgan`, with its page."""
    texts = {path.name: "\n".join(_blocks(path, "(?:sh|text)?")) for path in PAGES}
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    texts[NOTEBOOK.name] = "\n".join(cell.source for cell in cells)
    for name, text in texts.items():
        joined = text.replace("\\\n", " ")
        for line in re.findall(r"^(?:\.venv/bin/)?affectgan (.+)$", joined, re.M):
            yield name, line


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_the_site_is_built_without_a_warning_and_asks_nobody_else(site: Path) -> None:
    assert (site / "index.html").is_file() and (site / "reference" / "http.html").is_file()
    for page in site.rglob("*.html"):
        loaded = re.findall(
            r"<(?:script|img|link)[^>]+(?:src|href)=\"(https?:[^\"]+)", page.read_text()
        )
        assert not loaded, page


def test_made_pages_say_what_they_were_made_from(site: Path) -> None:
    http = (site / "reference" / "http.html").read_text()
    assert "/v1/explain" in http and "ActionUnitReading" in http
    assert "AFFECTGAN_CORS_ORIGINS" in (site / "reference" / "settings.html").read_text()
    assert "affectgan data import" in (site / "reference" / "commands.html").read_text()
    assert "predict_each" in (site / "reference" / "python.html").read_text()
    assert "rendered" in (site / "model-card.html").read_text()
    assert (site / "decisions" / "0017-page.html").is_file()


def test_every_command_of_the_book_has_its_options() -> None:
    lines = list(_commands())
    assert len(lines) > 10
    for page, line in lines:
        _parse(page, shlex.split(line, comments=True))


def _parse(page: str, words: list[str]) -> None:
    """Raises when a command or an option of it does not exist."""
    command: click.Command = cli
    context = click.Context(command)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        assert found is not None, f"{page}: no command {words[0]}"
        command, words = found, words[1:]
        context = click.Context(command, parent=context)
    try:
        command.make_parser(context).parse_args(list(words))
    except click.UsageError as error:
        pytest.fail(f"{page}: affectgan {' '.join(words)}: {error.message}")


@pytest.fixture(scope="module")
def open_gateway() -> Iterator[Gateway]:
    yield from serve(Settings())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a reader of the book stands, with pictures of his own."""
    shutil.copy(EXAMPLES / "smile.jpg", tmp_path / "photo.jpg")
    shutil.copy(EXAMPLES / "three.jpg", tmp_path / "group.jpg")
    return tmp_path


@pytest.mark.parametrize("page", WITH_REQUESTS, ids=lambda path: path.stem)
def test_the_python_of_a_page_runs(page: Path, open_gateway: Gateway, folder: Path) -> None:
    for code in _blocks(page, "python"):
        run = code.replace(GATEWAY, open_gateway.url)
        done = subprocess.run(
            [sys.executable, "-c", run], cwd=folder, capture_output=True, text=True
        )
        assert done.returncode == 0 and done.stdout, done.stderr


@pytest.mark.parametrize("page", WITH_REQUESTS, ids=lambda path: path.stem)
def test_the_requests_of_a_page_are_answered(
    page: Path, open_gateway: Gateway, folder: Path
) -> None:
    requests = [block for block in _blocks(page, "sh") if block.startswith("curl")]
    assert requests
    for request in requests:
        run = request.replace(GATEWAY, open_gateway.url).replace("curl -s", "curl -sf")
        done = subprocess.run(["sh", "-c", run], cwd=folder, capture_output=True)
        assert done.returncode == 0, request
        assert done.stdout.startswith(b'{"model"') or (folder / "face.png").stat().st_size > 100


def test_every_picture_of_the_book_is_used() -> None:
    text = "".join(path.read_text() for path in [*PAGES, ROOT / "mkdocs.yml"])
    unused = [
        path.name
        for path in (DOCS / "pictures").rglob("*")
        if path.is_file() and str(path.relative_to(DOCS)) not in text
    ]
    assert not unused


def test_the_notebook_is_kept_without_what_it_printed() -> None:
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]


@pytest.mark.slow
def test_the_training_notebook_runs_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("docs", "service", "weights"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    book = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(book, timeout=1800, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert (tmp_path / "runs" / "tiny" / "report.html").is_file()
    assert (tmp_path / "models" / "tiny" / "affectgan-explain.mar").is_file()
