"""A gateway in a process of its own: as `affectgan serve` runs it, or with a model in that process
in the place of TorchServe.
"""

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.programs import Program, command, started
from tests.support.waiting import LIMIT_SECONDS, until

# Run with the folder of a file called "hold" and a number: so many requests to predict are
# answered, the others wait as long as the file is there.
SERVER = """
import asyncio, sys
from contextlib import asynccontextmanager
from pathlib import Path
from service.cli.server import listen, run
from tests.support.gateway import LocalBackend
from tests.support.tiny import tiny_model

HOLD, FIRST = Path(sys.argv[1]) / "hold", int(sys.argv[2])

class HeldBackend(LocalBackend):
    async def predict(self, request, **options):
        while len(self.predicted) >= FIRST and HOLD.exists():
            await asyncio.sleep(0.01)
        return await super().predict(request, **options)

@asynccontextmanager
async def open_backend(folder):
    yield HeldBackend(tiny_model())

asyncio.run(run([Path("models")], listen("127.0.0.1", 0), opener=open_backend))
print("ended", flush=True)
"""


@contextmanager
def serving(
    *options: object, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[Program, str]]:
    """`affectgan serve` and its address, once it is ready; it has to end well on SIGTERM."""
    with started(command("serve", "--port", 0, *options), environment or {}) as program:
        url = program.word("http://")
        until(lambda: status(f"{url}/readyz") == 200, LIMIT_SECONDS)
        yield program, url
        if program.process.poll() is None:
            program.process.terminate()
            assert program.ended() == 0, "".join(program.lines)


@contextmanager
def held_gateway(
    folder: Path, environment: Mapping[str, str], *, answers: int = 0
) -> Iterator[tuple[Program, str]]:
    """A gateway that is ready, and its address. It waits while there is a file folder/hold."""
    arguments = [sys.executable, "-c", SERVER, str(folder), str(answers)]
    with started(arguments, environment) as program:
        url = program.word("http://")
        until(lambda: status(f"{url}/readyz") == 200, LIMIT_SECONDS)
        yield program, url


def in_flight(url: str) -> float:
    """Requests to predict that the gateway is serving."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=LIMIT_SECONDS) as response:
        lines = response.read().decode().splitlines()
    name = 'affectgan_requests_in_flight{operation="predict"} '
    return next((float(line.removeprefix(name)) for line in lines if line.startswith(name)), 0.0)


def status(url: str, body: bytes | None = None) -> int:
    """The HTTP status of a GET, or of a POST of JSON; 0 when nobody answers."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=LIMIT_SECONDS) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def fetch(url: str, body: bytes | None = None, **headers: str) -> tuple[Any, dict[str, str]]:
    """The JSON and the headers that a GET, or a POST of JSON, is answered with."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, body, named | {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=LIMIT_SECONDS) as response:
        return json.loads(response.read()), dict(response.headers)
