"""Two versions in real TorchServes: one takes the other's place under load, and nothing is lost."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import orjson
import psutil
import pytest

from tests.support.archives import tiny_archives
from tests.support.gateway_process import serving
from tests.support.pictures import CROPS, FACE, encoded, packed
from tests.support.programs import Program, command

pytestmark = pytest.mark.processes

BODY = orjson.dumps({"images": packed(encoded(FACE)), "options": CROPS})
HEADERS = {"Content-Type": "application/json"}


@pytest.fixture
def server(models: Path) -> Iterator[tuple[Program, str]]:
    only = {"AFFECTGAN_OPERATIONS": "predict"}  # what the clients ask
    with serving("--models", models, environment=only) as (program, url):
        yield program, url


def torchserves(server: Program) -> int:
    """How many run below a server."""
    below = psutil.Process(server.process.pid).children(recursive=True)
    return sum("org.pytorch.serve.ModelServer" in process.cmdline() for process in below)


class Clients:
    """Many that ask one question after the other, until they are stopped."""

    def __init__(self, session: aiohttp.ClientSession, count: int) -> None:
        self.session, self.answers, self.stopped = session, list[tuple[int, str]](), False
        self.tasks = [asyncio.create_task(self._ask()) for _ in range(count)]

    async def _ask(self) -> None:
        while not self.stopped:
            async with self.session.post("/v1/predict", data=BODY, headers=HEADERS) as response:
                answer = await response.json(content_type=None)
                version = answer.get("model", {}).get("version", "")
                self.answers.append((response.status, version))

    async def until_answered(self, count: int) -> None:
        while len(self.answers) < count:
            await asyncio.sleep(0.01)


async def test_a_swap_under_load_loses_no_request(
    server: tuple[Program, str], tmp_path: Path
) -> None:
    program, url = server
    successor = tiny_archives(tmp_path, version="1.1")
    async with aiohttp.ClientSession(url) as session:
        clients = Clients(session, 16)
        await clients.until_answered(50)
        swap = command("models", "swap", successor, "--port", url.rpartition(":")[2])
        swapping = await asyncio.create_subprocess_exec(*swap)
        assert await swapping.wait() == 0
        swapped = len(clients.answers)
        await clients.until_answered(swapped + 50)
        clients.stopped = True
        await asyncio.gather(*clients.tasks)
    assert Counter(status for status, _ in clients.answers) == {200: len(clients.answers)}
    assert {version for _, version in clients.answers[:50]} == {"1.0"}
    assert {version for _, version in clients.answers[swapped + 16 :]} == {"1.1"}
    assert torchserves(program) == 1
