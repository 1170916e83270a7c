"""The model servers: one private TorchServe for each version.

Versions thus share no queue, no worker and no fault (docs/decisions/0009-a-server-a-version.md).
"""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Self

from affect.archive import OPERATIONS, Operation, archive_of
from affect.card import CARD_FILE, ModelCard
from service.backend.interface import Backend
from service.backend.open_inference_client import OpenInferenceBackend
from service.backend.process_runtime import ProcessBackend
from service.backend.torchserve_client import TorchServeBackend
from service.backend.torchserve_config import TorchServeError
from service.backend.torchserve_process import TorchServeProcess
from service.backend.watchdog import Watchdog
from service.observability.metrics import Metrics
from service.settings import Settings

log = logging.getLogger(__name__)
REMOTE = ("oip://", "oips://")
Opener = Callable[[Path], AbstractAsyncContextManager[Backend]]


@asynccontextmanager
async def open_torchserve(
    folder: Path, *, metrics: Metrics, settings: Settings
) -> AsyncIterator[Backend]:
    """A TorchServe on the archives of a folder, under a watchdog, entered when it is ready.

    Raises TorchServeError, CardError.
    """
    card = check_model_folder(folder)
    model = card.name, card.version
    restarts = metrics.restarts.labels(*model)

    def count_kill(fault: str, reason: str) -> None:
        metrics.killed.labels(fault, reason, *model).inc()

    def count_death(operation: Operation) -> None:
        metrics.worker_deaths.labels(operation, *model).inc()

    async with (
        TorchServeProcess(
            folder, on_restart=restarts.inc, operations=settings.operations
        ) as server,
        TorchServeBackend.from_folder(
            folder, server.inference, server.management, settings.operations
        ) as backend,
        Watchdog(server, backend, count_kill, count_death).watching(),
    ):
        yield backend


@asynccontextmanager
async def open_process(
    folder: Path, *, metrics: Metrics, settings: Settings
) -> AsyncIterator[Backend]:
    """The handlers of a folder's archives in processes of ours. Raises ModelError, CardError."""
    card = check_model_folder(folder)
    model = card.name, card.version

    def count(event: str, operation: Operation) -> None:
        if event == "ended":
            metrics.worker_deaths.labels(operation, *model).inc()
            log.error("a worker of %s of %s ended: another is started", operation, card.version)
        else:
            metrics.killed.labels(operation, event, *model).inc()
            log.error("%s of %s is %s: killed", operation, card.version, event)

    async with ProcessBackend(
        folder,
        count,
        batching=settings.batching,
        gpus=settings.gpus,
        operations=settings.operations,
    ) as backend:
        yield backend


@asynccontextmanager
async def open_remote(folder: Path, *, address: str, settings: Settings) -> AsyncIterator[Backend]:
    """The model of a folder on the server at `address`. Raises ValueError."""
    check_model_folder(folder)
    key = settings.remote_key.get_secret_value() if settings.remote_key else None
    client = OpenInferenceBackend.from_folder(folder, address, key, settings.operations)
    async with client as backend:
        if not any((await backend.ready()).values()):
            log.warning("%s does not serve %s yet", address, backend.served.version)
        yield backend


RUNTIMES = {"torchserve": open_torchserve, "process": open_process}


def opener_of(runtime: str, metrics: Metrics, settings: Settings) -> Opener:
    """How a folder is opened. Raises ValueError for an unknown runtime, and for settings that it
    does not support.
    """
    if runtime != "process" and (settings.gpus or any(settings.batching.values())):
        raise ValueError(
            f"workers, batches and gpus are settings of --runtime process; {runtime} has them from "
            "the archive: `affectgan archive --workers`"
        )
    if runtime.startswith(REMOTE):
        return partial(open_remote, address=runtime, settings=settings)
    if runtime not in RUNTIMES:
        names = ", ".join(RUNTIMES)
        raise ValueError(f"runtime is {runtime!r}; write one of {names}, or oip://HOST:PORT")
    return partial(RUNTIMES[runtime], metrics=metrics, settings=settings)


def check_model_folder(folder: Path) -> ModelCard:
    """The card of a folder that has all that is served. Raises TorchServeError, CardError."""
    paths = [*(archive_of(folder, operation) for operation in OPERATIONS), folder / CARD_FILE]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise TorchServeError(
            f"{folder} lacks {', '.join(missing)}: "
            f"make them with `affectgan archive RUN --out {folder}`"
        )
    return ModelCard.load(folder)


def check_model_folders(folders: Sequence[Path]) -> None:
    """Before anything heavy starts.

    Raises ValueError for a folder that cannot be served, or two with the same version.
    """
    first: dict[tuple[str, str], Path] = {}
    for folder in folders:
        card = check_model_folder(folder)
        other = first.setdefault((card.name, card.version), folder)
        if other is not folder:
            raise TorchServeError(
                f"{other} and {folder} both hold {card.name} {card.version}: "
                "archive one with another --version"
            )


class ModelServerPool:
    """Opens a backend for a folder and closes it again; at the end of `async with`, all of them."""

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self._open: dict[int, tuple[Backend, AsyncExitStack]] = {}

    @property
    def backends(self) -> list[Backend]:
        """Those that are open, in the order in which they were opened."""
        return [backend for backend, _ in self._open.values()]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for backend in self.backends:
            await self.close(backend)

    async def open(self, folder: Path) -> Backend:
        """Raises ValueError with what is wrong with the folder."""
        stack = AsyncExitStack()
        backend = await stack.enter_async_context(self._opener(folder))
        self._open[id(backend)] = backend, stack
        return backend

    async def close(self, backend: Backend) -> None:
        """End its server."""
        _, stack = self._open.pop(id(backend))
        await stack.aclose()
