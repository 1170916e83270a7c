"""The image for processors, with each runtime, built and run (`make test-image`)."""

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.browser import EXAMPLES
from tests.support.gateway_process import status
from tests.support.images import Builder, builder
from tests.support.waiting import LIMIT_SECONDS, until

pytestmark = [pytest.mark.processes, pytest.mark.image]
PORT = 8477
LARGEST_BYTES = {"torchserve": 1_300_000_000, "process": 1_150_000_000}  # docs/operations.md
GATEWAY_BYTES = 650_000_000  # the gateway alone
SERVE = ("affectgan", "serve", "--models", "/models", "--port")


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    with builder(tmp_path_factory.mktemp("images")) as podman:
        yield podman


@pytest.fixture(scope="module", params=LARGEST_BYTES)
def runtime(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def image(podman: Builder, runtime: str) -> str:
    return podman.build("cpu", runtime)


@pytest.fixture
def container(podman: Builder, image: str) -> Iterator[str]:
    """A server with a read-only root, no capabilities and a user that the image does not know."""
    with _ready(podman, image, PORT) as name:
        yield name


@contextmanager
def _ready(podman: Builder, image: str, port: int, *how: str) -> Iterator[str]:
    with podman.running(image, *SERVE, str(port), *how) as name:
        until(lambda: status(f"http://127.0.0.1:{port}/readyz") == 200, LIMIT_SECONDS)
        yield name


def _status(path: str, body: bytes, media_type: str) -> int:
    """The status of an answer."""
    url = f"http://127.0.0.1:{PORT}{path}"
    request = urllib.request.Request(url, body, {"Content-Type": media_type})
    with urllib.request.urlopen(request, timeout=LIMIT_SECONDS) as answer:
        return int(answer.status)


def test_it_serves_confined_and_ends_well(podman: Builder, container: str) -> None:
    picture = Path(EXAMPLES / "smile.jpg").read_bytes()
    assert _status("/v1/predict", picture, "image/jpeg") == 200
    assert _status("/v1/explain", picture, "image/jpeg") == 200
    assert (
        _status("/v1/generate", b'{"items": [{"aus": {"AU12": 0.8}}]}', "application/json") == 200
    )
    podman.run("stop", "--time", "120", container)
    assert podman.run("inspect", container, "--format", "{{.State.ExitCode}}").strip() == "0"


def test_it_can_do_nothing_but_serve(podman: Builder, container: str) -> None:
    def inside(script: str) -> str:
        return podman.run("exec", container, "sh", "-c", script).strip()

    assert inside("id -u") == "12345"
    assert inside("grep CapEff /proc/1/status").split() == ["CapEff:", "0" * 16]
    assert inside("touch /models/x 2>/dev/null || echo refused") == "refused"
    assert inside("python -c 'import pip' 2>/dev/null || echo missing") == "missing"
    assert inside("cat /proc/1/comm") == "tini"


def test_it_is_no_larger_than_it_was(podman: Builder, image: str, runtime: str) -> None:
    assert _size(podman, image) < LARGEST_BYTES[runtime]


def _size(podman: Builder, image: str) -> int:
    return int(podman.run("image", "inspect", image, "--format", "{{.Size}}"))


def test_a_gateway_alone_is_small_and_asks_the_models_elsewhere(podman: Builder) -> None:
    models, gateway = (podman.build("cpu", runtime) for runtime in ("process", "oip"))
    address = f"oip://127.0.0.1:{PORT + 1}"
    with _ready(podman, models, PORT + 1), _ready(podman, gateway, PORT, "--runtime", address):
        picture = Path(EXAMPLES / "smile.jpg").read_bytes()
        assert _status("/v1/predict", picture, "image/jpeg") == 200
    assert _size(podman, gateway) < GATEWAY_BYTES


def test_what_a_change_of_the_code_changes_is_small(podman: Builder, image: str) -> None:
    """Layers above that of the dependencies: the code and the models."""
    layers = json.loads(podman.run("history", image, "--format", "json"))
    sizes = [layer["size"] for layer in layers if "COPY" in layer["CreatedBy"]]
    assert len(sizes) == 3 and sum(sizes) - max(sizes) < 150_000_000
