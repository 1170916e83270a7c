"""SIGTERM: the balancer is told first, what was accepted is answered, and the process ends well."""

import json
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.service.api.test_app import CROPS, FACE, encoded, packed
from tests.service.inference.test_admission import until

# A server as `affectgan serve` runs it, with a slow model in its own process in the place of TorchServe.
SERVER = """
import asyncio, sys
from contextlib import asynccontextmanager
from pathlib import Path
from service import commands
from tests.service.conftest import LocalBackend
from tests.support.tiny import tiny_model

@asynccontextmanager
async def slow(folder, *, metrics):
    yield LocalBackend(tiny_model(), delay_seconds=1.5)

commands.torchserve = slow
listening = commands.listen("127.0.0.1", 0)
print(listening.getsockname()[1], flush=True)
asyncio.run(commands.run([Path("models")], listening))
print("ended", flush=True)
"""


def status(url: str, body: bytes | None = None) -> int:
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, body, {"Content-Type": "application/json"}), timeout=30
        ) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def test_no_accepted_request_is_lost(tmp_path: Path) -> None:
    environment = {
        "AFFECTGAN_DRAIN_SECONDS": "0.5",
        "TMPDIR": str(tmp_path),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", SERVER]
    root = Path(__file__).parents[3]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment, cwd=root
    ) as server:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        until(lambda: status(f"{url}/readyz") == 200, seconds=60)
        body = json.dumps({"images": packed(encoded(FACE)), "options": CROPS}).encode()
        seen: list[int] = []
        clients = [
            threading.Thread(target=lambda: seen.append(status(f"{url}/v1/predict", body)))
            for _ in range(12)
        ]
        for client in clients:
            client.start()
        time.sleep(0.5)
        server.send_signal(signal.SIGTERM)
        until(lambda: status(f"{url}/readyz") == 503)
        late = status(
            f"{url}/v1/predict", body
        )  # while balancers look elsewhere, whoever comes is served
        for client in clients:
            client.join()
        assert seen == [200] * 12 and late == 200
        assert server.wait(20) == 0 and server.stdout.read() == "ended\n"
    assert status(f"{url}/healthz") == 0
