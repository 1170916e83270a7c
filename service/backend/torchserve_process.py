"""Runs TorchServe as a private child, in a folder and on sockets of its own.

It has READY workers when the context is entered, is restarted when it dies, and leaves no process
and no file behind.
"""

import asyncio
import fcntl
import logging
import os
import shutil
import signal
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import aiohttp

from affect.archive import OPERATIONS, Operation, archive_of
from service.backend import torchserve_config
from service.backend.child_process import configure_child
from service.backend.preflight import check_folder
from service.backend.torchserve_config import TorchServeError
from service.backend.torchserve_management import connect, has_ready_worker
from service.backend.worker_output import failed_worker, failure_of

POLL_SECONDS = 0.05
RESTART_SECONDS = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)  # before the first, second, ... restart in a row
STEADY_SECONDS = 60.0  # after this long, the next death counts as the first again
LOG_LINES = 400
FOLDER_PREFIX = "affectgan-torchserve-"
SETTLED_SECONDS = 60.0  # a younger folder may not have its lock yet
LONGEST_LINE_BYTES = 1 << 20

log = logging.getLogger(__name__)


class TorchServeProcess:
    """`async with TorchServeProcess(models) as server`: inside, `operations` have READY workers.

    `models` holds affectgan-{predict,generate,explain}.mar. `inference` and `management` are its
    private addresses. `on_restart` is called whenever the front end had ended. Raises
    TorchServeError when an archive is missing or does not load.
    """

    def __init__(
        self,
        models: Path,
        *,
        start_seconds: float = 120.0,
        on_restart: Callable[[], None] = lambda: None,
        operations: Sequence[Operation] = OPERATIONS,
    ) -> None:
        self.models, self.operations = models.resolve(), operations
        self.archives = [archive_of(self.models, operation) for operation in operations]
        missing = next((archive for archive in self.archives if not archive.is_file()), None)
        if missing:
            raise TorchServeError(
                f"{models} lacks {missing.name}: "
                f"write it with `affectgan archive RUN --out {models}`"
            )
        self.start_seconds, self.on_restart = start_seconds, on_restart
        self.folder, self._lock = Path(), -1
        self.lines: deque[str] = deque(maxlen=LOG_LINES)
        self.up = False  # its workers were ready and it has not ended since
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._supervisor: asyncio.Task[None] | None = None

    @property
    def inference(self) -> str:
        """Address of the inference API."""
        return torchserve_config.inference(self.folder)

    @property
    def management(self) -> str:
        """Address of the management API."""
        return torchserve_config.management(self.folder)

    @property
    def pid(self) -> int:
        """Of the front end."""
        assert self._process is not None
        return self._process.pid

    def management_session(self) -> aiohttp.ClientSession:
        """A session with the management API."""
        return connect(self.management)

    def kill(self) -> None:
        """End front end and workers at once; the supervisor starts new ones."""
        if self._process is not None and self._process.returncode is None:
            _kill_group(self._process)

    async def __aenter__(self) -> Self:
        _remove_stale_folders()
        self.folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX))
        self._lock = _lock(self.folder)
        try:
            await asyncio.to_thread(check_folder, self.folder, self.archives)
            await self._start()
        except BaseException:
            await self._stop()
            raise
        self._supervisor = asyncio.create_task(self._supervise())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    async def _start(self) -> None:
        """Start the front end and wait until every operation has a READY worker."""
        for leftover in self.folder.glob("*.sock"):
            leftover.unlink()
        self.lines.clear()
        torchserve_config.write_settings(self.folder, self.models, self.operations)
        self._process = await asyncio.create_subprocess_exec(
            *torchserve_config.command(self.folder, self.models),
            cwd=self.folder,
            env=torchserve_config.environment(self.folder),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=LONGEST_LINE_BYTES,
            start_new_session=True,  # Ctrl-C is ours to handle: it must outlive the gateway's drain
            preexec_fn=configure_child,
        )
        self._reader = asyncio.create_task(self._read(self._process))
        await self._until_ready(self._process, self._reader)
        self.up = True

    async def _stop(self) -> None:
        tasks = [task for task in (self._supervisor, self._reader) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._process is not None:
            # Nothing is lost by SIGKILL: the gateway has drained, TorchServe itself never drains.
            _kill_group(self._process)
            await self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)

    async def _supervise(self) -> None:
        """Restart the front end whenever it ends."""
        deaths, started = 0, time.monotonic()
        while True:
            assert self._process is not None
            code = await self._process.wait()
            self.up = False
            _kill_group(self._process)  # workers that lost their front end
            deaths = 0 if time.monotonic() - started > STEADY_SECONDS else deaths
            log.error("TorchServe ended with code %s, restarting", code)
            self.on_restart()
            await asyncio.sleep(RESTART_SECONDS[min(deaths, len(RESTART_SECONDS) - 1)])
            deaths, started = deaths + 1, time.monotonic()
            try:
                await self._start()
            except TorchServeError as error:
                log.error("%s", error)
                _kill_group(self._process)

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        """Store the last lines, and log warnings."""
        assert process.stdout is not None
        async for raw in process.stdout:
            line = raw.decode(errors="replace").rstrip()
            self.lines.append(line)
            bad = line.startswith(("WARN ", "ERROR ", "FATAL "))
            log.log(logging.WARNING if bad else logging.DEBUG, "%s", line)

    async def _until_ready(
        self, process: asyncio.subprocess.Process, reader: asyncio.Task[None]
    ) -> None:
        deadline = time.monotonic() + self.start_seconds
        async with connect(self.management) as session:
            while not all([await has_ready_worker(session, one) for one in self.operations]):
                if worker := failed_worker(self.lines):
                    failure = failure_of(worker, self.lines)
                    raise TorchServeError(f"a model of {self.models} does not load: {failure}")
                if process.returncode is not None:
                    _kill_group(process)  # another process may hold its output open
                    await asyncio.wait({reader})
                    raise TorchServeError(
                        f"TorchServe ended with code {process.returncode} before it could serve:\n"
                        + self._last_lines()
                    )
                if time.monotonic() > deadline:
                    raise TorchServeError(
                        f"TorchServe has no ready worker after {self.start_seconds:g} s:\n"
                        + self._last_lines()
                    )
                await asyncio.sleep(POLL_SECONDS)

    def _last_lines(self) -> str:
        return "\n".join(list(self.lines)[-20:])


def _kill_group(process: asyncio.subprocess.Process) -> None:
    """Kill front end and workers: the front end leads a process group."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _lock(folder: Path) -> int:
    """A lock on a folder that ends with this process, however it ends.

    Raises BlockingIOError when another process has it.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _remove_stale_folders() -> None:
    """Remove folders whose process was killed before it could do so."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        with suppress(OSError):
            state = folder.stat()
            if state.st_uid == os.getuid() and time.time() - state.st_mtime > SETTLED_SECONDS:
                handle = _lock(folder)
                shutil.rmtree(folder, ignore_errors=True)
                os.close(handle)
