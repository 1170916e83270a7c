"""The gateway as a process: model servers, the HTTP server before them, and how it ends."""

import asyncio
import errno
import gc
import logging
import socket
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import FrameType

import click
import uvicorn
from fastapi import FastAPI

from service.api.app import create_app
from service.api.connections import bounded_http, limit_connection_warnings
from service.backend.pool import ModelServerPool, Opener, opener_of
from service.cli.admin import admin_server, admin_socket
from service.cli.convergence import Convergence, DeclaredFile
from service.inference.routing import NO_ROUTING, Routing
from service.observability import logging_setup
from service.observability.metrics import Metrics
from service.settings import Settings

BACKLOG_CONNECTIONS = 2048
log = logging.getLogger(__name__)


async def run(
    folders: Sequence[Path],
    listening: socket.socket,
    routing: Routing = NO_ROUTING,
    *,
    runtime: str = "torchserve",
    declared: DeclaredFile | None = None,
    opener: Opener | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM.

    Then refuse new work, finish what was accepted, and stop the model servers last. `opener` opens
    the model server of a folder; None: as the runtime does. `declared` is the file that names the
    folders, and is followed from now on.
    """
    settings, metrics = Settings(), Metrics()
    logging_setup.configure(settings)
    limit_connection_warnings(asyncio.get_running_loop())
    async with ModelServerPool(opener or opener_of(runtime, metrics, settings)) as pool:
        for folder in folders:
            _announce(settings, f"starting {runtime} on {folder} ...")
            await pool.open(folder)
        app = create_app(settings, backends=pool.backends, routing=routing, metrics=metrics)
        server = GatewayServer(
            gateway_config(app, settings),
            settings.drain_seconds,
            lambda: _announce(settings, f"serving on {url_of(listening)} (docs at /docs)"),
        )
        async with AsyncExitStack() as stack:
            admin = admin_server(app, pool, admin_socket(listening.getsockname()[1]))
            await stack.enter_async_context(admin)
            if declared is not None:
                follower = Convergence(declared, pool, lambda: app.state.models, metrics)
                await stack.enter_async_context(follower.following())
            await server.serve(sockets=[listening])


def _announce(settings: Settings, text: str) -> None:
    """A step of the start: a line for people, or a record among the others."""
    if settings.log_format == "json":
        log.info(text)
    else:
        click.echo(text, err=True)


def listen(host: str, port: int, *, option: str = "--port") -> socket.socket:
    """A listening socket, taken before anything heavy starts.

    Raises ClickException when the port is in use.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named, or asyncio leaves Nagle's 40 ms in each answer.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(BACKLOG_CONNECTIONS)
    except OSError as error:
        listening.close()
        reason = (
            f"is in use; stop what uses it or give another {option}"
            if error.errno == errno.EADDRINUSE
            else f"cannot be used: {error.strerror}"
        )
        raise click.ClickException(f"port {port} of {host} {reason}") from error
    return listening


def url_of(listening: socket.socket) -> str:
    """Where a listening socket is reached."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def gateway_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """uvicorn around the app.

    By default it would trust X-Forwarded-For of every client on 127.0.0.1.
    """
    return uvicorn.Config(
        app,
        http=bounded_http(settings),
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_graceful_shutdown=int(settings.max_deadline_seconds),
    )


class GatewayServer(uvicorn.Server):
    """uvicorn, but /readyz fails for a while before it stops listening, so that load balancers send
    requests elsewhere first.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        drain_seconds: float,
        on_start: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(config)
        self.drain_seconds, self.on_start = drain_seconds, on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Objects that exist by now are frozen: garbage collection skips them.

        A full collection that looks through all of it holds the event loop for 0.1 to 0.2 s.
        """
        await super().startup(sockets)
        if self.started:
            self.on_start()
        gc.collect()
        gc.freeze()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """First signal: drain; uvicorn then finishes what is in flight. A second one ends at once.

        uvicorn's own handler would raise the signal again after the last answer, and SIGTERM then
        ends this process before TorchServe and its folder are gone.
        """
        admission = self.config.app.state.admission  # type: ignore[union-attr]
        self.force_exit = admission.draining
        admission.draining = True
        self.draining = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        await asyncio.sleep(self.drain_seconds)
        await self.config.app.state.jobs.drain()  # type: ignore[union-attr]
        self.should_exit = True
