"""SIGTERM: the balancer is told first, what was accepted is answered, and the process ends well."""

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.support.gateway_process import SERVER, status
from tests.support.pictures import CROPS, FACE, encoded, packed
from tests.support.waiting import until


def test_no_accepted_request_is_lost(tmp_path: Path) -> None:
    environment = {
        "AFFECTGAN_DRAIN_SECONDS": "0.5",
        "AFFECTGAN_CACHE_BYTES": "0",
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
