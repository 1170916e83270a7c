"""The operator's way in: a Unix socket that only the server's own user may open. `affectgan models` talks to it."""

import os
import stat
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import orjson
from aiohttp import web
from fastapi import FastAPI
from pydantic import ValidationError

from service.backend.pool import ModelServerPool, check_model_folder
from service.inference.model_registry import ModelRegistry
from service.inference.routing import Route, RoutingError


def admin_socket(port: int) -> Path:
    """Where the server of this port listens for its operator. Raises RoutingError when the place is somebody else's."""
    folder = Path(tempfile.gettempdir()) / f"affectgan-operator-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o077:
        raise RoutingError(f"{folder} is not a folder that is yours alone; remove it or set TMPDIR")
    return folder / f"{port}.sock"


@asynccontextmanager
async def admin_server(app: FastAPI, pool: ModelServerPool, path: Path) -> AsyncIterator[None]:
    """Within, the versions of this app can be listed, added, routed and removed through the socket."""
    path.unlink(missing_ok=True)
    inside = web.Application(middlewares=[_said])
    operator = _Operator(app, pool)
    inside.add_routes(
        [
            web.get("/models", operator.listed),
            web.post("/models", operator.add),
            web.get("/models/{name}/route", operator.route),
            web.put("/models/{name}/route", operator.reroute),
            web.delete("/models/{name}/versions/{version}", operator.remove),
        ]
    )
    runner = web.AppRunner(inside, access_log=None)
    await runner.setup()
    try:
        await web.UnixSite(runner, str(path)).start()
        yield
    finally:
        await runner.cleanup()
        with suppress(FileNotFoundError):
            path.unlink()


class _Operator:
    """One method a request."""

    def __init__(self, app: FastAPI, pool: ModelServerPool) -> None:
        self.app, self.pool = app, pool

    @property
    def models(self) -> ModelRegistry:
        models: ModelRegistry = self.app.state.models  # there from the app's start on
        return models

    async def listed(self, request: web.Request) -> web.Response:
        return _json({"models": self.models.summaries()})

    async def add(self, request: web.Request) -> web.Response:
        """Opens the version of a folder; its workers are ready when this answers."""
        folder = Path((await request.json())["folder"])
        self.models.refuse_known(check_model_folder(folder))
        backend = await self.pool.open(folder)
        try:
            version = await self.models.add(backend)
        except RoutingError:  # added twice at the same time
            await self.pool.close(backend)
            raise
        return _json({"name": version.name, "version": version.version}, 201)

    async def route(self, request: web.Request) -> web.Response:
        return _json(self._route(request.match_info["name"]).model_dump())

    async def reroute(self, request: web.Request) -> web.Response:
        self.models.route(request.match_info["name"], Route.model_validate(await request.json()))
        return await self.route(request)

    async def remove(self, request: web.Request) -> web.Response:
        """Answers when the version's last request is answered and its server has ended."""
        version = await self.models.drain_and_remove(
            request.match_info["name"], request.match_info["version"]
        )
        await self.pool.close(version.backend)
        return _json({"name": version.name, "version": version.version})

    def _route(self, name: str) -> Route:
        if name not in self.models.routes:
            raise RoutingError(f"no model {name!r} is served")
        return self.models.routes[name]


@web.middleware
async def _said(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """What an operator can mend is said; everything else is a 500 with its traceback in the log."""
    try:
        return await handler(request)
    except ValidationError as error:
        return _json({"detail": "; ".join(str(fault["msg"]) for fault in error.errors())}, 422)
    except ValueError as error:
        return _json({"detail": str(error)}, 409)


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")
