"""Runs TorchServe as a private child: own folder and sockets, up when its workers are, restarted when it dies, gone when we are."""

import asyncio
import fcntl
import logging
import os
import shutil
import signal
import tempfile
import time
from collections import deque
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import aiohttp
import psutil

from affect.archive import OPERATIONS, Operation, archive_of, model_name
from service.backend import torchserve_config
from service.backend.torchserve_config import TorchServeError

POLL_SECONDS = 0.05
ANSWER_SECONDS = 1.0  # what a management request may take
RESTART_SECONDS = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)  # before the first, second, ... restart in a row
STEADY_SECONDS = 60.0  # after this long, the next death counts as the first again
LOG_LINES = 400
FOLDER_PREFIX = "affectgan-torchserve-"
SETTLED_SECONDS = 60.0  # a younger folder may not have its lock yet
LONGEST_LINE_BYTES = 1 << 20
LONGEST_SOCKET_PATH = (
    80  # a Unix socket's path has at most 107 characters, and workers add their names
)

log = logging.getLogger(__name__)


class TorchServe:
    """`async with TorchServe(models) as server`: enters when every operation has a READY worker.

    `models` holds affectgan-{predict,generate,explain}.mar. `inference` and `management` are its private addresses.
    """

    def __init__(self, models: Path, *, start_seconds: float = 120.0) -> None:
        self.models = models.resolve()
        missing = [
            operation
            for operation in OPERATIONS
            if not archive_of(self.models, operation).is_file()
        ]
        if missing:
            raise TorchServeError(
                f"{models} lacks {archive_of(models, missing[0]).name}: write it with `affectgan archive RUN --out {models}`"
            )
        self.start_seconds = start_seconds
        self.folder, self._lock = Path(), -1
        self.lines: deque[str] = deque(maxlen=LOG_LINES)
        self.up = False  # its workers were ready and it has not ended since
        self._process: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[None]] = []

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
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def __aenter__(self) -> Self:
        _sweep()
        self.folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX))
        self._lock = _lock(self.folder)
        try:
            if len(str(self.folder)) > LONGEST_SOCKET_PATH:
                raise TorchServeError(
                    f"{self.folder} is too long for a Unix socket: set TMPDIR to a shorter path"
                )
            await self._start()
        except BaseException:
            await self._stop()
            raise
        self._tasks.append(asyncio.create_task(self._supervise()))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    async def _start(self) -> None:
        """Start the front end and wait until every operation has a READY worker."""
        for leftover in self.folder.glob("*.sock"):
            leftover.unlink()
        self.lines.clear()
        torchserve_config.write_settings(self.folder, self.models)
        self._process = await asyncio.create_subprocess_exec(
            *torchserve_config.command(self.folder, self.models),
            cwd=self.folder,
            env=torchserve_config.environment(self.folder),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=LONGEST_LINE_BYTES,
            start_new_session=True,  # Ctrl-C is ours to handle: TorchServe must outlive the gateway's drain
            preexec_fn=torchserve_config.configure_child,
        )
        self._tasks.append(asyncio.create_task(self._read(self._process)))
        await self._until_ready(self._process)
        self.up = True

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._process is not None:
            # Nothing is lost by SIGKILL: the gateway has drained, TorchServe itself never drains, the folder is private.
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
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
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # workers that lost their front end
            deaths = 0 if time.monotonic() - started > STEADY_SECONDS else deaths
            log.error("TorchServe ended with code %s, restarting", code)
            await asyncio.sleep(RESTART_SECONDS[min(deaths, len(RESTART_SECONDS) - 1)])
            deaths, started = deaths + 1, time.monotonic()
            try:
                await self._start()
            except TorchServeError as error:
                log.error("%s", error)
                with suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        """Keep the last lines, and pass warnings on."""
        assert process.stdout is not None
        async for raw in process.stdout:
            line = raw.decode(errors="replace").rstrip()
            self.lines.append(line)
            log.log(
                logging.WARNING
                if line.startswith(("WARN ", "ERROR ", "FATAL "))
                else logging.DEBUG,
                "%s",
                line,
            )

    async def _until_ready(self, process: asyncio.subprocess.Process) -> None:
        deadline = time.monotonic() + self.start_seconds
        async with connect(self.management) as session:
            while not all([await has_ready_worker(session, operation) for operation in OPERATIONS]):
                failed = next((line for line in self.lines if "Load model failed" in line), None)
                if failed or process.returncode is not None or time.monotonic() > deadline:
                    await asyncio.sleep(0.5)  # the traceback comes a little after
                    raise TorchServeError(self._failure(process))
                await asyncio.sleep(POLL_SECONDS)

    def _failure(self, process: asyncio.subprocess.Process) -> str:
        said = "\n".join(_traceback(list(self.lines)))
        if process.returncode is not None:
            return f"TorchServe ended with code {process.returncode} before it could serve:\n{said}"
        if "Load model failed" in "\n".join(self.lines):
            return f"a model of {self.models} does not load:\n{said}"
        return f"TorchServe has no ready worker after {self.start_seconds:g} s:\n{said}"


def connect(address: str, **options: object) -> aiohttp.ClientSession:
    """A session for an address of TorchServe: "unix:/path" or "http://host:port"; ask for paths such as "/ping"."""
    if address.startswith("unix:"):
        connector: aiohttp.BaseConnector = aiohttp.UnixConnector(
            path=address.removeprefix("unix:"), limit=0
        )
        return aiohttp.ClientSession("http://torchserve", connector=connector)
    return aiohttp.ClientSession(address, connector=aiohttp.TCPConnector(limit=0))


@dataclass(frozen=True)
class Worker:
    """A worker as the management API tells it."""

    pid: int
    status: str

    @property
    def ready(self) -> bool:
        """Whether it can serve. TorchServe calls a stopped process READY, and for a while one that was killed."""
        return self.status == "READY" and runs(self.pid)


def stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal or a debugger."""
    try:
        return psutil.Process(pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    except psutil.Error:
        return False


def runs(pid: int) -> bool:
    """Whether a process is there and not stopped."""
    try:
        return psutil.Process(pid).status() not in (
            psutil.STATUS_STOPPED,
            psutil.STATUS_TRACING_STOP,
            psutil.STATUS_ZOMBIE,
        )
    except psutil.Error:
        return False


async def workers(management: aiohttp.ClientSession, operation: Operation) -> list[Worker]:
    """The workers of an operation; none when the front end does not answer within a second."""
    try:
        async with management.get(
            f"/models/{model_name(operation)}", timeout=aiohttp.ClientTimeout(ANSWER_SECONDS)
        ) as response:
            described = await response.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return []
    versions = described if isinstance(described, list) else []
    return [
        Worker(told.get("pid", -1), told.get("status", ""))
        for version in versions
        for told in version.get("workers", [])
    ]


async def has_ready_worker(
    management: aiohttp.ClientSession, operation: Operation, *, but: Collection[int] = ()
) -> bool:
    """Whether a worker of this operation, not one of these, can serve. /ping says "Healthy" even when every worker is dead."""
    return any(
        worker.ready and worker.pid not in but for worker in await workers(management, operation)
    )


def _lock(folder: Path) -> int:
    """A lock on a folder that ends with this process, however it ends. Raises BlockingIOError when another has it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _sweep() -> None:
    """Remove our folders whose process was killed before it could."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        with suppress(OSError):
            state = folder.stat()
            if state.st_uid == os.getuid() and time.time() - state.st_mtime > SETTLED_SECONDS:
                handle = _lock(folder)
                shutil.rmtree(folder, ignore_errors=True)
                os.close(handle)


def _traceback(lines: list[str]) -> list[str]:
    """The last Python traceback among the lines and what follows it, or the last lines when there is none."""
    starts = [
        number for number, line in enumerate(lines) if "Traceback (most recent call last)" in line
    ]
    return lines[starts[-1] :][:40] if starts else lines[-20:]
