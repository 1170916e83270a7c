"""SIGTERM: the balancer learns of it first, what was accepted is answered, the process ends
well.
"""

import json
import signal
import threading
from pathlib import Path

import pytest

from tests.support.gateway_process import held_gateway, in_flight, status
from tests.support.pictures import CROPS, FACE, encoded, packed
from tests.support.waiting import until

pytestmark = pytest.mark.processes

BODY = json.dumps({"images": packed(encoded(FACE)), "options": CROPS}).encode()


class Clients:
    """Each sends one request and keeps the status that it is answered with."""

    def __init__(self, url: str) -> None:
        self.url, self.statuses, self.threads = url, list[int](), list[threading.Thread]()

    def start(self, count: int) -> None:
        new = [threading.Thread(target=self._ask) for _ in range(count)]
        for thread in new:
            thread.start()
        self.threads += new

    def _ask(self) -> None:
        self.statuses.append(status(f"{self.url}/v1/predict", BODY))

    def join(self) -> None:
        for thread in self.threads:
            thread.join()


def test_no_accepted_request_is_lost(tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    environment = {
        "AFFECTGAN_DRAIN_SECONDS": "3",
        "AFFECTGAN_CACHE_BYTES": "0",
        "TMPDIR": str(tmp_path),
    }
    with held_gateway(tmp_path, environment) as (server, url):
        clients = Clients(url)
        clients.start(12)
        until(lambda: in_flight(url) == 12)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: status(f"{url}/readyz") == 503)
        clients.start(1)  # while balancers look elsewhere, whoever comes is served
        until(lambda: in_flight(url) == 13)
        hold.unlink()
        clients.join()
        assert clients.statuses == [200] * 13
        assert server.ended() == 0 and server.lines[-1] == "ended\n"
    assert status(f"{url}/healthz") == 0
