"""Models are fetched by reference, and only when they are what was pushed."""

import json
import os
import shutil
import socket
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import pytest
from click.testing import CliRunner
from moto.server import ThreadedMotoServer

from affect.artefacts import ArtefactError, Reference, fetch, push
from tests.support.archives import tiny_archives
from tests.support.http_servers import running
from tests.support.waiting import until
from training.push import push as push_command

pytestmark = pytest.mark.processes

REGISTRY = """
version: 0.1
storage: {{filesystem: {{rootdirectory: {folder}/data}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""
AUTHENTICATED = "auth: {{htpasswd: {{realm: it, path: {folder}/htpasswd}}}}\n"
HTPASSWD = "operator:$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_archives(tmp_path_factory.mktemp("models"))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def _serving(folder: Path, config: str) -> Iterator[str]:
    """Address of a registry with its data in a folder."""
    if shutil.which("docker-registry") is None:
        message = "docker-registry is missing: `make setup` as root installs it"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)
    port = _free_port()
    (folder / "config.yml").write_text(config.format(folder=folder, port=port))
    command = ["docker-registry", "serve", str(folder / "config.yml")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        until(lambda: _listens(port))
        yield f"127.0.0.1:{port}"
        process.kill()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a registry of one's own."""
    with _serving(tmp_path_factory.mktemp("registry"), REGISTRY) as address:
        yield address


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket of an object store that speaks S3 over HTTP; s3fs finds it as it finds any other, by
    the environment.
    """
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "it")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "it")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.client("s3").create_bucket(Bucket="models")
        yield "models"
    server.stop()


@pytest.fixture(params=["file", "oci", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a model may be pushed to: a folder, a registry, an object store."""
    if request.param == "oci":
        return f"oci://{request.getfixturevalue('registry')}/affectgan:1.0"
    if request.param == "s3":
        return f"s3://{request.getfixturevalue('bucket')}/{tmp_path.name}/1.0"
    return f"file://{tmp_path / 'store'}"


def test_what_is_fetched_is_what_was_pushed(store: str, models: Path, tmp_path: Path) -> None:
    pinned = push(models, store)
    folder = fetch(str(pinned), tmp_path / "cache")
    assert folder.name == pinned.digest
    for path in models.iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes()


def test_a_registry_that_asks_who_it_is_gets_what_docker_login_wrote(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    with _serving(tmp_path, REGISTRY + AUTHENTICATED) as address:
        login = {"auths": {address: {"auth": b64encode(b"operator:secret").decode()}}}
        (tmp_path / "config.json").write_text(json.dumps(login))
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
        pinned = push(models, f"oci://{address}/affectgan:1.0")
        assert fetch(str(pinned), tmp_path / "cache").name == pinned.digest
        monkeypatch.delenv("DOCKER_CONFIG")
        with pytest.raises(ArtefactError, match=f"docker login {address}"):
            fetch(str(pinned), tmp_path / "another")


def test_what_is_in_the_cache_is_not_fetched_again(models: Path, tmp_path: Path) -> None:
    reference = push(models, f"file://{tmp_path / 'store'}")
    first = fetch(str(reference), tmp_path / "cache")
    shutil.rmtree(tmp_path / "store")
    assert fetch(str(reference), tmp_path / "cache") == first


@pytest.mark.parametrize("name", ["card.json", "manifest.json"])
def test_an_object_that_was_changed_after_it_was_pushed_is_refused(
    bucket: str, models: Path, tmp_path: Path, name: str
) -> None:
    pinned = push(models, f"s3://{bucket}/{tmp_path.name}")
    key = f"{tmp_path.name}/{name}"
    client = boto3.client("s3")
    content = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    client.put_object(Bucket=bucket, Key=key, Body=content + b" ")
    with pytest.raises(ArtefactError, match=r"is not what was pushed.*nothing of it is used"):
        fetch(str(pinned), tmp_path / "cache")


def test_an_object_store_that_lacks_the_model_is_reported_by_its_name(
    bucket: str, tmp_path: Path
) -> None:
    with pytest.raises(ArtefactError, match=f"s3://{bucket}/nothing cannot be fetched"):
        fetch(f"s3://{bucket}/nothing@sha256:{'0' * 64}", tmp_path)


@pytest.mark.parametrize("name", ["affectgan-predict.mar", "card.json", "manifest.json"])
def test_what_was_changed_after_it_was_pushed_is_refused(
    models: Path, tmp_path: Path, name: str
) -> None:
    reference = push(models, f"file://{tmp_path / 'store'}")
    with (tmp_path / "store" / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(ArtefactError, match=r"is not what was pushed.*nothing of it is used"):
        fetch(str(reference), tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_a_reference_without_a_digest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="not pinned: add @sha256:"):
        fetch("s3://models/affectgan/1.0", tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ftp://host/model", "begin with one of s3://, gs://"),
        ("s3://models/1.0@sha256:12", "not 64 hexadecimal digits"),
    ],
)
def test_what_is_no_reference_is_reported_with_a_remedy(text: str, words: str) -> None:
    with pytest.raises(ArtefactError, match=words):
        Reference.parse(text)


def test_a_store_that_is_not_there_is_reported_by_its_name(tmp_path: Path) -> None:
    unreachable = f"oci://127.0.0.1:{_free_port()}/affectgan:1.0@sha256:{'0' * 64}"
    with pytest.raises(ArtefactError, match=r"oci://127.0.0.1:\d+/affectgan:1.0 cannot be fetched"):
        fetch(unreachable, tmp_path)


def test_another_model_is_not_written_over(models: Path, tmp_path: Path) -> None:
    push(models, f"file://{tmp_path / 'store'}")
    other = tiny_archives(tmp_path / "other", version="1.1")
    with pytest.raises(ArtefactError, match="holds another model; push to another place"):
        push(other, f"file://{tmp_path / 'store'}")


def test_the_command_prints_what_to_pin_it_by(models: Path, tmp_path: Path) -> None:
    target = f"file://{tmp_path / 'store'}"
    result = CliRunner().invoke(push_command, [str(models), target])
    assert result.exit_code == 0, result.output
    assert result.output.strip() == str(push(models, target))
    assert fetch(result.output.strip(), tmp_path / "cache").is_dir()


def test_a_model_comes_over_http(models: Path, tmp_path: Path) -> None:
    pinned = push(models, f"file://{tmp_path / 'store'}")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    with running(server):
        address = f"http://127.0.0.1:{server.server_port}/store@sha256:{pinned.digest}"
        folder = fetch(address, tmp_path / "cache")
    assert (folder / "card.json").read_bytes() == (models / "card.json").read_bytes()
