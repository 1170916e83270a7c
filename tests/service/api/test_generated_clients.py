"""Clients that others generate from openapi.yaml: Python and TypeScript, for all three operations
and a raw picture.
"""

import importlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from service.api.openapi import FILE
from tests.support.browser import EXAMPLES
from tests.support.gateway import Gateway
from tests.support.node import TYPESCRIPT, node, npm_install

pytestmark = pytest.mark.processes

SMILE = EXAMPLES / "smile.jpg"
# The generator knows files by one media type only.
OVERRIDES = "content_type_overrides:\n" + "".join(
    f"  image/{kind}: application/octet-stream\n" for kind in ("jpeg", "png", "webp")
)
PACKAGES = ("openapi-typescript@7.13.0", "openapi-fetch@0.17.0", TYPESCRIPT, "@types/node@20")
DEFAULTS = ("--default-non-nullable", "false")  # what has a default may be left out
PROGRAM = Path(__file__).with_name("generated_client.mts")


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """A Python client, imported."""
    folder = tmp_path_factory.mktemp("clients")
    (folder / "config.yaml").write_text(OVERRIDES + "post_hooks: []\n")
    options = ("--config", "config.yaml", "--meta", "none", "--output-path", "faces_client")
    done = subprocess.run(
        [sys.executable, "-m", "openapi_python_client", "generate", "--path", FILE, *options],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "warning" not in done.stdout.lower(), done.stdout + done.stderr
    sys.path.insert(0, str(folder))
    yield importlib.import_module("faces_client")
    sys.path.remove(str(folder))


def _operation(generated: ModuleType, name: str) -> ModuleType:
    return importlib.import_module(f"{generated.__name__}.api.faces.{name}")


def test_a_python_client_reads_a_raw_picture(generated: ModuleType, gateway: Gateway) -> None:
    types = importlib.import_module(f"{generated.__name__}.types")
    client = generated.Client(gateway.url)
    with SMILE.open("rb") as payload:
        answer = _operation(generated, "predict").sync(
            client=client, body=types.File(payload=payload)
        )
    (face,) = answer.results[0].faces
    assert answer.model.name == "affectgan" and 0 <= face.aus["AU12"].probability <= 1


def test_a_python_client_sends_a_form_and_asks_a_question(
    generated: ModuleType, gateway: Gateway
) -> None:
    models, types = (
        importlib.import_module(f"{generated.__name__}.{part}") for part in ("models", "types")
    )
    with SMILE.open("rb") as payload:
        image = types.File(payload=payload, file_name="smile.jpg", mime_type="image/jpeg")
        body = models.ExplainFilesBody(images=[image], options='{"question": {"au": "AU12"}}')
        answer = _operation(generated, "explain").sync(
            client=generated.Client(gateway.url), body=body
        )
    (result,) = answer.results
    assert result.sentence and result.trust.level in ("high", "medium", "low")


def test_a_python_client_draws(generated: ModuleType, gateway: Gateway) -> None:
    models = importlib.import_module(f"{generated.__name__}.models")
    item = models.GenerateItem(aus=models.GenerateItemAus.from_dict({"AU12": 0.9}), seed=7)
    answer = _operation(generated, "generate").sync(
        client=generated.Client(gateway.url), body=models.GenerateBody(items=[item])
    )
    assert answer.results[0].image.media_type == "image/png" and answer.results[0].seed == 7


def test_a_refusal_reaches_a_python_client_as_a_problem(
    generated: ModuleType, gateway: Gateway
) -> None:
    models = importlib.import_module(f"{generated.__name__}.models")
    answer = _operation(generated, "predict").sync(
        client=generated.Client(gateway.url), body=models.PredictBody(images=[])
    )
    assert answer.status == 422 and answer.code == "no_images"


def test_a_typescript_client_is_typed_and_asks_for_everything(
    gateway: Gateway, tmp_path: Path
) -> None:
    shutil.copy(PROGRAM, tmp_path / "client.mts")

    def run(*command: str) -> str:
        done = node(tmp_path, *command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    npm_install(tmp_path, *PACKAGES)
    run("node_modules/.bin/openapi-typescript", str(FILE), "-o", "faces.ts", *DEFAULTS)
    run(
        *("node_modules/.bin/tsc", "--strict", "--module", "nodenext", "--target", "es2022"),
        *("--skipLibCheck", "client.mts"),
    )
    output = run("client.mjs", gateway.url, str(SMILE))
    assert output.split() == ["read", "explained", "drawn", "refused"]
