"""A day's work in small: the whole system at a steady share of its capacity, with every process's
memory and every minute's latency.

python -m benchmarks.soak [--weights weights] [--redis redis://127.0.0.1:6379/0] [--minutes 10]
[--share 0.8]

Starts `affectgan serve`, measures what it can do, and then sends that share of it whether answers
come or not. Every picture is a new one for the cache, which is kept so small that it is full after
the warm-up: what grows later is a leak.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import click
import numpy as np
import psutil
from scipy import stats

from benchmarks.gateway import picture
from benchmarks.overload import CLIENTS, Sent

SAMPLE_SECONDS = 5.0
# samples that follow each other are alike: a slope is fitted to the means of blocks
BLOCK_SECONDS = 30.0
CACHE_BYTES = 1 << 20
CACHE_SECONDS = 60  # a Redis drops what is older, so that it too is full after the warm-up
SMALLEST_MIB = 0.01  # a minute: less is a page or two
CAPACITY_SECONDS = 20.0
START_SECONDS = 180.0
MIB = 2**20
MemorySamples = dict[
    str, list[tuple[float, float]]
]  # name of a process: (seconds since the start, MiB)


@dataclass(frozen=True)
class Slope:
    """MiB a minute, and half the width of its 95 % interval."""

    rate: float
    margin: float

    @property
    def grows(self) -> bool:
        """Whether the interval lies above nothing."""
        return self.rate - self.margin > SMALLEST_MIB


@dataclass
class SoakReport:
    """What was report. Times of requests and samples are seconds since the start."""

    requests: list[Sent] = field(default_factory=list)
    memory: MemorySamples = field(default_factory=lambda: defaultdict(list))

    def lines(self, warm_seconds: float) -> Iterator[str]:
        """A table of minutes, one of processes, and the verdict."""
        yield "| minute | sent | answered | p50, ms | p99, ms |\n|---|---|---|---|---|"
        yield from (
            self._minute(minute)
            for minute in range(1 + int(max(sent.start for sent in self.requests) // 60))
        )
        yield (
            "\n| process | MiB first | MiB last | MiB a minute after the warm-up (95 %) "
            "|\n|---|---|---|---|"
        )
        slopes = {name: slope(samples, warm_seconds) for name, samples in self.memory.items()}
        for name, samples in self.memory.items():
            yield (
                f"| {name} | {samples[0][1]:.0f} | {samples[-1][1]:.0f} | "
                f"{slopes[name].rate:+.2f} +- {slopes[name].margin:.2f} |"
            )
        statuses = Counter(sent.status for sent in self.requests)
        growing = [name for name, fitted in slopes.items() if fitted.grows]
        failed = statuses.total() - statuses[200]
        yield f"\nstatuses (0: no answer): {dict(sorted(statuses.items()))}"
        yield (
            f"verdict: {failed or 'no'} errors; "
            f"{'memory grows: ' + ', '.join(growing) if growing else 'memory is flat'}"
        )

    def _minute(self, minute: int) -> str:
        sent = [request for request in self.requests if request.start // 60 == minute]
        good = [1000 * request.seconds for request in sent if request.status == 200]
        marks = (
            " | ".join(f"{mark:.0f}" for mark in np.percentile(good, (50, 99))) if good else "- | -"
        )
        return f"| {minute + 1} | {len(sent)} | {len(good)} | {marks} |"


def slope(samples: list[tuple[float, float]], warm_seconds: float) -> Slope:
    """The rise of (seconds, MiB) after the warm-up, by least squares over means of blocks.

    Raises ValueError for fewer than three.
    """
    blocks: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for when, mib in samples:
        if when >= warm_seconds:
            blocks[int((when - warm_seconds) // BLOCK_SECONDS)].append((when, mib))
    if len(blocks) < 3:
        raise ValueError(
            f"{len(blocks)} blocks of {BLOCK_SECONDS:g} s lie after a warm-up of "
            f"{warm_seconds:g} s; soak for longer"
        )
    minutes, mib = np.array([np.mean(block, axis=0) for block in blocks.values()]).T
    if np.ptp(mib) == 0:
        return Slope(0.0, 0.0)
    fit = stats.linregress(minutes / 60, mib)
    return Slope(fit.slope, stats.t.ppf(0.975, len(blocks) - 2) * fit.stderr)


@click.command()
@click.option(
    "--weights",
    type=click.Path(path_type=Path, exists=True),
    default=Path("weights"),
    show_default=True,
)
@click.option("--redis", help="a Redis of the system; it is written to")
@click.option("--minutes", type=click.FloatRange(min=2), default=10.0, show_default=True)
@click.option(
    "--warm",
    type=float,
    default=0.25,
    show_default=True,
    help="share of the time that counts as warm-up for memory",
)
@click.option("--share", type=float, default=0.8, show_default=True, help="the load, in capacities")
@click.option("--port", type=int, default=8040, show_default=True)
def main(
    weights: Path, redis: str | None, minutes: float, warm: float, share: float, port: int
) -> None:
    """Print the tables and the verdict."""
    asyncio.run(_soak(weights, redis, 60 * minutes, warm, share, port))


async def _soak(
    weights: Path, redis: str | None, seconds: float, warm: float, share: float, port: int
) -> None:
    async with (
        _system(weights, redis, port) as gateway,
        aiohttp.ClientSession(
            f"http://127.0.0.1:{port}", connector=aiohttp.TCPConnector(limit=0)
        ) as session,
    ):
        await _ready(session, gateway)
        # what follows a JPEG's end changes its key alone
        fresh = (picture() + number.to_bytes(8) for number in range(time.time_ns(), 2**63))
        await _capacity(session, fresh, CAPACITY_SECONDS / 2)  # warms up
        capacity = await _capacity(session, fresh, CAPACITY_SECONDS)
        click.echo(
            f"capacity {capacity:.1f}/s by {CLIENTS} clients in {CAPACITY_SECONDS:g} s; "
            f"{share * capacity:.1f}/s for {seconds:g} s"
        )
        report = SoakReport()
        others = await _redis(redis) if redis else {}
        sampling = asyncio.create_task(_sample(gateway, others, report.memory))
        await _send(session, fresh, share * capacity, seconds, report)
        if sampling.done():
            raise click.ClickException(f"a process ended: {sampling.exception()}")
        sampling.cancel()
    for line in report.lines(warm * seconds):
        click.echo(line)


@contextlib.asynccontextmanager
async def _system(weights: Path, redis: str | None, port: int) -> AsyncIterator[psutil.Process]:
    """Gateway and TorchServe with the cache on, as `affectgan serve` starts them; ended as an
    operator would.
    """
    shared = {"AFFECTGAN_REDIS_URL": redis, "AFFECTGAN_CACHE_SECRET": "s" * 32} if redis else {}
    cache = {
        "AFFECTGAN_CACHE_BYTES": str(CACHE_BYTES),
        "AFFECTGAN_CACHE_SECONDS": str(CACHE_SECONDS),
    }
    environment = os.environ | shared | cache
    serve = [
        sys.executable,
        "-m",
        "affect.cli",
        "serve",
        "--weights",
        str(weights),
        "--port",
        str(port),
    ]
    with subprocess.Popen(serve, env=environment) as process:
        try:
            yield psutil.Process(process.pid)
        finally:
            process.terminate()


async def _ready(session: aiohttp.ClientSession, gateway: psutil.Process) -> None:
    end = time.monotonic() + START_SECONDS
    while gateway.status() != psutil.STATUS_ZOMBIE and time.monotonic() < end:
        with contextlib.suppress(aiohttp.ClientError):
            async with session.get("/readyz") as answer:
                if answer.status == 200:
                    return
        await asyncio.sleep(0.2)
    raise click.ClickException("the gateway ended or is not ready")


async def _capacity(
    session: aiohttp.ClientSession, fresh: Iterator[bytes], seconds: float
) -> float:
    """Answers a second to clients that wait for one before they send the next."""
    start, done = time.monotonic(), 0

    async def client() -> None:
        nonlocal done
        while time.monotonic() < start + seconds:
            answer = await _request(session, next(fresh), start)
            done += answer.status == 200

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return done / (time.monotonic() - start)


async def _send(
    session: aiohttp.ClientSession,
    fresh: Iterator[bytes],
    rate: float,
    seconds: float,
    report: SoakReport,
) -> None:
    """Requests at random moments, so many a second on average; returns when the last is
    answered.
    """
    start, due, draw = time.monotonic(), 0.0, np.random.default_rng(0)
    under_way: set[asyncio.Task[None]] = set()

    async def one() -> None:
        report.requests.append(await _request(session, next(fresh), start))

    while due < seconds:
        await asyncio.sleep(max(0.0, start + due - time.monotonic()))
        task = asyncio.create_task(one())
        under_way.add(task)
        task.add_done_callback(under_way.discard)
        due += draw.exponential(1 / rate)
    await asyncio.gather(*under_way)


async def _request(session: aiohttp.ClientSession, content: bytes, zero: float) -> Sent:
    start, status = time.monotonic(), 0
    with contextlib.suppress(aiohttp.ClientError):
        async with session.post(
            "/v1/predict", data=content, headers={"Content-Type": "image/jpeg"}
        ) as answer:
            rows = await answer.read()
            status = 422 if answer.status == 200 and b'"status":"ok"' not in rows else answer.status
    return Sent(start - zero, time.monotonic() - start, status)


async def _redis(url: str) -> dict[str, psutil.Process]:
    from redis.asyncio import Redis

    async with Redis.from_url(url) as client:
        return {"redis": psutil.Process((await client.info("server"))["process_id"])}


async def _sample(
    gateway: psutil.Process, others: dict[str, psutil.Process], memory: MemorySamples
) -> None:
    """Resident memory of gateway, model server and workers, until cancelled."""
    parts = {"gateway": gateway, **dict(map(_named, gateway.children(recursive=True))), **others}
    start = time.monotonic()
    while True:
        for name, process in parts.items():
            memory[name].append((time.monotonic() - start, process.memory_info().rss / MIB))
        await asyncio.sleep(SAMPLE_SECONDS)


def _named(process: psutil.Process) -> tuple[str, psutil.Process]:
    """Workers by the number of their socket, which follows the order of operations in TorchServe's
    configuration.
    """
    line = " ".join(process.cmdline())
    return (
        f"worker {line.split('.ts.sock.', 1)[1].split()[0]}"
        if ".ts.sock." in line
        else process.name()
    ), process


if __name__ == "__main__":
    main()
