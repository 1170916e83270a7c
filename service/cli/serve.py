"""`affectgan serve`: TorchServe, private, and the gateway in front of it."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

import click

from affect.artefacts import fetch
from affect.cli import command
from service.backend.pool import check_model_folders, opener_of
from service.cli.checks import check_metrics_port, check_settings
from service.cli.convergence import DeclaredFile
from service.cli.server import listen, run
from service.inference.routing import NO_ROUTING, Routing
from service.observability.metrics import Metrics
from service.settings import Settings, check_names

# For which a thread that decodes may keep the interpreter from the event loop; Python's own: 0.005.
SWITCH_SECONDS = 0.001


@click.command()
@click.option(
    "--models",
    multiple=True,
    envvar="AFFECTGAN_MODELS",
    help="folder of affectgan-*.mar and card.json, as `affectgan archive` writes it, or "
    "s3://, gs://, https:// or oci:// of one, with @sha256:DIGEST, as `affectgan push` prints it; "
    "repeat for more versions, the default first",
)
@click.option(
    "--versions",
    envvar="AFFECTGAN_VERSIONS",
    type=click.Path(path_type=Path, dir_okay=False),
    help="YAML: versions by reference, default, weights and shadow; followed when it changes",
)
@click.option(
    "--last-good",
    envvar="AFFECTGAN_LAST_GOOD",
    type=click.Path(path_type=Path, dir_okay=False),
    help="file in which the last --versions that could be followed are kept; a start with a file "
    "that cannot be followed goes on with these",
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
@click.option(
    "--runtime",
    envvar="AFFECTGAN_RUNTIME",
    default="torchserve",
    show_default=True,
    help="what runs the model: torchserve, process (workers without Java), or oip://HOST:PORT (a "
    "server of the Open Inference Protocol that has the same archives)",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="address to listen on")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True)
def serve(
    models: tuple[str, ...],
    versions: Path | None,
    last_good: Path | None,
    weights: Path | None,
    routing: Path | None,
    runtime: str,
    host: str,
    port: int,
) -> None:
    """Serve models over HTTP, in the foreground, until Ctrl-C."""
    if (bool(models), versions is not None, weights is not None).count(True) != 1:
        raise click.UsageError(
            "give --models DIR (archives, as often as there are versions), --versions FILE "
            "or --weights DIR (a model folder)"
        )
    if versions and routing:
        raise click.UsageError("--versions has routes of its own: leave out --routing")
    if last_good and not versions:
        raise click.UsageError("--last-good keeps --versions: give both")
    signal.signal(signal.SIGTERM, _leave)
    try:
        check_names(os.environ)
        settings = Settings()
        check_settings(settings)
        opener_of(runtime, Metrics(), settings)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    declared: DeclaredFile | None = None
    folders = [fetch(one) for one in models]
    if versions:
        declared, folders = DeclaredFile.open(versions, last_good)
    check_model_folders(folders)
    routes = (
        Routing.load(routing)
        if routing
        else declared.declaration.routing
        if declared
        else NO_ROUTING
    )
    sys.setswitchinterval(SWITCH_SECONDS)
    listening = listen(host, port)
    check_metrics_port(settings)
    with tempfile.TemporaryDirectory(prefix="affectgan-") as scratch:
        folders = folders or [archived(weights or Path(), Path(scratch))]
        asyncio.run(run(folders, listening, routes, runtime=runtime, declared=declared))


def _leave(*_: object) -> NoReturn:
    """SIGTERM before the gateway has its own handler: end, and clear up on the way out."""
    sys.exit(0)


def archived(weights: Path, out: Path) -> Path:
    """The archives of a model folder.

    The training side makes them, as a program of its own: packages never import each other.
    """
    completed = subprocess.run(
        command(["archive", str(weights), "--out", str(out)]),
        capture_output=True,
        text=True,
    )
    if completed.returncode:
        raise click.ClickException(
            completed.stderr.strip().removeprefix("Error: ") or f"archiving {weights} failed"
        )
    return out
