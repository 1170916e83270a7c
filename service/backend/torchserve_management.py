"""TorchServe's workers by its management API, checked against the operating system."""

from collections.abc import Collection
from dataclasses import dataclass

import aiohttp

from affect.archive import Operation, model_name
from service.backend.process_states import is_running

TIMEOUT_SECONDS = 1.0  # of a management request


def connect(address: str) -> aiohttp.ClientSession:
    """A session for "unix:/path" or "http://host:port", to be asked for paths such as "/ping"."""
    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        socket = aiohttp.UnixConnector(path=path, limit=0)
        return aiohttp.ClientSession("http://torchserve", connector=socket)
    return aiohttp.ClientSession(address, connector=aiohttp.TCPConnector(limit=0))


@dataclass(frozen=True)
class Worker:
    """A worker as the management API reports it."""

    pid: int
    status: str

    @property
    def ready(self) -> bool:
        """Whether it can serve.

        TorchServe calls a stopped process READY, and for a while one that was killed.
        """
        return self.status == "READY" and is_running(self.pid)


async def list_workers(management: aiohttp.ClientSession, operation: Operation) -> list[Worker]:
    """The workers of an operation; none when the front end does not answer in time."""
    path, timeout = f"/models/{model_name(operation)}", aiohttp.ClientTimeout(TIMEOUT_SECONDS)
    try:
        async with management.get(path, timeout=timeout) as response:
            versions = await response.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return []
    return [
        Worker(worker.get("pid", -1), worker.get("status", ""))
        for version in (versions if isinstance(versions, list) else [])
        for worker in version.get("workers", [])
    ]


async def has_ready_worker(
    management: aiohttp.ClientSession, operation: Operation, *, excluding: Collection[int] = ()
) -> bool:
    """Whether a worker of this operation can serve, those with the excluded process ids apart.

    /ping is no answer to this: it says "Healthy" even when every worker is dead.
    """
    workers = await list_workers(management, operation)
    return any(worker.ready and worker.pid not in excluding for worker in workers)
