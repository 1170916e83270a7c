"""The fault table: a server on real weights, steady load, one fault after the other; what clients
saw and how long it took.

python -m benchmarks.faults [--weights weights] [--rate 10] [--watch 60]
"""

import asyncio
import contextlib
import resource
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import aiohttp
import click
import psutil

from benchmarks.load import AFRESH, crop_request
from service.cli.demo import running_server

LEAD_SECONDS = 2.0  # of load before each fault
POLL_SECONDS = 0.1
CALM_SECONDS = 2.0
LARGE_REQUESTS = 12
SHORTEST_SECONDS = 10.0  # a fault may take a while to be felt
NAN = float("nan")
COLUMNS = (
    "fault",
    "clients saw",
    "longest time without an answer",
    "slowest answer",
    "answers again after",
    "/readyz said",
)
HEAD = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|"


@dataclass
class Watch:
    """What is seen from outside: (sent, ended, status) of each request, and (when, answer) of each
    look at /readyz.
    """

    requests: list[tuple[float, float, str]] = field(default_factory=list)
    ready: list[tuple[float, bool]] = field(default_factory=list)

    def calm(self, rate: float) -> bool:
        """Whether for two seconds everything was answered and ready."""
        since = time.monotonic() - CALM_SECONDS
        answered_well = sum(
            ended > since and sent > since - 1
            for sent, ended, status in self.requests
            if status == "200"
        )
        return answered_well > 0.8 * rate * CALM_SECONDS and all(
            ready for moment, ready in self.ready if moment > since
        )

    def row(self, name: str, injected: float) -> str:
        """One line of the table."""
        statuses = Counter(status for sent, _, status in self.requests if sent >= injected - 1)
        answered = [(sent, ended) for sent, ended, status in self.requests if status == "200"]
        ends = sorted(ended for _, ended in answered)
        gap, over = max(
            ((later - earlier, later) for earlier, later in pairwise(ends) if later >= injected),
            default=(NAN, NAN),
        )
        slowest = max((ended - sent for sent, ended in answered if ended >= injected), default=NAN)
        watched = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
        return (
            f"| {name} | {watched} | {gap:.1f} s | {slowest:.1f} s | {over - injected:.1f} "
            f"s | {self._ready(injected)} |"
        )

    def _ready(self, injected: float) -> str:
        no = next((when for when, ready in self.ready if when >= injected and not ready), None)
        if no is None:
            return "yes throughout"
        yes = next((when for when, ready in self.ready if when > no and ready), None)
        return f"no after {no - injected:.1f} s, " + (
            f"yes after {yes - injected:.1f} s" if yes else "and not yes again"
        )


@dataclass
class Target:
    """The server's processes, as they are now."""

    server: psutil.Process

    def front_end(self) -> psutil.Process:
        return next(
            p
            for p in self.server.children(recursive=True)
            if "org.pytorch.serve.ModelServer" in p.cmdline()
        )

    def worker(self) -> psutil.Process:
        """The one that serves predict: the first socket that TorchServe's configuration gives
        out.
        """
        workers = [
            p
            for p in self.front_end().children()
            if any("model_service_worker.py" in part for part in p.cmdline())
        ]
        return min(
            workers, key=lambda process: " ".join(process.cmdline()).rsplit(".ts.sock.", 1)[-1]
        )


Fault = Callable[[Target, aiohttp.ClientSession, Watch], Awaitable[None]]


async def kill_worker(target: Target, *_: object) -> None:
    target.worker().kill()


async def stop_worker(target: Target, *_: object) -> None:
    target.worker().send_signal(signal.SIGSTOP)


async def starve_worker(target: Target, session: aiohttp.ClientSession, watched: Watch) -> None:
    """No memory beyond what it has; small requests live on what is free, twelve large ones need
    more.
    """
    worker = target.worker()
    room = worker.memory_info().vms
    worker.rlimit(resource.RLIMIT_AS, (room, room))
    large = crop_request(64)
    for _ in range(LARGE_REQUESTS):
        await _request(session, *large, watched)


async def slow_worker(target: Target, *_: object) -> None:
    """It stands still for nine tenths of eight seconds, in pieces too short to be taken for
    stopped.
    """
    worker, end = target.worker(), time.monotonic() + 8
    while time.monotonic() < end:
        worker.send_signal(signal.SIGSTOP)
        await asyncio.sleep(0.27)
        worker.send_signal(signal.SIGCONT)
        await asyncio.sleep(0.03)


async def kill_front_end(target: Target, *_: object) -> None:
    target.front_end().kill()


async def stop_front_end(target: Target, *_: object) -> None:
    """Half-open: connections are taken, nothing is answered."""
    target.front_end().send_signal(signal.SIGSTOP)


async def kill_all(target: Target, *_: object) -> None:
    front_end = target.front_end()
    for process in [*front_end.children(), front_end]:
        process.kill()


FAULTS: dict[str, Fault] = {
    "worker killed (also by the kernel, out of memory)": kill_worker,
    "worker stopped (SIGSTOP)": stop_worker,
    "worker may allocate no more (RLIMIT_AS), and is sent twelve requests of 64": starve_worker,
    "worker slow: runs a tenth of the time, 8 s": slow_worker,
    "front end killed": kill_front_end,
    "front end stopped (half-open: takes connections, answers nothing)": stop_front_end,
    "TorchServe killed whole": kill_all,
}


@click.command()
@click.option(
    "--weights",
    type=click.Path(path_type=Path, exists=True),
    default=Path("weights"),
    show_default=True,
)
@click.option(
    "--rate",
    type=float,
    default=10.0,
    show_default=True,
    help="requests a second, sent whether answers come or not",
)
@click.option(
    "--watch",
    type=float,
    default=60.0,
    show_default=True,
    help="most seconds to wait for calm after a fault",
)
@click.option("--only", help="faults whose name holds this")
def main(weights: Path, rate: float, watch: float, only: str | None) -> None:
    """Print the table."""
    with running_server(weights, 0) as (url, process):
        click.echo(HEAD)
        for name, fault in FAULTS.items():
            if not only or only in name:
                click.echo(
                    asyncio.run(
                        _one(url, Target(psutil.Process(process.pid)), name, fault, rate, watch)
                    )
                )


async def _one(url: str, target: Target, name: str, fault: Fault, rate: float, watch: float) -> str:
    watched = Watch()
    async with (
        aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0)) as session,
        _loaded(session, rate, watched),
    ):
        await asyncio.sleep(LEAD_SECONDS)
        injected = time.monotonic()
        await fault(target, session, watched)
        while time.monotonic() < injected + (SHORTEST_SECONDS if watched.calm(rate) else watch):
            await asyncio.sleep(POLL_SECONDS)
    return watched.row(name, injected)


@contextlib.asynccontextmanager
async def _loaded(
    session: aiohttp.ClientSession, rate: float, watched: Watch
) -> AsyncIterator[None]:
    """Within, the load runs; every request that was sent is waited for."""
    stop = asyncio.Event()
    loops = [
        asyncio.create_task(_load(session, rate, watched, stop)),
        asyncio.create_task(_poll(session, watched, stop)),
    ]
    yield
    stop.set()
    await asyncio.gather(*loops)


async def _load(
    session: aiohttp.ClientSession, rate: float, watched: Watch, stop: asyncio.Event
) -> None:
    body, kind = crop_request()
    sent: list[asyncio.Task[None]] = []
    while not stop.is_set():
        sent.append(asyncio.create_task(_request(session, body, kind, watched)))
        await asyncio.sleep(1 / rate)
    await asyncio.gather(*sent)


async def _request(session: aiohttp.ClientSession, body: bytes, kind: str, watched: Watch) -> None:
    start = time.monotonic()
    try:
        async with session.post(
            "/v1/predict", data=body, headers=AFRESH | {"Content-Type": kind}
        ) as answer:
            await answer.read()
            status = str(answer.status)
    except aiohttp.ClientError as error:
        status = type(error).__name__
    watched.requests.append((start, time.monotonic(), status))


async def _poll(session: aiohttp.ClientSession, watched: Watch, stop: asyncio.Event) -> None:
    while not stop.is_set():
        async with session.get("/readyz") as answer:
            watched.ready.append((time.monotonic(), answer.status == 200))
        await asyncio.sleep(POLL_SECONDS)


if __name__ == "__main__":
    main()
