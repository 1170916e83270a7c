"""API keys, made as an operator makes them, and requests that carry one."""

from pathlib import Path

from click.testing import CliRunner

from service.access import api_keys
from tests.support.gateway import Gateway, Reply
from tests.support.pictures import PREDICT_BODY


def add_key(file: Path, name: str = "clinic", *options: str) -> str:
    """A new key, whose hash is now in the file."""
    result = CliRunner().invoke(api_keys.keys, ["new", name, "--file", str(file), *options])
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def post_with_key(gateway: Gateway, key: str, path: str = "/v1/predict", **headers: str) -> Reply:
    """The reply to a picture that is sent with this key; "" sends none."""
    return gateway.post(path, PREDICT_BODY, **({"X-API-Key": key} if key else {}), **headers)
