"""What a request costs the gateway itself: CPU of one 224 px JPEG to /v1/predict, apart from
decoding it and finding its face.

python -m benchmarks.gateway [--weights weights] [--redis redis://127.0.0.1:6379/0] [--requests 400]
[--blocks 7] [--profile]

Everything is on: an API key, quotas, the cache, metrics. The app is driven in this process over
ASGI, one request after the other, with all its threads counted. What is replaced:
decoding and alignment give the crop of the first picture at once, though from the same thread; the
model server's answer is one it gave before, yet the request is packed and the answer unpacked. Left
out with that are HTTP to TorchServe and the HTTP of the listening socket. Figures are the best of
blocks, since other programs share the processor's caches.
"""

import asyncio
import cProfile
import io
import pstats
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
import numpy as np
import uvloop
import yaml
from fastapi import FastAPI
from PIL import Image
from skimage import data
from starlette.types import Message

from affect.batches import predict
from affect.card import ModelCard
from affect.faces import FaceFinder, crops
from affect.factory import load_model
from affect.images import checked_header, decode
from affect.model import AffectModel
from affect.protocol.messages import (
    ExplainRequest,
    ExplainResponse,
    GenerateRequest,
    GenerateResponse,
    PredictRequest,
    PredictResponse,
    WorkReport,
)
from service.access.api_keys import new_key
from service.api.app import create_app
from service.backend.interface import BackendUnavailable
from service.settings import Settings

GOALS = {"cache miss": 700, "cache hit": 300}  # microseconds
WARM = 200  # requests before the first block
# seconds: on a busy machine the default would count a Redis that waits for its turn as gone
SLOW_REDIS = 2.0


@dataclass
class RecordedBackend:
    """Packs every request to predict and unpacks the same answer."""

    model: AffectModel
    answer: bytes
    requests: int = field(default=0)

    async def card(self) -> ModelCard:
        return self.model.card

    async def digest(self) -> str:
        return self.model.card.digest

    async def ready(self) -> dict[str, bool]:
        return dict.fromkeys(("predict", "generate", "explain"), True)

    async def predict(self, request: PredictRequest, *, timeout_seconds: float) -> PredictResponse:
        self.requests += 1
        request.to_bytes(self.model.card)
        return PredictResponse.from_bytes(self.answer, self.model.card)

    async def generate(
        self, request: GenerateRequest, *, timeout_seconds: float
    ) -> GenerateResponse:
        raise BackendUnavailable("nothing is recorded but predict")

    async def explain(self, request: ExplainRequest, *, timeout_seconds: float) -> ExplainResponse:
        raise BackendUnavailable("nothing is recorded but predict")


@click.command()
@click.option(
    "--weights",
    type=click.Path(path_type=Path, exists=True),
    default=Path("weights"),
    show_default=True,
)
@click.option("--redis", help="a Redis to measure with as well; it is written to")
@click.option("--requests", type=int, default=400, show_default=True, help="in a block")
@click.option("--blocks", type=int, default=7, show_default=True)
@click.option(
    "--profile", is_flag=True, help="print where a cache miss spends its time (without Redis), too"
)
def main(weights: Path, redis: str | None, requests: int, blocks: int, profile: bool) -> None:
    """Print a table against the goals."""
    model, content = load_model(weights), picture()
    faces = crops(FaceFinder(), decode(content), faces="largest", size_px=model.card.image_px)
    read = predict(model, np.stack([pixels for _, pixels in faces]), (1,))
    now = time.time()
    recorded = PredictResponse(read, work=WorkReport(now, now, 1, 1)).to_bytes(model.card)
    backend = RecordedBackend(model, recorded)
    click.echo(
        "| request | Redis | best block, us | median block, us | goal, us |\n|---|---|---|---|---|"
    )
    with ExitStack() as stack:
        known = {"checked_header": checked_header(content), "crops": faces}
        for name, value in known.items():
            replacement = partial(_constant, value)
            stack.enter_context(patch(f"service.inference.preprocessing.{name}", replacement))
        for url in (None, redis) if redis else (None,):
            uvloop.run(_table(backend, content, url, requests, blocks, profile and url is None))


def _constant(value: object, *_: object, **__: object) -> object:
    return value


def picture() -> bytes:
    """A public-domain portrait (scikit-image's), 224 px."""
    out = io.BytesIO()
    Image.fromarray(data.astronaut()[:256, 96:352]).resize((224, 224)).save(out, "JPEG", quality=90)
    return out.getvalue()


async def _table(
    backend: RecordedBackend,
    content: bytes,
    redis: str | None,
    requests: int,
    blocks: int,
    profile: bool,
) -> None:
    secret, key = new_key("benchmark", scopes=["predict"], requests=10**9, images=10**9)
    shared: dict[str, Any] = {}
    if redis:
        shared = {"redis_url": redis, "redis_timeout_seconds": SLOW_REDIS, "cache_secret": "s" * 32}
    keys = yaml.safe_dump({"keys": [key.model_dump(mode="json", exclude_none=True)]})
    app = create_app(Settings(keys=keys, **shared), backends=[backend])
    async with app.router.lifespan_context(app) as state:
        post = AsgiClient(app, dict(state or {}), secret)
        # what follows a JPEG's end changes its key alone
        fresh = (content + number.to_bytes(8) for number in range(time.time_ns(), 2**63))
        for name, body in {"cache miss": lambda: next(fresh), "cache hit": lambda: content}.items():
            await _block(post, body, WARM)
            before = backend.requests
            taken = [await _block(post, body, requests) for _ in range(blocks)]
            if backend.requests - before != (requests * blocks if name == "cache miss" else 0):
                raise click.ClickException(
                    f"{name}: the model was called {backend.requests - before} times"
                )
            figures = f"{min(taken):.0f} | {np.median(taken):.0f} | {GOALS[name]}"
            click.echo(f"| {name} | {'yes' if redis else 'no'} | {figures} |")
        if profile:
            await _profile(post, lambda: next(fresh), requests)


async def _block(post: "AsgiClient", body: Callable[[], bytes], requests: int) -> float:
    """Microseconds of CPU a request, of all threads."""
    start = time.process_time()
    for _ in range(requests):
        await post(body())
    return (time.process_time() - start) / requests * 1e6


async def _profile(post: "AsgiClient", body: Callable[[], bytes], requests: int) -> None:
    with cProfile.Profile() as profile:
        await _block(post, body, requests)
    pstats.Stats(profile).sort_stats("tottime").print_stats(30)


class AsgiClient:
    """Posts a body to /v1/predict as a server would hand it over, and insists on 200."""

    def __init__(self, app: FastAPI, state: dict[str, Any], secret: str) -> None:
        self.app, self.state = app, state
        self.headers = [
            (b"host", b"gateway"),
            (b"user-agent", b"benchmark"),
            (b"accept", b"*/*"),
            (b"content-type", b"image/jpeg"),
            (b"authorization", b"Bearer " + secret.encode()),
        ]

    async def __call__(self, content: bytes) -> None:
        sent: list[Message] = []
        left: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]

        async def receive() -> Message:
            # the client stays
            return left.pop() if left else await asyncio.get_running_loop().create_future()

        async def send(message: Message) -> None:
            sent.append(message)

        target: dict[str, Any] = {
            "method": "POST",
            "path": "/v1/predict",
            "raw_path": b"/v1/predict",
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
        }
        ends = {"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2)}
        headers = [*self.headers, (b"content-length", str(len(content)).encode())]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "headers": headers,
            "state": dict(self.state),
        }
        await self.app(scope | target | ends, receive, send)
        if sent[0]["status"] != 200:
            raise click.ClickException(f"{sent[0]['status']}: {sent[1]['body']!r}")


if __name__ == "__main__":
    main()
