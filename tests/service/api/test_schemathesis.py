"""The running server does what openapi.yaml says: schemathesis, which nobody here wrote, with all
checks but one (schemathesis.toml).
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.settings import Settings
from tests.support.gateway import Gateway, serve

CONFIG = Path(__file__).with_name("schemathesis.toml")


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    yield from serve(Settings(cache_bytes=0))


def cases(gateway: Gateway, folder: Path, *options: str) -> int:
    """Requests that schemathesis sent, all answered as declared."""
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "--config-file",
        str(CONFIG),
        "run",
        f"{gateway.url}/openapi.json",
    ]
    environment = {**os.environ, "NO_COLOR": "1"}
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, cwd=folder, env=environment
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
    (passed,) = re.findall(r"(\d+) generated, \1 passed", done.stdout)
    return int(passed)


def test_no_request_gets_an_answer_that_is_not_declared(gateway: Gateway, tmp_path: Path) -> None:
    assert cases(gateway, tmp_path, "--max-examples", "5", "--seed", "1") > 300


@pytest.mark.slow
def test_many_requests_get_no_answer_that_is_not_declared(gateway: Gateway, tmp_path: Path) -> None:
    assert cases(gateway, tmp_path, "--max-examples", "200") > 1000
