"""`affectgan verify` in this process and asked of a gateway."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from service.cli.verify import verify
from tests.support.gateway import Gateway
from tests.support.pictures import FACE, encoded
from tests.support.signed import signed_png


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(verify, list(map(str, arguments)))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    (tmp_path / "broken.png").write_bytes(b"nothing")
    (tmp_path / "plain.png").write_bytes(encoded(FACE))
    (tmp_path / "signed.png").write_bytes(signed_png([1, 2]))
    return tmp_path


@pytest.mark.parametrize("by_gateway", [True, False], ids=["of a gateway", "here"])
def test_each_picture_has_a_line_and_a_broken_one_fails_alone(
    gateway: Gateway, pictures: Path, by_gateway: bool
) -> None:
    done = _run(pictures, *(("--url", gateway.url) if by_gateway else ()))
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.exit_code == 1 and [Path(line["file"]).name for line in lines] == [
        "broken.png",
        "plain.png",
        "signed.png",
    ]
    assert lines[0]["status"] == "error"
    assert [line["verdict"] for line in lines[1:]] == ["unknown", "made by AI"]


def test_a_request_that_cannot_be_made_is_one_sentence(pictures: Path, tmp_path: Path) -> None:
    nobody = _run(pictures / "plain.png", "--url", "http://127.0.0.1:1")
    assert nobody.exit_code == 1 and "nobody answers" in nobody.stderr
    (tmp_path / "empty").mkdir()
    assert "no picture found" in _run(tmp_path / "empty").stderr
