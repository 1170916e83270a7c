"""`--runtime oip://HOST`: a model that another server runs, over the Open Inference Protocol v2.

Cards and digests are those of the folder here; the server there has the same archives, as the
models NAME-predict.message, NAME-generate.message and NAME-explain.message, each with one BYTES
tensor of one row in and out: the message of affect/protocol. A gateway of ours has them
(service/api/message_tensors.py); Triton or KServe have them with a model of a few lines
(docs/operating.md).
"""

import asyncio
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import aiohttp
import orjson

from affect.archive import OPERATIONS, Operation, digest_of
from affect.card import ModelCard
from service.backend.interface import (
    BackendError,
    BackendOverloaded,
    BackendRefused,
    BackendTimeout,
    BackendUnavailable,
)
from service.backend.message_backend import MessageBackend

TENSOR = "message"
LENGTH_HEADER = "Inference-Header-Content-Length"
READY_SECONDS = 0.5  # for which an answer to `ready` is cached
READY_TIMEOUT_SECONDS = 1.0
SCHEMES = {"oip": "http", "oips": "https"}


@dataclass
class OpenInferenceBackend(MessageBackend):
    """`async with OpenInferenceBackend.from_folder(folder, "oip://host:8000") as backend`.

    `key` is sent as an API key.
    """

    address: str
    served: ModelCard
    archives: str
    key: str | None = None
    operations: Sequence[Operation] = OPERATIONS
    _session: aiohttp.ClientSession = field(init=False)
    _ready: dict[str, bool] = field(init=False, default_factory=dict)
    _ready_at: float = field(init=False, default=-READY_SECONDS)

    @classmethod
    def from_folder(
        cls,
        models: Path,
        address: str,
        key: str | None = None,
        operations: Sequence[Operation] = OPERATIONS,
    ) -> Self:
        """The card and the archives' digest of a folder. Raises ValueError for an address."""
        scheme, _, host = address.partition("://")
        if scheme not in SCHEMES or not host:
            raise ValueError(f"runtime is {address!r}; write oip://HOST:PORT, or oips:// for TLS")
        card, archives = ModelCard.load(models), digest_of(models)
        return cls(f"{SCHEMES[scheme]}://{host}", card, archives, key, operations)

    async def __aenter__(self) -> Self:
        headers = {"X-API-Key": self.key} if self.key else {}
        self._session = aiohttp.ClientSession(
            self.address, headers=headers, connector=aiohttp.TCPConnector(limit=0)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def ready(self) -> dict[str, bool]:
        """As the server there says."""
        if time.monotonic() - self._ready_at > READY_SECONDS:
            states = await asyncio.gather(*map(self._is_ready, self.operations))
            self._ready = dict(zip(self.operations, states, strict=True))
            self._ready_at = time.monotonic()
        return self._ready

    async def _is_ready(self, operation: Operation) -> bool:
        timeout = aiohttp.ClientTimeout(READY_TIMEOUT_SECONDS)
        try:
            async with self._session.get(f"{self._path(operation)}/ready", timeout=timeout) as got:
                return got.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    def _path(self, operation: Operation) -> str:
        name, version = self.served.name, self.served.version
        return f"/v2/models/{name}-{operation}.message/versions/{version}"

    async def _send(self, operation: Operation, content: bytes) -> bytes:
        body, headers = _request(content)
        try:
            async with self._session.post(
                f"{self._path(operation)}/infer", data=body, headers=headers
            ) as answer:
                payload = await answer.read()
                if answer.status != 200:
                    raise _error(operation, answer.status, payload)
                return _message(payload, answer.headers.get(LENGTH_HEADER))
        except aiohttp.ClientError as error:
            raise BackendUnavailable(f"{operation}: {type(error).__name__}: {error}") from error


def _request(content: bytes) -> tuple[bytes, dict[str, str]]:
    """The JSON and the tensor behind it, with the headers that say so."""
    element = struct.pack("<I", len(content)) + content
    tensor = {
        "name": TENSOR,
        "shape": [1],
        "datatype": "BYTES",
        "parameters": {"binary_data_size": len(element)},
    }
    document = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    head = orjson.dumps(document)
    headers = {LENGTH_HEADER: str(len(head)), "Content-Type": "application/octet-stream"}
    return head + element, headers


def _message(payload: bytes, length: str | None) -> bytes:
    """The one element of the one tensor. Raises BackendUnavailable."""
    try:
        start = int(length or "")
        (size,) = struct.unpack_from("<I", payload, start)
        content = payload[start + 4 :]
    except (ValueError, struct.error) as error:
        raise BackendUnavailable("the server's answer is no binary tensor") from error
    if len(content) != size:
        raise BackendUnavailable(f"the server's tensor has {len(content)} bytes of {size}")
    return content


def _error(operation: Operation, status: int, payload: bytes) -> BackendError:
    try:
        document = orjson.loads(payload)
    except orjson.JSONDecodeError:
        document = {}
    text = f"{operation}: {status} {document.get('detail') or document.get('error') or ''}"
    if status in (413, 422):
        return BackendRefused("request", str(status), text)
    if status in (429, 503):
        return BackendOverloaded(text)
    return BackendTimeout(text) if status == 504 else BackendUnavailable(text)
