"""An operator's commands against a running gateway, through its socket."""

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn
from click.testing import CliRunner

from affect.card import ModelCard
from service.api.app import create_app
from service.backend.pool import ModelServerPool
from service.cli.admin import admin_server, admin_socket
from service.cli.models import models
from service.cli.server import listen
from service.settings import Settings
from tests.support.archives import tiny_archives
from tests.support.gateway import Gateway, LocalBackend
from tests.support.pictures import CROPS, FACE, encoded, packed
from tests.support.tiny import tiny_card, tiny_model
from tests.support.waiting import until


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("versions")
    return {version: tiny_archives(folder, version=version) for version in ("1.0", "1.1")}


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[LocalBackend]:
    card = tiny_card().model_copy(update={"version": ModelCard.load(folder).version})
    yield LocalBackend(tiny_model(card), delay_seconds=0.02)


@pytest.fixture
def gateway(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Gateway]:
    """A server as `affectgan serve` runs it, but with models in this process."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    listening = listen("127.0.0.1", 0)
    port = listening.getsockname()[1]
    servers: list[uvicorn.Server] = []

    async def run() -> None:
        async with ModelServerPool(opened) as pool:
            await pool.open(folders["1.0"])
            app = create_app(Settings(), backends=pool.backends)
            servers.append(uvicorn.Server(uvicorn.Config(app, log_level="warning")))
            async with admin_server(app, pool, admin_socket(port)):
                await servers[0].serve(sockets=[listening])

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    while not (servers and servers[0].started) and thread.is_alive():
        thread.join(0.01)
    yield Gateway(f"http://127.0.0.1:{port}", LocalBackend(tiny_model()), servers[0])
    servers[0].should_exit = True
    thread.join(10)


def run_command(gateway: Gateway, *words: object, fails: bool = False) -> str:
    """What an operator's command prints."""
    result = CliRunner().invoke(models, [*map(str, words), "--port", gateway.url.rsplit(":", 1)[1]])
    assert (result.exit_code != 0) == fails, result.output
    return result.output


def test_versions_are_added_weighed_and_removed(gateway: Gateway, folders: dict[str, Path]) -> None:
    assert "affectgan 1.1 is open" in run_command(gateway, "add", folders["1.1"])
    assert "served already" in run_command(gateway, "add", folders["1.1"], fails=True)
    assert "25.0 %" in run_command(gateway, "weigh", "1.0=3", "1.1=1")
    assert "no version '9'" in run_command(gateway, "default", "9", fails=True)
    assert "make another the default" in run_command(gateway, "remove", "1.0", fails=True)
    assert "shadow" in run_command(
        gateway, "shadow", "1.0", "--share", "0.5", "--model", "affectgan"
    )
    assert "shadow" not in run_command(gateway, "shadow")
    assert "100.0 %" in run_command(gateway, "default", "1.1")
    assert "affectgan 1.0 is closed" in run_command(gateway, "remove", "1.0")
    assert [model["version"] for model in gateway.get("/v1/models").json["models"]] == ["1.1"]


def test_a_swap_under_load_is_one_command_and_loses_nothing(
    gateway: Gateway, folders: dict[str, Path]
) -> None:
    answers: list[tuple[int, str]] = []
    stop = threading.Event()

    def client() -> None:
        while not stop.is_set():
            reply = gateway.post("/v1/predict", {"images": packed(encoded(FACE)), "options": CROPS})
            answers.append((reply.status, reply.json.get("model", {}).get("version")))

    clients = [threading.Thread(target=client) for _ in range(4)]
    for thread in clients:
        thread.start()
    until(lambda: len(answers) > 20)
    printed = run_command(gateway, "swap", folders["1.1"]).splitlines()
    at_swap = len(answers)
    until(lambda: len(answers) > at_swap + 20)
    stop.set()
    for thread in clients:
        thread.join()
    assert printed == ["affectgan 1.1 is open", "affectgan 1.1 answers", "affectgan 1.0 is closed"]
    assert Counter(status for status, _ in answers) == {200: len(answers)}
    assert {version for _, version in answers[:20]} == {"1.0"} and {
        version for _, version in answers[at_swap + 4 :]
    } == {"1.1"}


def test_the_socket_is_the_users_own(gateway: Gateway) -> None:
    path = admin_socket(int(gateway.url.rsplit(":", 1)[1]))
    assert path.is_socket() and path.parent.stat().st_mode & 0o077 == 0
    path.parent.chmod(0o755)
    with pytest.raises(ValueError, match="yours alone"):
        admin_socket(1)


def test_without_a_server_it_says_how_to_start_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = CliRunner().invoke(models, ["list", "--port", "1"])
    assert result.exit_code == 1 and "affectgan serve --port 1" in result.output
