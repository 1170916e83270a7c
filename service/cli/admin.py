"""The operator's API: a Unix socket that only the server's own user may open.

`affectgan models` talks to it.
"""

import asyncio
import os
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import orjson
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.backend.pool import ModelServerPool, check_model_folder
from service.inference import routing
from service.inference.model_registry import ModelRegistry
from service.inference.routing import RoutingError

POLL_SECONDS = 0.01
LAST_ANSWERS_SECONDS = 60  # for which pending answers are awaited at the end


def admin_socket(port: int) -> Path:
    """Where the server of this port listens for its operator.

    Raises RoutingError when the folder belongs to another user.
    """
    folder = Path(tempfile.gettempdir()) / f"affectgan-operator-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    state = folder.lstat()
    if state.st_uid != os.getuid() or not stat.S_ISDIR(state.st_mode) or state.st_mode & 0o077:
        raise RoutingError(f"{folder} is not a folder that is yours alone; remove it or set TMPDIR")
    return folder / f"{port}.sock"


@asynccontextmanager
async def admin_server(app: FastAPI, pool: ModelServerPool, path: Path) -> AsyncIterator[None]:
    """Within, versions of this app can be listed, added, routed and removed through the socket."""
    path.unlink(missing_ok=True)
    config = uvicorn.Config(
        _admin_app(_Versions(app, pool)),
        uds=str(path),
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=LAST_ANSWERS_SECONDS,
    )
    server = AdminServer(config)
    serving = asyncio.create_task(server.serve())
    try:
        while not server.started and not serving.done():
            await asyncio.sleep(POLL_SECONDS)
        yield
    finally:
        server.should_exit = True
        await serving
        with suppress(FileNotFoundError):
            path.unlink()


class AdminServer(uvicorn.Server):
    """uvicorn beside the gateway's own, to which the signals of this process go."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None."""
        yield


class _Folder(BaseModel):
    """A folder of archives, as `affectgan archive` writes it."""

    model_config = ConfigDict(extra="forbid")

    folder: Path


class _Versions:
    """One method a request."""

    def __init__(self, app: FastAPI, pool: ModelServerPool) -> None:
        self.app, self.pool = app, pool

    @property
    def models(self) -> ModelRegistry:
        """The registry, from the app's start on."""
        models: ModelRegistry = self.app.state.models
        return models

    async def list(self, request: Request) -> Response:
        """Every version and its share."""
        return _json({"models": self.models.summaries()})

    async def add(self, request: Request) -> Response:
        """Opens the version of a folder; its workers are ready when this answers."""
        folder = _Folder.model_validate_json(await request.body()).folder
        self.models.check_not_open(check_model_folder(folder))
        backend = await self.pool.open(folder)
        try:
            version = await self.models.add(backend)
        except RoutingError:  # added twice at the same time
            await self.pool.close(backend)
            raise
        return _json({"name": version.name, "version": version.version}, 201)

    async def get_route(self, request: Request) -> Response:
        """Default, weights and shadow of a model."""
        name = request.path_params["name"]
        if name not in self.models.routes:
            raise RoutingError(f"no model {name!r} is served")
        return _json(self.models.routes[name].model_dump())

    async def set_route(self, request: Request) -> Response:
        """The same, from now on."""
        route = routing.Route.model_validate_json(await request.body())
        self.models.route(request.path_params["name"], route)
        return await self.get_route(request)

    async def remove(self, request: Request) -> Response:
        """Answers when the version's last request is answered and its server has ended."""
        name, number = request.path_params["name"], request.path_params["version"]
        version = await self.models.drain_and_remove(name, number)
        await self.pool.close(version.backend)
        return _json({"name": version.name, "version": version.version})


def _admin_app(versions: _Versions) -> Starlette:
    routes = [
        Route("/models", versions.list, methods=["GET"]),
        Route("/models", versions.add, methods=["POST"]),
        Route("/models/{name}/route", versions.get_route, methods=["GET"]),
        Route("/models/{name}/route", versions.set_route, methods=["PUT"]),
        Route("/models/{name}/versions/{version}", versions.remove, methods=["DELETE"]),
    ]
    # Faults that an operator can correct are answered; all else is a 500 with its traceback in the
    # log.
    handlers = {
        ValidationError: _on_invalid,
        ValueError: _on_refused,
        HTTPException: _on_http_error,
    }
    return Starlette(routes=routes, exception_handlers=handlers)


def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, ValidationError)
    return _json({"detail": "; ".join(str(fault["msg"]) for fault in error.errors())}, 422)


def _on_refused(request: Request, error: Exception) -> Response:
    return _json({"detail": str(error)}, 409)


def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _json({"detail": error.detail}, error.status_code)


def _json(value: object, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")
