"""`affectgan serve` from outside, beside what it was at another commit, in the same run.

python -m benchmarks.serving PART... [--before FOLDER] [--weights weights] [--archives FOLDER]
[--clients 32] [--seconds 5] [--rounds 2]

A PART is one of
- ready: seconds from the start until /readyz says yes;
- clients: many clients with one request each at a time, portraits and aligned crops: answers/s and
  processor time of an answer, and the same work in processes without a server;
- many: one request of 64 pictures, and the same work without a server;
- overload: p50 and p99 at four fifths of the capacity, then goodput, refusals at three times it.

`--before` is a checkout of another commit (`git worktree add`). Both servers run from the start and
are asked in turn, so that whatever else the machine does falls on both. Processor time is user and
system time of all processes of a server. The clients share the machine with the server. The model
server is what `AFFECTGAN_RUNTIME` says (`torchserve`, `process`).
"""

import asyncio
import base64
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import aiohttp
import click
import numpy as np
import psutil
from numpy.typing import NDArray

from affect.faces import Faces
from benchmarks.load import AFRESH
from benchmarks.portraits import jpeg_portrait
from benchmarks.unserved import work_unserved

Floats = NDArray[np.float64]
ROOT = Path(__file__).parents[1]
AFFECTGAN = [sys.executable, "-m", "affect.cli"]
PORT = 8077  # and the next one
START_SECONDS = 120.0
MANY = 64  # pictures of one large request
LOAD, OVERLOAD = 0.8, 3.0  # of the capacity
REFUSED_SECONDS = 0.1  # that a refused client waits
DEADLINE_SECONDS = 2.0  # of each request of an overload


class Kind(NamedTuple):
    """What is sent."""

    name: str
    content: bytes
    faces: Faces

    def body(self, pictures: int = 1) -> bytes:
        """A request for that many of it."""
        image = {"content": base64.b64encode(self.content).decode()}
        return json.dumps({"images": [image] * pictures, "options": {"faces": self.faces}}).encode()


PORTRAIT = Kind("512 px portrait", jpeg_portrait(512), "largest")
CROP = Kind("aligned 128 px crop", jpeg_portrait(128), "none")


@dataclass
class MeasuredServer:
    """A gateway with its model server."""

    name: str
    url: str
    process: psutil.Process
    ready_seconds: float

    def cpu_seconds(self) -> Floats:
        """(3,) user and system time of the gateway, of Java and of the workers."""
        seconds = np.zeros(3)
        for member in (self.process, *self.process.children(recursive=True)):
            part = 0 if member == self.process else 1 if member.name() == "java" else 2
            used = member.cpu_times()
            seconds[part] += used.user + used.system
        return seconds


@dataclass
class Answers:
    """Of one server to one kind: a value a round, and the time of each answer."""

    rates: list[float] = field(default_factory=list)  # answers/s
    cpu_ms: list[Floats] = field(default_factory=list)  # (3,) of an answer
    seconds: list[float] = field(default_factory=list)
    refused: int = 0


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(("ready", "clients", "many", "overload")))
@click.option("--before", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--weights", default="weights", show_default=True, help="model folder within each checkout"
)
@click.option(
    "--archives",
    type=click.Path(path_type=Path, file_okay=False),
    help="keep the archives of each checkout here, and use those that are here",
)
@click.option("--clients", type=click.IntRange(1), default=32, show_default=True)
@click.option("--seconds", type=float, default=5.0, show_default=True, help="of a round")
@click.option("--rounds", type=click.IntRange(1), default=2, show_default=True)
def main(
    parts: tuple[str, ...],
    before: Path | None,
    weights: str,
    archives: Path | None,
    clients: int,
    seconds: float,
    rounds: int,
) -> None:
    """Print parts of what serving costs, as tables."""
    trees = {"now": ROOT} | ({"before": before.resolve()} if before else {})
    with ExitStack() as stack:
        archives = archives or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name, tree in trees.items():
            archive(tree, tree / weights, archives.resolve() / name)
        servers = [
            stack.enter_context(served(name, tree, archives.resolve() / name, PORT + number))
            for number, (name, tree) in enumerate(trees.items())
        ]
        if "ready" in parts:
            click.echo("| server | ready after, s |\n|---|---|")
            for server in servers:
                click.echo(f"| {server.name} | {server.ready_seconds:.2f} |")
        if "clients" in parts:
            _print_clients(servers, ROOT / weights, clients, seconds, rounds)
        if "many" in parts:
            _print_many(servers, ROOT / weights, seconds, rounds)
        if "overload" in parts:
            _print_overload(servers, clients, seconds)


def archive(tree: Path, weights: Path, out: Path) -> None:
    """Write the archives of a checkout, unless they are there."""
    if not out.is_dir():
        command = [*AFFECTGAN, "archive", str(weights), "--out", str(out)]
        subprocess.run(command, check=True, cwd=tree, env=_environment(tree), stdout=sys.stderr)


def _environment(tree: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}


@contextmanager
def served(name: str, tree: Path, models: Path, port: int) -> Iterator[MeasuredServer]:
    """The gateway of a checkout with its model server, ready. Raises ClickException when it is not
    in time.
    """
    url = f"http://127.0.0.1:{port}"
    command = [*AFFECTGAN, "serve", "--models", str(models), "--port", str(port)]
    with tempfile.TemporaryFile() as log:
        start = time.monotonic()
        child = subprocess.Popen(command, cwd=tree, env=_environment(tree), stdout=log, stderr=log)
        try:
            asyncio.run(_ready(url, child, start + START_SECONDS))
            yield MeasuredServer(name, url, psutil.Process(child.pid), time.monotonic() - start)
        except TimeoutError as error:
            log.seek(0)
            raise click.ClickException(f"{name}: {log.read().decode()[-2000:]}") from error
        finally:
            child.terminate()
            child.wait(60)


async def _ready(url: str, child: subprocess.Popen[bytes], end: float) -> None:
    async with aiohttp.ClientSession() as session:
        while child.poll() is None and time.monotonic() < end:
            try:
                async with session.get(f"{url}/readyz") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.02)
    raise TimeoutError


# -- many clients ----------------------------------------------------------------------------------


def _print_clients(
    servers: list[MeasuredServer], weights: Path, clients: int, seconds: float, rounds: int
) -> None:
    click.echo(
        "| what | where | answers/s | CPU, ms | gateway + Java + workers | p50, ms | p99, ms | "
        "refused |\n|---|---|---|---|---|---|---|---|"
    )
    for kind in (PORTRAIT, CROP):
        taken = {server.name: Answers() for server in servers}
        for number in range(rounds + 1):
            for server in servers:
                answers = taken[server.name] if number else Answers()
                closed_loop(server, kind, answers, clients=clients, seconds=seconds)
        for name, answers in taken.items():
            p50, p99 = 1000 * np.percentile(answers.seconds, (50, 99))
            cpu = np.median(answers.cpu_ms, axis=0)
            click.echo(
                f"| {kind.name} | {name} | {np.median(answers.rates):.1f} | {cpu.sum():.1f} | "
                f"{' + '.join(f'{part:.1f}' for part in cpu)} | {p50:.0f} | {p99:.0f} | "
                f"{answers.refused} |"
            )
        rate, used = unserved(weights, kind, seconds)
        click.echo(f"| {kind.name} | no server | {rate:.1f} | {used:.1f} | | | | |")


def closed_loop(
    server: MeasuredServer, kind: Kind, answers: Answers, *, clients: int, seconds: float
) -> None:
    """Add a round: clients that wait for an answer before they ask again."""
    asyncio.run(_closed_loop(server, kind, answers, clients, seconds))


async def _closed_loop(
    server: MeasuredServer, kind: Kind, answers: Answers, clients: int, seconds: float
) -> None:
    body, already = kind.body(), len(answers.seconds)
    start, cpu = time.monotonic(), server.cpu_seconds()

    async def client(session: aiohttp.ClientSession) -> None:
        while (sent := time.monotonic()) < start + seconds:
            if await _is_answered(session, server, body):
                answers.seconds.append(time.monotonic() - sent)
            else:
                answers.refused += 1
                await asyncio.sleep(REFUSED_SECONDS)

    async with _session() as session:
        await asyncio.gather(*(client(session) for _ in range(clients)))
    done = len(answers.seconds) - already
    answers.rates.append(done / (time.monotonic() - start))
    answers.cpu_ms.append(1000 * (server.cpu_seconds() - cpu) / max(done, 1))


def _session() -> aiohttp.ClientSession:
    headers = AFRESH | {"Content-Type": "application/json"}
    connector = aiohttp.TCPConnector(limit=0)
    return aiohttp.ClientSession(connector=connector, headers=headers)


async def _is_answered(session: aiohttp.ClientSession, server: MeasuredServer, body: bytes) -> bool:
    """Not when it was refused. Raises ClickException for anything else."""
    async with session.post(f"{server.url}/v1/predict", data=body) as answer:
        content = await answer.read()
    if answer.status != 503 and (answer.status != 200 or b'"status":"ok"' not in content):
        raise click.ClickException(f"{server.name}: {answer.status}: {content[:500]!r}")
    return answer.status == 200


def unserved(weights: Path, kind: Kind, seconds: float) -> tuple[float, float]:
    """Pictures/s and CPU in ms of decoding, finding and reading in a process for each core."""
    cores = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(cores, get_context("spawn")) as pool:
        arguments = weights, kind.content, kind.faces, seconds
        shares = [pool.submit(work_unserved, *arguments) for _ in range(cores)]
        rates, cpu = zip(*(share.result() for share in shares), strict=True)
    return sum(rates), float(np.mean(cpu))


# -- one large request -----------------------------------------------------------------------------


def _print_many(servers: list[MeasuredServer], weights: Path, seconds: float, rounds: int) -> None:
    click.echo("| what | where | pictures/s | CPU of a picture, ms |\n|---|---|---|---|")
    for kind in (PORTRAIT, CROP):
        taken: dict[str, list[tuple[float, float]]] = {server.name: [] for server in servers}
        for number in range(rounds + 1):
            for server in servers:
                one = large_request(server, kind)
                taken[server.name] += [one] if number else []
        for name, values in taken.items():
            rate, used = np.median(values, axis=0)
            click.echo(f"| {MANY} of {kind.name} | {name} | {rate:.1f} | {used:.1f} |")
        rate, used = unserved(weights, kind, seconds)
        click.echo(f"| {MANY} of {kind.name} | no server | {rate:.1f} | {used:.1f} |")


def large_request(server: MeasuredServer, kind: Kind) -> tuple[float, float]:
    """Pictures/s, and CPU of a picture in ms, of MANY pictures in one request."""
    return asyncio.run(_large_request(server, kind))


async def _large_request(server: MeasuredServer, kind: Kind) -> tuple[float, float]:
    body = kind.body(MANY)
    async with _session() as session:
        start, cpu = time.monotonic(), server.cpu_seconds()
        await _is_answered(session, server, body)
        seconds = time.monotonic() - start
    return MANY / seconds, 1000 * float((server.cpu_seconds() - cpu).sum()) / MANY


# -- at the limit and beyond -----------------------------------------------------------------------


class TimedRequest(NamedTuple):
    """A request of a flood: how long it took, when it ended (monotonic), and its status."""

    seconds: float
    end: float
    status: int


@dataclass(frozen=True)
class LoadFigures:
    """A server at four fifths of its capacity, and at three times it."""

    capacity: float  # answers/s
    p50_ms: float  # at four fifths
    p99_ms: float
    goodput: float  # share of the capacity that is answered in time, at three times
    refusals: int
    refusal_p50_ms: float
    refusal_p99_ms: float


def _print_overload(servers: list[MeasuredServer], clients: int, seconds: float) -> None:
    click.echo(
        "| where | capacity/s | p50 at 80 %, ms | p99, ms | p99 / p50 | goodput at 3 times | "
        "refused | refusal p50, ms | p99, ms |\n|---|---|---|---|---|---|---|---|---|"
    )
    for server in servers:
        one = loaded(server, clients=clients, seconds=seconds)
        click.echo(
            f"| {server.name} | {one.capacity:.1f} | {one.p50_ms:.0f} | {one.p99_ms:.0f} | "
            f"{one.p99_ms / one.p50_ms:.1f} | {one.goodput:.2f} | {one.refusals} | "
            f"{one.refusal_p50_ms:.0f} | {one.refusal_p99_ms:.0f} |"
        )


def loaded(server: MeasuredServer, *, clients: int, seconds: float) -> LoadFigures:
    """Portraits: the capacity first, then twice `seconds` at either load."""
    capacity = Answers()
    for answers in (Answers(), capacity):
        closed_loop(server, PORTRAIT, answers, clients=clients, seconds=seconds)
    most = capacity.rates[0]
    calm = asyncio.run(_open_loop(server, LOAD * most, 2 * seconds))
    start = time.monotonic()
    flood = asyncio.run(_open_loop(server, OVERLOAD * most, 2 * seconds))
    p50, p99 = np.percentile([1000 * one.seconds for one in calm if one.status == 200], (50, 99))
    # while requests come: not while the queue fills, nor while it empties
    first, last = start + DEADLINE_SECONDS, start + 2 * seconds
    good = sum(one.status == 200 and first <= one.end < last for one in flood) / (last - first)
    refused = [1000 * one.seconds for one in flood if one.status == 503] or [np.nan]
    return LoadFigures(
        most, p50, p99, good / most, len(refused), *map(float, np.percentile(refused, (50, 99)))
    )


async def _open_loop(server: MeasuredServer, rate: float, seconds: float) -> list[TimedRequest]:
    """Portraits at random moments, whether answers come or not."""
    gaps = np.random.default_rng(0).exponential(1 / rate, int(rate * seconds))
    body, start = PORTRAIT.body(), time.monotonic()
    async with _session() as session, asyncio.TaskGroup() as group:
        tasks = []
        for moment in start + np.cumsum(gaps):
            await asyncio.sleep(max(0.0, moment - time.monotonic()))
            tasks.append(group.create_task(_timed(session, server, body)))
        return [await task for task in tasks]


async def _timed(
    session: aiohttp.ClientSession, server: MeasuredServer, body: bytes
) -> TimedRequest:
    start = time.monotonic()
    headers = {"X-Deadline-Seconds": str(DEADLINE_SECONDS)}
    async with session.post(f"{server.url}/v1/predict", data=body, headers=headers) as answer:
        await answer.read()
    end = time.monotonic()
    return TimedRequest(end - start, end, answer.status)


if __name__ == "__main__":
    main()
