"""The running server does what openapi.yaml says: schemathesis, which nobody here wrote, with all
checks but one (schemathesis.toml).
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis

from service.settings import Settings
from tests.support import schemathesis_hooks
from tests.support.gateway import Gateway, serve
from tests.support.schemathesis_hooks import FORM

CONFIG = Path(__file__).with_name("schemathesis.toml")
OPENAPI = Path(__file__).parents[3] / "openapi.yaml"
HOOKS = schemathesis_hooks.__file__


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
    environment = {**os.environ, "NO_COLOR": "1", "SCHEMATHESIS_HOOKS": HOOKS}
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, cwd=folder, env=environment
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
    (passed,) = re.findall(r"(\d+) generated, \1 passed", done.stdout)
    return int(passed)


def test_no_request_gets_an_answer_that_is_not_declared(gateway: Gateway, tmp_path: Path) -> None:
    assert cases(gateway, tmp_path, "--max-examples", "5", "--seed", "1") > 300


@pytest.mark.parametrize(
    ("kind", "body", "sent"),
    [
        (FORM, {"images": [b"x"], "options": []}, False),
        (FORM, {"images": [b"x"], "options": {}}, False),
        (FORM, {"images": [b"x"], "options": [{}]}, False),
        (FORM, {"images": [b"x"], "other": []}, False),
        (FORM, {"images": [b"x"], "other": [1]}, True),
        (FORM, {"images": [b"x"], "options": "["}, True),
        (FORM, {"images": [], "options": "{}"}, True),
        (FORM, {"images": [b"x"]}, True),
        ("application/json", {"images": [], "options": []}, True),
    ],
)
def test_only_forms_that_would_be_sent_as_others_are_left_out(
    kind: str, body: Any, sent: bool
) -> None:
    """What is sent may be right, so that its answer would be called wrong."""
    predict = schemathesis.openapi.from_path(OPENAPI)["/v1/predict"]["POST"]
    case = predict.Case(media_type=kind, body=body)
    context = schemathesis.HookContext(operation=predict)
    assert schemathesis_hooks.filter_case(context, case) is sent


@pytest.mark.slow
def test_many_requests_get_no_answer_that_is_not_declared(gateway: Gateway, tmp_path: Path) -> None:
    assert cases(gateway, tmp_path, "--max-examples", "200") > 1000
