"""`affectgan serve`: TorchServe, private, and the gateway in front of it."""

import asyncio
import errno
import gc
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import FrameType

import click
import uvicorn
from fastapi import FastAPI

from affect.cli import command
from service.access.api_keys import api_keys_from_settings
from service.api.app import create_app
from service.backend.pool import ModelServerPool, check_model_folders, open_torchserve
from service.cli.admin import admin_server, admin_socket
from service.inference.routing import NO_ROUTING, Routing
from service.jobs import background
from service.observability import logging_setup
from service.observability.metrics import Metrics
from service.settings import Settings

SWITCH_SECONDS = 0.001  # for how long a thread that decodes may keep the interpreter from the event loop (Python's own: 0.005)


@click.command()
@click.option(
    "--models",
    multiple=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="folder of affectgan-*.mar and card.json, as `affectgan archive` writes it; repeat for more versions, the default first",
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path, file_okay=False),
    help="model folder; it is archived first",
)
@click.option(
    "--routing",
    type=click.Path(path_type=Path, dir_okay=False),
    help="YAML: default, canary weights and shadow of each model",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="address to listen on")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True)
def serve(
    models: tuple[Path, ...], weights: Path | None, routing: Path | None, host: str, port: int
) -> None:
    """Serve models over HTTP, in the foreground, until Ctrl-C."""
    if bool(models) == (weights is not None):
        raise click.UsageError(
            "give --models DIR (archives, as often as there are versions) or --weights DIR (a model folder)"
        )
    check_model_folders(models)
    try:
        api_keys_from_settings(Settings())
        background.check_settings(Settings())
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    routes = Routing.load(routing) if routing else NO_ROUTING
    sys.setswitchinterval(SWITCH_SECONDS)
    listening = listen(host, port)
    with tempfile.TemporaryDirectory(prefix="affectgan-") as scratch:
        asyncio.run(run(models or [archived(weights or Path(), Path(scratch))], listening, routes))


def archived(weights: Path, out: Path) -> Path:
    """The archives of a model folder, made by the training side as a program of its own: packages here never import each other."""
    done = subprocess.run(
        command(["archive", str(weights), "--out", str(out)]),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise click.ClickException(
            done.stderr.strip().removeprefix("Error: ") or f"archiving {weights} failed"
        )
    return out


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, taken before anything heavy starts. Raises ClickException when the port is in use."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(
        family, socket.SOCK_STREAM, socket.IPPROTO_TCP
    )  # named, or asyncio leaves Nagle's 40 ms in each answer
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(2048)
    except OSError as error:
        sock.close()
        reason = (
            "is in use; stop what uses it or give another --port"
            if error.errno == errno.EADDRINUSE
            else f"cannot be used: {error.strerror}"
        )
        raise click.ClickException(f"port {port} of {host} {reason}") from error
    return sock


async def run(
    folders: Sequence[Path], listening: socket.socket, routing: Routing = NO_ROUTING
) -> None:
    """Serve until SIGINT or SIGTERM; then refuse new work, finish what was accepted, and stop TorchServe last."""
    settings, metrics = Settings(), Metrics()
    logging_setup.configure(settings)
    async with ModelServerPool(partial(open_torchserve, metrics=metrics)) as pool:
        for folder in folders:
            click.echo(f"starting TorchServe on {folder} ...", err=True)
            await pool.open(folder)
        app = create_app(settings, backends=pool.backends, routing=routing, metrics=metrics)
        host, port = listening.getsockname()[:2]
        click.echo(f"serving on http://{host}:{port} (docs at /docs)", err=True)
        async with admin_server(app, pool, admin_socket(port)):
            await _Server(configured(app, settings), settings.drain_seconds).serve(
                sockets=[listening]
            )


def configured(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """uvicorn around the app. Left to itself it would believe whoever connects from 127.0.0.1 for whom he asks."""
    return uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_graceful_shutdown=int(settings.max_deadline_seconds),
    )


class _Server(uvicorn.Server):
    """uvicorn, but /readyz says no for a while before the doors close, so that load balancers look elsewhere first."""

    def __init__(self, config: uvicorn.Config, drain_seconds: float) -> None:
        super().__init__(config)
        self.drain_seconds = drain_seconds

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """What is there by now stays: a full garbage collection that looks through all of it holds the event loop for 0.1 to 0.2 s."""
        await super().startup(sockets)
        gc.collect()
        gc.freeze()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """First signal: say so and wait; uvicorn then finishes what is in flight. A second one leaves at once.

        uvicorn's own handler would raise the signal again after the last answer, and SIGTERM then ends this process
        before TorchServe and its folder are gone.
        """
        admission = self.config.app.state.admission  # type: ignore[union-attr]
        self.force_exit = admission.draining
        admission.draining = True
        self.closing = asyncio.get_running_loop().create_task(self._close())

    async def _close(self) -> None:
        await asyncio.sleep(self.drain_seconds)
        await self.config.app.state.jobs.drain()  # type: ignore[union-attr]
        self.should_exit = True
