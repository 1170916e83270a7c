"""`affectgan serve`: TorchServe, private, and the gateway in front of it."""

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from affect.cli import command
from service.access.api_keys import api_keys_from_settings
from service.backend.pool import check_model_folders
from service.cli.server import listen, run
from service.inference.routing import NO_ROUTING, Routing
from service.jobs.background import check_settings
from service.settings import Settings

# For which a thread that decodes may keep the interpreter from the event loop; Python's own: 0.005.
SWITCH_SECONDS = 0.001


@click.command()
@click.option(
    "--models",
    multiple=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="folder of affectgan-*.mar and card.json, as `affectgan archive` writes it; "
    "repeat for more versions, the default first",
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
            "give --models DIR (archives, as often as there are versions) "
            "or --weights DIR (a model folder)"
        )
    check_model_folders(models)
    try:
        api_keys_from_settings(Settings())
        check_settings(Settings())
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    routes = Routing.load(routing) if routing else NO_ROUTING
    sys.setswitchinterval(SWITCH_SECONDS)
    listening = listen(host, port)
    with tempfile.TemporaryDirectory(prefix="affectgan-") as scratch:
        asyncio.run(run(models or [archived(weights or Path(), Path(scratch))], listening, routes))


def archived(weights: Path, out: Path) -> Path:
    """The archives of a model folder.

    The training side makes them, as a program of its own: packages never import each other.
    """
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
