"""The same network behind four servers, hit by the same clients in the same run: bare TorchServe,
our gateway, LitServe, BentoML.

python -m benchmarks.servers [--weights weights] [--clients 16] [--seconds 10] [--rounds 3]
[--workers 1] [--peers .venv/peers]

Each gets the same 224 px JPEG, decodes it, finds and aligns the face, reads it in batches of up to
32 and answers JSON; each has as many workers for the forward pass, all with the decoding, finding
and allocator settings and the runtime of ours. All run from the start and take
turns, so that what else the machine does falls on all of them. BentoML needs another OpenTelemetry
than ours, so LitServe and BentoML get an environment of their own, made at the first
run, which borrows torch and the rest from this one. Our gateway decodes in two threads of its own,
a process apart from the model: the others do it where the model is. It is run as it is served, its
cache set to keep nothing, with the model server that `AFFECTGAN_RUNTIME` says (`torchserve`,
`process`).
"""

import asyncio
import base64
import contextlib
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import click
import numpy as np
import psutil
import yaml

from benchmarks.contenders.reader import BATCH, WEIGHTS, WORKERS
from benchmarks.gateway import picture
from benchmarks.load import AFRESH
from service.backend import torchserve_config

ROOT = Path(__file__).parents[1]
CONTENDERS = ROOT / "benchmarks" / "contenders"
NEEDS = ("litserve>=0.2.19", "bentoml>=1.4.40")
START_SECONDS = 180.0
PORTS = 8050  # and the next ones
GATEWAY = f"gateway, {os.environ.get('AFFECTGAN_RUNTIME', 'torchserve')}"


@dataclass
class Server:
    """A running server, how a request to it looks, and what was measured."""

    name: str
    process: psutil.Process
    url: str
    body: bytes
    kind: str
    rates: list[float] = field(default_factory=list)  # answers a second, of each round
    cpu: list[float] = field(default_factory=list)  # seconds of CPU an answer, of each round
    seconds: list[float] = field(default_factory=list)  # of each answer
    errors: int = 0

    def row(self, base: "Server") -> str:
        """A line of the table."""
        p50, p99 = (
            np.percentile(self.seconds, (50, 99)) * 1000 if self.seconds else (np.nan, np.nan)
        )
        rate, cpu = np.median(self.rates), np.median(self.cpu)
        ratios = f"{rate / np.median(base.rates):.2f} | {cpu / np.median(base.cpu):.2f}"
        return (
            f"| {self.name} | {rate:.1f} | {p50:.0f} | {p99:.0f} | {1000 * cpu:.1f} | "
            f"{ratios} | {self.errors} |"
        )


@click.command()
@click.option(
    "--weights",
    type=click.Path(path_type=Path, exists=True),
    default=Path("weights"),
    show_default=True,
)
@click.option(
    "--clients", type=int, default=16, show_default=True, help="each with one request at a time"
)
@click.option(
    "--seconds", type=float, default=10.0, show_default=True, help="of each server in a round"
)
@click.option(
    "--rounds", type=int, default=3, show_default=True, help="after one that does not count"
)
@click.option(
    "--workers", type=int, default=1, show_default=True, help="of each server, with a model each"
)
@click.option(
    "--peers",
    type=click.Path(path_type=Path),
    default=Path(".venv/peers"),
    show_default=True,
    help="environment, made if missing",
)
def main(
    weights: Path, clients: int, seconds: float, rounds: int, workers: int, peers: Path
) -> None:
    """Print a table: medians of rounds; latencies of all answers."""
    python = environment(peers)
    os.environ[WORKERS] = str(workers)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        servers = list(_started(stack, folder, weights.resolve(), python))
        asyncio.run(_rounds(servers, clients, seconds, rounds))
    click.echo(
        "| server | answers/s | p50, ms | p99, ms | CPU, ms/answer | answers/s to bare | "
        "CPU to bare | errors |"
    )
    click.echo("|---|---|---|---|---|---|---|---|")
    for server in servers:
        click.echo(server.row(servers[0]))


def environment(folder: Path) -> Path:
    """The Python of an environment with LitServe and BentoML, over the packages of this one."""
    python = folder.resolve() / "bin" / "python"
    if not (folder / "whole").exists():
        click.echo(
            f"installing {' '.join(NEEDS)} into {folder}, over the packages of this environment",
            err=True,
        )
        venv.create(folder, with_pip=True, clear=True)
        own = subprocess.check_output(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
        ).strip()
        (Path(own) / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *NEEDS],
            check=True,
        )
        (folder / "whole").touch()
    return python


def _started(
    stack: contextlib.ExitStack, folder: Path, weights: Path, python: Path
) -> Iterator[Server]:
    """The four servers, bare TorchServe first."""
    content = picture()
    encoded = base64.b64encode(content).decode()
    affectgan = [sys.executable, "-m", "affect.cli"]
    models = str(folder / "models")
    archive = [*affectgan, "archive", str(weights), "--out", models]
    subprocess.run([*archive, "--workers", os.environ[WORKERS]], check=True, stdout=sys.stderr)
    serve = [*affectgan, "serve", "--models", models, "--port", str(PORTS + 1)]
    lit = [str(python), "-m", "benchmarks.contenders.on_litserve", str(PORTS + 2)]
    bento = [
        str(python),
        "-m",
        "bentoml",
        "serve",
        "benchmarks.contenders.on_bentoml:Reading",
        "--host",
        "127.0.0.1",
        "--port",
        str(PORTS + 3),
    ]
    for name, command, path, body, kind in (
        ("bare TorchServe", _torchserve(folder), "predictions/bare", content, "image/jpeg"),
        (GATEWAY, serve, "v1/predict", content, "image/jpeg"),
        ("LitServe", lit, "predict", json.dumps({"content": encoded}).encode(), "application/json"),
        (
            "BentoML",
            bento,
            "predict",
            json.dumps({"contents": [encoded]}).encode(),
            "application/json",
        ),
    ):
        port = PORTS + ("bare TorchServe", GATEWAY, "LitServe", "BentoML").index(name)
        yield Server(
            name,
            _run(stack, folder, command, weights),
            f"http://127.0.0.1:{port}/{path}",
            body,
            kind,
        )


def _torchserve(folder: Path) -> list[str]:
    """The command of a TorchServe with a model of its own, configured as ours is but for a port of
    its own.
    """
    config = {
        "minWorkers": int(os.environ[WORKERS]),
        "maxWorkers": int(os.environ[WORKERS]),
        "batchSize": BATCH,
        "maxBatchDelay": 1,
        "startupTimeout": 120,
        "jobQueueSize": 256,
    }
    (folder / "model-config.yaml").write_text(yaml.safe_dump(config))
    archiver = [
        "--model-name",
        "bare",
        "--version",
        "1",
        "--handler",
        str(CONTENDERS / "on_torchserve.py"),
    ]
    options = ["--config-file", str(folder / "model-config.yaml"), "--export-path", str(folder)]
    subprocess.run(
        [Path(sys.executable).parent / "torch-model-archiver", *archiver, *options], check=True
    )
    torchserve_config.write_settings(folder, folder)
    replaced = ("inference_address=", "load_models=")
    common = [
        line
        for line in torchserve_config.config(folder, folder).splitlines()
        if not line.startswith(replaced)
    ]
    own = [f"inference_address=http://127.0.0.1:{PORTS}", "load_models=bare.mar"]
    (folder / "config.properties").write_text("\n".join([*common, *own]) + "\n")
    return torchserve_config.command(folder, folder)


def _run(
    stack: contextlib.ExitStack, folder: Path, command: list[str], weights: Path
) -> psutil.Process:
    """A server as a child, ended with all of its own at the end of the stack."""
    environment = {
        "PYTHONPATH": str(ROOT),
        WEIGHTS: str(weights),
        "OMP_NUM_THREADS": "1",
        "BENTOML_DO_NOT_TRACK": "true",
        "BENTOML_HOME": str(folder),
    }
    log = stack.enter_context((folder / "servers.log").open("ab"))
    process = psutil.Process(
        subprocess.Popen(
            command, env=os.environ | environment, cwd=folder, stdout=log, stderr=log
        ).pid
    )
    stack.callback(_end, process)
    return process


def _end(process: psutil.Process) -> None:
    family = [process, *process.children(recursive=True)]
    process.terminate()
    _, left = psutil.wait_procs(family, timeout=10)
    for member in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()


async def _rounds(servers: list[Server], clients: int, seconds: float, rounds: int) -> None:
    async with aiohttp.ClientSession() as session:
        for server in servers:
            await _ready(session, server)
    for number in range(rounds + 1):
        for server in servers:
            # new connections: some servers close those that nothing came over for five seconds
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
                await _round(session, server, clients, seconds, counts=number > 0)


async def _ready(session: aiohttp.ClientSession, server: Server) -> None:
    """The server answers. Raises ClickException when it does not in time."""
    end, last_answer = time.monotonic() + START_SECONDS, ""
    while (
        server.process.is_running()
        and server.process.status() != psutil.STATUS_ZOMBIE
        and time.monotonic() < end
    ):
        with contextlib.suppress(aiohttp.ClientError):
            async with session.post(
                server.url, data=server.body, headers=AFRESH | {"Content-Type": server.kind}
            ) as answer:
                last_answer = (await answer.text())[:500]
                if answer.status == 200:
                    return
        await asyncio.sleep(0.5)
    raise click.ClickException(f"{server.name} does not answer: {last_answer}")


async def _round(
    session: aiohttp.ClientSession, server: Server, clients: int, seconds: float, *, counts: bool
) -> None:
    """Clients that wait for an answer before they ask again."""
    start, cpu, taken, errors = time.monotonic(), _cpu(server.process), [], 0

    async def client() -> None:
        nonlocal errors
        while (sent := time.monotonic()) < start + seconds:
            async with session.post(
                server.url, data=server.body, headers=AFRESH | {"Content-Type": server.kind}
            ) as answer:
                await answer.read()
            errors += answer.status != 200
            if answer.status == 200:
                taken.append(time.monotonic() - sent)

    await asyncio.gather(*(client() for _ in range(clients)))
    if counts:
        server.rates.append(len(taken) / (time.monotonic() - start))
        server.cpu.append((_cpu(server.process) - cpu) / max(1, len(taken)))
        server.seconds += taken
        server.errors += errors


def _cpu(process: psutil.Process) -> float:
    """Seconds of CPU that a server and all its processes have used."""
    times = [member.cpu_times() for member in (process, *process.children(recursive=True))]
    return float(sum(used.user + used.system for used in times))


if __name__ == "__main__":
    main()
