"""A gateway on a loopback port, over a real tiny model in the same process."""

import asyncio
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from typing import Any, TypeVar

import uvicorn
from fastapi import FastAPI

from affect.archive import OPERATIONS, HandlerSettings, Operation
from affect.batches import predict
from affect.card import ModelCard
from affect.model import AffectModel
from affect.protocol.messages import (
    ExplainRequest,
    ExplainResponse,
    GenerateRequest,
    GenerateResponse,
    PredictRequest,
    PredictResponse,
)
from handlers.explain import ExplainHandler
from handlers.generate import GenerateHandler
from service.api.app import create_app
from service.cli.server import gateway_config, listen
from service.inference.routing import NO_ROUTING, Routing
from service.settings import Settings
from tests.support.tiny import tiny_card, tiny_model
from tests.support.waiting import LIMIT_SECONDS

T = TypeVar("T")
# A W3C traceparent, as a client sends it.
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass
class Reply:
    """A response."""

    status: int
    headers: Message  # names in any case
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class LocalBackend:
    """The Backend protocol over a model in this process, in a thread of its own: like a worker it
    does one request at a time, and the event loop goes on.

    `delay_seconds` and `down` let a test make it slow or absent.
    """

    model: AffectModel
    delay_seconds: float = 0.0
    down: bool = False
    broken: frozenset[Operation] = frozenset()  # operations without a worker
    predicted: list[int] = field(default_factory=list)
    _worker: ThreadPoolExecutor = field(init=False, default_factory=lambda: ThreadPoolExecutor(1))

    async def card(self) -> ModelCard:
        return self.model.card

    async def digest(self) -> str:
        return self.model.card.digest + self.model.card.version

    async def ready(self) -> dict[str, bool]:
        return {one: not self.down and one not in self.broken for one in OPERATIONS}

    async def predict(self, request: PredictRequest, *, timeout_seconds: float) -> PredictResponse:
        self.predicted.append(len(request))
        await asyncio.sleep(self.delay_seconds)
        read = await self._work(predict, self.model, request.crops, (1, 8, 64))
        return PredictResponse(read)

    async def generate(
        self, request: GenerateRequest, *, timeout_seconds: float
    ) -> GenerateResponse:
        handler = GenerateHandler()
        handler.model, handler.settings = self.model, _settings("generate")
        return (await self._work(handler.run, [request]))[0]

    async def explain(self, request: ExplainRequest, *, timeout_seconds: float) -> ExplainResponse:
        handler = ExplainHandler()
        handler.model, handler.judge, handler.settings = self.model, None, _settings("explain")
        return (await self._work(handler.run, [request]))[0]

    async def _work(self, work: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work, *args)


def _settings(operation: Operation) -> HandlerSettings:
    return HandlerSettings(operation=operation, batch_faces=(1, 8, 64))


@dataclass
class Gateway:
    """A running gateway."""

    url: str
    backend: LocalBackend
    server: uvicorn.Server
    backends: list[LocalBackend] = field(default_factory=list)

    @property
    def state(self) -> Any:
        """What the app holds: `models`, `admission`, `jobs`."""
        app = self.server.config.app
        assert isinstance(app, FastAPI)
        return app.state

    def metric(self, name: str) -> float:
        """Sum of a metric's samples whose line begins so."""
        lines = self.get("/metrics").body.decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    def get(self, path: str, **headers: str) -> Reply:
        return self._send(urllib.request.Request(self.url + path, headers=headers))

    def delete(self, path: str, **headers: str) -> Reply:
        return self._send(urllib.request.Request(self.url + path, headers=headers, method="DELETE"))

    def post(
        self, path: str, body: Any, *, kind: str = "application/json", **headers: str
    ) -> Reply:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self._send(
            urllib.request.Request(
                self.url + path, data=content, headers={"Content-Type": kind, **headers}
            )
        )

    def _send(self, request: urllib.request.Request) -> Reply:
        try:
            with urllib.request.urlopen(request, timeout=LIMIT_SECONDS) as answer:
                return Reply(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            return Reply(error.code, error.headers, error.read())


def local_backend(
    version: str = "1.0", *, reader: bool = False, card: ModelCard | None = None
) -> LocalBackend:
    """A backend of this version. All versions have the same weights."""
    card = card or tiny_card(reader=reader)
    return LocalBackend(tiny_model(card.model_copy(update={"version": version})))


def serve(
    settings: Settings,
    *versions: str,
    routing: Routing = NO_ROUTING,
    reader: bool = False,
    card: ModelCard | None = None,
    **options: Any,
) -> Generator[Gateway, None, None]:
    """Run a gateway in a thread for as long as the caller holds it. With `reader` its model reads
    expression, pose and sides too.
    """
    backends = [
        local_backend(version, reader=reader, card=card) for version in versions or ("1.0",)
    ]
    listening = listen("127.0.0.1", 0)
    server = uvicorn.Server(
        gateway_config(
            create_app(settings, backends=backends, routing=routing, **options), settings
        )
    )
    thread = threading.Thread(
        target=lambda: asyncio.run(server.serve(sockets=[listening])), daemon=True
    )
    thread.start()
    while not server.started and thread.is_alive():
        thread.join(0.01)
    try:
        yield Gateway(
            f"http://127.0.0.1:{listening.getsockname()[1]}", backends[0], server, backends
        )
    finally:
        server.should_exit = True
        thread.join(10)


open_gateway = contextmanager(serve)  # the same for a `with` statement
