"""Models by reference: a folder, or s3://, gs://, https:// (fsspec) and oci:// (ORAS), pinned by
digest.

    s3://models/affectgan/1.1@sha256:...       the digest is that of manifest.json, which lists the
                                               SHA-256 of every file beside it
    oci://registry.example/affectgan:1.1@sha256:...    that of the OCI manifest, which a registry
                                               has anyway

What comes from elsewhere is code that will run here. So a reference without a digest is refused,
and a file that does not match the manifest is never put where it would be served from. The writer
and the reader are here.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from affect import signatures
from affect.archive import OPERATIONS, archive_of, sha256_of
from affect.card import CARD_FILE, ModelCard

MANIFEST_FILE = "manifest.json"
CACHE_VARIABLE = "AFFECTGAN_MODELS_CACHE"
SCHEMES = ("s3", "gs", "https", "http", "oci", "memory", "file")
MEDIA_TYPE = "application/vnd.affectgan.model.v1"
_TITLE = "org.opencontainers.image.title"
_REFERENCE = re.compile(r"(?P<scheme>[a-z0-9]+)://(?P<place>[^@]+)(@sha256:(?P<digest>\w+))?")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class ArtefactError(ValueError):
    """A model that cannot be fetched or pushed: names the reference and the remedy."""


@dataclass(frozen=True)
class Reference:
    """Where a model is; `digest` is hexadecimal."""

    scheme: str
    place: str
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """Raises ArtefactError."""
        match = _REFERENCE.fullmatch(text)
        if match is None or match["scheme"] not in SCHEMES:
            schemes = ", ".join(f"{scheme}://" for scheme in SCHEMES[:5])
            raise ArtefactError(f"{text!r} is no reference; begin with one of {schemes}")
        if match["digest"] and not _DIGEST.fullmatch(match["digest"]):
            raise ArtefactError(f"the digest of {text!r} is not 64 hexadecimal digits")
        return cls(match["scheme"], match["place"].rstrip("/"), match["digest"])

    def __str__(self) -> str:
        return f"{self.url}@sha256:{self.digest}" if self.digest else self.url

    @property
    def url(self) -> str:
        """Without the digest."""
        return f"{self.scheme}://{self.place}"


def is_reference(text: str) -> bool:
    """Whether it is one, rather than the path of a folder."""
    return "://" in text


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where fetched models are kept: AFFECTGAN_MODELS_CACHE, or the user's cache folder."""
    home = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(environment.get(CACHE_VARIABLE) or Path(home) / "affectgan" / "models")


def fetch(text: str, cache: Path | None = None) -> Path:
    """The folder of a model: the one named, or a copy in the cache whose every file is as its
    manifest says. Raises ArtefactError, and SignatureError where a key is trusted that did not
    sign it.
    """
    if not is_reference(text):
        signatures.check(Path(text))
        return Path(text)
    reference, cache = Reference.parse(text), cache or cache_folder()
    if reference.digest is None:
        raise ArtefactError(
            f"{text} is not pinned: add @sha256: and the digest that `affectgan push` printed"
        )
    folder = cache / reference.digest
    if not folder.is_dir():
        with _unfinished(folder) as draft:
            _fetch_into(draft, reference)
    ModelCard.load(folder)
    signatures.check(folder)
    return folder


def push(models: Path, text: str) -> Reference:
    """Upload a folder of archives and their card; the reference to pin it by. Raises ArtefactError,
    also when another model is there already, and SignatureError as `fetch` does.
    """
    reference = Reference.parse(text)
    signatures.check(models)
    files = {path.name: path for path in _files(models)}
    if reference.scheme == "oci":
        return _push_oci(files, reference)
    if reference.scheme in ("http", "https"):
        raise ArtefactError(f"{text} is only read from; push to s3://, gs:// or oci://")
    return _push_files(files, reference)


# -- inside ----------------------------------------------------------------------------------------


def _files(models: Path) -> Iterator[Path]:
    for path in (*(archive_of(models, operation) for operation in OPERATIONS), models / CARD_FILE):
        if not path.is_file():
            raise ArtefactError(
                f"{models} lacks {path.name}: make it with `affectgan archive RUN --out {models}`"
            )
        yield path
    if (models / signatures.SIGNATURE_FILE).is_file():
        yield models / signatures.SIGNATURE_FILE


@contextmanager
def _unfinished(folder: Path) -> Iterator[Path]:
    """A temporary folder that gets its final name only when everything in it is complete."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=folder.parent))
    try:
        yield draft
        if not folder.is_dir():  # another process may have been quicker
            draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _fetch_into(folder: Path, reference: Reference) -> None:
    """Download and verify. Raises ArtefactError."""
    try:
        store = _Registry(reference) if reference.scheme == "oci" else _ObjectStore(reference)
        content = store.manifest()
        _check(f"the manifest of {reference.url}", sha256(content).hexdigest(), reference.digest)
        for name, digest in store.listed(content).items():
            if Path(name).name != name:
                raise ArtefactError(f"{reference.url} has a file called {name!r}, which is a path")
            store.download(name, folder / name)
            _check(f"{name} of {reference.url}", sha256_of(folder / name), digest)
    except ArtefactError:
        raise
    except ImportError as error:
        raise ArtefactError(
            f"{reference.scheme}:// needs another package ({error}): "
            "pip install 'affectgan[artefacts]', and gcsfs for gs://"
        ) from error
    except Exception as error:  # each store has errors of its own
        raise ArtefactError(
            f"{reference.url} cannot be fetched: {type(error).__name__}: {error}"
        ) from error


def _check(name: str, digest: str, expected: str | None) -> None:
    if digest != expected:
        raise ArtefactError(
            f"{name} is not what was pushed: its SHA-256 is {digest}, not {expected}; nothing of "
            "it is used"
        )


class _ObjectStore:
    """A folder behind fsspec, with a manifest.json."""

    def __init__(self, reference: Reference) -> None:
        import fsspec

        self._system, self._root = fsspec.core.url_to_fs(reference.url)

    def manifest(self) -> bytes:
        content: bytes = self._system.cat_file(self._at(MANIFEST_FILE))
        return content

    def listed(self, content: bytes) -> dict[str, str]:
        files: dict[str, str] = json.loads(content)["files"]
        return files

    def download(self, name: str, target: Path) -> None:
        self._system.get_file(self._at(name), str(target))

    def upload(self, name: str, content: bytes) -> None:
        self._system.makedirs(self._root, exist_ok=True)
        self._system.pipe_file(self._at(name), content)

    def has(self, name: str) -> bool:
        return bool(self._system.exists(self._at(name)))

    def _at(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"


class _Registry:
    """An OCI registry, by the names of the layers."""

    def __init__(self, reference: Reference) -> None:
        self._client = _oras(reference)
        name, _, _ = reference.place.partition("@")
        repository = re.sub(r":[^:/]+$", "", name)
        digest = f"@sha256:{reference.digest}"
        self._container = self._client.get_container(repository + digest)
        self._layers: dict[str, str] = {}

    def manifest(self) -> bytes:
        address = f"{self._client.prefix}://{self._container.manifest_url()}"
        accepted = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
        # Without its retries, which take two minutes to report that no server listens.
        request_once = type(self._client).do_request.__wrapped__
        response = request_once(self._client, address, "GET", headers=accepted)
        response.raise_for_status()
        content: bytes = response.content
        return content

    def listed(self, content: bytes) -> dict[str, str]:
        layers = json.loads(content)["layers"]
        self._layers = {layer["annotations"][_TITLE]: layer["digest"] for layer in layers}
        return {name: digest.removeprefix("sha256:") for name, digest in self._layers.items()}

    def download(self, name: str, target: Path) -> None:
        self._client.download_blob(self._container, self._layers[name], str(target))


def _oras(reference: Reference) -> Any:
    """A client, without TLS for a registry on this machine, with what `docker login` wrote. Raises
    ArtefactError where a name and a password are asked for, and none is known.
    """
    from oras.client import OrasClient

    registry = reference.place.split("/")[0]
    insecure = registry.partition(":")[0] in ("localhost", "127.0.0.1")
    basic = _challenge(f"{'http' if insecure else 'https'}://{registry}/v2/").startswith("Basic")
    backend = "basic" if basic else "token"
    client = OrasClient(insecure=insecure, tls_verify=True, auth_backend=backend)
    container = client.get_container(reference.place.partition("@")[0])
    client.auth.load_configs(container, configs=_logins())
    if basic and not hasattr(client.auth, "_basic_auth"):
        raise ArtefactError(f"{registry} asks who you are: `docker login {registry}`")
    return client


def _challenge(address: str) -> str:
    """The authentication that a registry asks for; empty where no registry answers."""
    import requests

    try:
        return requests.get(address, timeout=30).headers.get("WWW-Authenticate", "")
    except requests.RequestException:
        return ""  # who asks next says so


def _logins(environment: Mapping[str, str] = os.environ) -> list[str]:
    """What `docker login` wrote where DOCKER_CONFIG says; oras reads ~/.docker anyway."""
    folder = environment.get("DOCKER_CONFIG")
    return [str(Path(folder) / "config.json")] if folder else []


def _push_files(files: Mapping[str, Path], reference: Reference) -> Reference:
    contents = {name: path.read_bytes() for name, path in files.items()}
    digests = {name: sha256(content).hexdigest() for name, content in contents.items()}
    manifest = json.dumps({"mediaType": MEDIA_TYPE, "files": digests}, indent=1).encode()
    pinned = Reference(reference.scheme, reference.place, sha256(manifest).hexdigest())
    store = _ObjectStore(reference)
    if store.has(MANIFEST_FILE):
        if store.manifest() != manifest:
            raise ArtefactError(f"{reference.url} holds another model; push to another place")
        return pinned
    for name, content in contents.items():
        store.upload(name, content)
    store.upload(MANIFEST_FILE, manifest)  # last: an incomplete upload is not taken for a model
    return pinned


def _push_oci(files: Mapping[str, Path], reference: Reference) -> Reference:
    response = _oras(reference).push(
        target=reference.place,
        files=[f"{path}:{MEDIA_TYPE}" for path in files.values()],
        disable_path_validation=True,
        quiet=True,
    )
    digest = response.headers["Docker-Content-Digest"].removeprefix("sha256:")
    return Reference(reference.scheme, reference.place, digest)
