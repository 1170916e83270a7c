"""Two versions of a tiny model in real TorchServes: one takes the other's place under load, and no request is lost."""

import asyncio
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import aiohttp
import orjson
import psutil
import pytest

from tests.support.pictures import CROPS, FACE, encoded, packed
from tests.support.tiny import tiny_run
from training.archive import write_archives

pytestmark = [pytest.mark.slow, pytest.mark.asyncio]
BODY = orjson.dumps({"images": packed(encoded(FACE)), "options": CROPS})


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    for version in ("1.0", "1.1"):
        write_archives(tiny_run(tmp_path / "run"), tmp_path / version, version=version)
    return [tmp_path / "1.0", tmp_path / "1.1"]


@pytest.fixture
def port(folders: list[Path]) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "affect.cli",
        "serve",
        "--models",
        str(folders[0]),
        "--port",
        str(port),
    ]
    process = subprocess.Popen(command)
    yield port
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


async def until_ready(session: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(120):
        while True:
            try:
                async with session.get("/readyz") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(0.2)


async def client(
    session: aiohttp.ClientSession, seen: list[tuple[float, int, str]], stop: asyncio.Event
) -> None:
    while not stop.is_set():
        async with session.post(
            "/v1/predict", data=BODY, headers={"Content-Type": "application/json"}
        ) as answer:
            told = await answer.json(content_type=None)
            seen.append((time.monotonic(), answer.status, told.get("model", {}).get("version", "")))


def torchserves() -> int:
    """How many TorchServes run below this test."""
    below = psutil.Process().children(recursive=True)
    return sum("org.pytorch.serve.ModelServer" in process.cmdline() for process in below)


async def test_a_swap_under_load_loses_no_request(port: int, folders: list[Path]) -> None:
    seen: list[tuple[float, int, str]] = []
    stop = asyncio.Event()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        await until_ready(session)
        clients = [asyncio.create_task(client(session, seen, stop)) for _ in range(16)]
        await asyncio.sleep(2)
        command = [
            "from service.cli.models import models; models()",
            "swap",
            str(folders[1]),
            "--port",
            str(port),
        ]
        swapping = await asyncio.create_subprocess_exec(sys.executable, "-c", *command)
        assert await swapping.wait() == 0
        swapped = time.monotonic()
        await asyncio.sleep(2)
        stop.set()
        await asyncio.gather(*clients)
    assert Counter(status for _, status, _ in seen) == {200: len(seen)}
    assert {version for _, _, version in seen} == {"1.0", "1.1"}
    assert {version for end, _, version in seen if end > swapped} == {"1.1"}
    assert torchserves() == 1
    longest = max(later - earlier for (earlier, *_), (later, *_) in pairwise(sorted(seen)))
    print(f"{len(seen)} requests, longest time without an answer {longest:.2f} s")
