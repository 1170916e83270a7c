"""TorchServe itself: up when its workers are, restarted when it dies, gone when we are."""

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from affect.archive import OPERATIONS, Operation, archive_of
from service.backend.child_process import NICENESS
from service.backend.torchserve_config import TorchServeError
from service.backend.torchserve_management import connect, has_ready_worker
from service.backend.torchserve_process import FOLDER_PREFIX, TorchServeProcess
from tests.support.archives import altered_archive, copied
from tests.support.waiting import LIMIT_SECONDS

HOLDER = """
import asyncio, sys
from pathlib import Path
from service.backend.torchserve_process import TorchServeProcess

async def main():
    models = Path(sys.argv[1])
    async with TorchServeProcess(models, start_seconds=240, operations=["predict"]) as server:
        print(server.folder, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""
ALONE: Sequence[Operation] = ("predict",)  # enough where a whole server is not asked for
pytestmark = [pytest.mark.processes, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(models: Path) -> AsyncIterator[TorchServeProcess]:
    async with TorchServeProcess(models, start_seconds=LIMIT_SECONDS) as server:
        yield server


def front_end(marker: Path) -> psutil.Process | None:
    """The Java process that was started in this folder."""
    processes = (
        process
        for process in psutil.process_iter()
        if f"-Djava.io.tmpdir={marker}" in arguments(process)
    )
    return next(processes, None)


def arguments(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def running(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run. Killed ones are zombies until init reaps them."""
    _, alive = psutil.wait_procs(processes, timeout=2)
    return [
        process
        for process in alive
        if process.is_running() and _status(process) != psutil.STATUS_ZOMBIE
    ]


def _status(process: psutil.Process) -> str:
    try:
        return str(process.status())
    except psutil.NoSuchProcess:
        return str(psutil.STATUS_ZOMBIE)


async def until_gone(processes: list[psutil.Process], seconds: float = LIMIT_SECONDS) -> None:
    async with asyncio.timeout(seconds):
        while running(processes):
            await asyncio.sleep(0.05)


async def ready(server: TorchServeProcess) -> bool:
    async with connect(server.management) as session:
        return all([await has_ready_worker(session, operation) for operation in OPERATIONS])


async def test_every_operation_has_a_ready_worker_once_entered(server: TorchServeProcess) -> None:
    assert await ready(server)


async def test_nothing_listens_beyond_loopback(server: TorchServeProcess) -> None:
    process = front_end(server.folder)
    assert process is not None
    listening = [c for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert {connection.laddr.ip for connection in listening} <= {
        "127.0.0.1",
        "::ffff:127.0.0.1",
        "::1",
    }


async def test_what_computes_stands_back_behind_the_event_loop(server: TorchServeProcess) -> None:
    process = front_end(server.folder)
    assert process is not None
    family = [process, *process.children(recursive=True)]
    assert {one.nice() for one in family} == {psutil.Process().nice() + NICENESS}


async def test_models_cannot_be_registered_by_whoever_reaches_it(server: TorchServeProcess) -> None:
    async with (
        connect(server.management) as session,
        session.post("/models?url=https://example.org/evil.mar") as response,
    ):
        assert response.status in (403, 404, 405)


async def test_a_dead_front_end_is_replaced(server: TorchServeProcess) -> None:
    first, restarts = front_end(server.folder), list[int]()
    assert first is not None
    server.on_restart = lambda: restarts.append(1)
    first.kill()
    await until_gone([first])
    async with asyncio.timeout(LIMIT_SECONDS):
        while not await ready(server):
            await asyncio.sleep(0.1)
    assert front_end(server.folder) not in (None, first) and restarts == [1]


async def test_no_process_and_no_file_is_left_after_leaving(models: Path) -> None:
    alone = TorchServeProcess(models, start_seconds=LIMIT_SECONDS, operations=ALONE)
    async with alone as server:
        process = front_end(server.folder)
        assert process is not None
        family = [process, *process.children(recursive=True)]
        assert len(family) > len(ALONE)
    assert not running(family)
    assert not server.folder.exists()


async def test_no_process_is_left_when_we_are_killed(models: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(models)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]
    ) as launcher:
        assert launcher.stdout is not None
        folder = Path((await asyncio.to_thread(launcher.stdout.readline)).strip())
        process = front_end(folder)
        assert process is not None
        family = [process, *process.children(recursive=True)]
        os.kill(launcher.pid, signal.SIGKILL)
    await until_gone(family)


async def test_folders_of_the_killed_are_swept_and_those_of_the_living_kept(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(
        "service.backend.preflight.LONGEST_SOCKET_PATH", 1
    )  # so that the start ends after the sweep
    folders = {name: tmp_path / f"{FOLDER_PREFIX}{name}" for name in ("dead", "alive", "fresh")}
    for name, folder in folders.items():
        folder.mkdir()
        os.utime(folder, None if name == "fresh" else (0, 0))
    handle = os.open(folders["alive"], os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(TorchServeError, match="too long"):
        await TorchServeProcess(models).__aenter__()
    os.close(handle)
    assert {path.name for path in tmp_path.iterdir()} == {
        folders["alive"].name,
        folders["fresh"].name,
    }


async def test_a_missing_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(TorchServeError, match=r"affectgan-predict\.mar.*affectgan archive"):
        TorchServeProcess(tmp_path)


async def test_a_model_that_does_not_load_is_shown_with_its_traceback(
    models: Path, tmp_path: Path
) -> None:
    folder = copied(models, tmp_path)
    altered_archive(
        archive_of(folder, "explain"), "weights.safetensors", lambda old: old[:-4] + b"\1\1\1\1"
    )
    server = TorchServeProcess(folder, start_seconds=LIMIT_SECONDS, operations=("explain",))
    with pytest.raises(TorchServeError) as raised:
        await server.__aenter__()
    reason, traceback = str(raised.value).split("\n", 1)
    assert "does not load: affect.card.CardError" in reason and "digest" in reason
    assert traceback.startswith("Traceback") and "in initialize" in traceback
    assert front_end(server.folder) is None
    assert not server.folder.exists()
