"""A Ray head, started as KubeRay starts it, takes a job over HTTP and is alive by the manifest's
probe.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.manifests import the
from tests.support.waiting import until

TOKEN = "of-this-test"
pytestmark = [pytest.mark.slow, pytest.mark.processes]


def _fetch_json(url: str, **payload: str) -> Any:
    """What is answered, or None where nobody is yet."""
    body = json.dumps(payload).encode() if payload else None
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
    request = urllib.request.Request(url, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            text = response.read().decode()
            return json.loads(text) if text.startswith("{") else text
    except (urllib.error.URLError, OSError):
        return None


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]


@pytest.fixture
def head() -> Iterator[tuple[int, int]]:
    """Ports of a head: of its dashboard, and of the agent that probes ask."""
    dashboard, agent, port = _free_ports(3)
    ports = [f"--port={port}", f"--dashboard-port={dashboard}"]
    ports += [f"--dashboard-agent-listen-port={agent}"]
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", *ports]
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # paths of sockets have 107 characters
        command += ["--num-cpus=1", "--object-store-memory=100000000", f"--temp-dir={folder}"]
        environment = os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment) as process:
            yield dashboard, agent
            process.terminate()


def test_a_job_is_taken_and_ends_well(head: tuple[int, int]) -> None:
    dashboard, agent = head
    spec = the("overlays/scoring", "RayJob", "affectgan-score")["spec"]["rayClusterSpec"]
    (container,) = spec["headGroupSpec"]["template"]["spec"]["containers"]
    path = container["readinessProbe"]["httpGet"]["path"]
    assert spec["authOptions"]["mode"] == "token"
    until(lambda: _fetch_json(f"http://127.0.0.1:{agent}{path}"))
    jobs = f"http://127.0.0.1:{dashboard}/api/jobs/"
    name = _fetch_json(jobs, entrypoint=f"{sys.executable} -m affect.cli score --help")[
        "submission_id"
    ]
    until(lambda: _fetch_json(f"{jobs}{name}")["status"] not in ("PENDING", "RUNNING"))
    assert _fetch_json(f"{jobs}{name}")["status"] == "SUCCEEDED"
