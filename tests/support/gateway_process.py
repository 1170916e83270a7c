"""A gateway in a process of its own, as `affectgan serve` runs it."""

import urllib.error
import urllib.request

# A slow model in the gateway's own process takes the place of TorchServe. Run with `python -c`.
SERVER = """
import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from service.cli.server import listen, run
from tests.support.gateway import LocalBackend
from tests.support.tiny import tiny_model

@asynccontextmanager
async def slow(folder):
    yield LocalBackend(tiny_model(), delay_seconds=1.5)

listening = listen("127.0.0.1", 0)
print(listening.getsockname()[1], flush=True)
asyncio.run(run([Path("models")], listening, opener=slow))
print("ended", flush=True)
"""


def status(url: str, body: bytes | None = None) -> int:
    """The HTTP status of a GET, or of a POST of JSON; 0 when nobody answers."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0
