"""`affectgan models ...`: an operator's commands for a server that runs on this machine."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import click

from affect.artefacts import fetch, is_reference
from service.backend.pool import check_model_folder
from service.cli.admin import admin_socket
from service.cli.convergence import DeclaredFile

PORT = click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=8000,
    show_default=True,
    envvar="PORT",
    help="the server's port",
)
MODEL = click.option("--model", default="affectgan", show_default=True, help="the model's name")


@click.group()
def models() -> None:
    """Versions of a running server: list, add, route, swap and remove them.

    No request is lost by it.
    """


@models.command("list")
@PORT
def list_(port: int) -> None:
    """Every version and its part."""
    _show(port)


@models.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@PORT
def add(folder: Path, port: int) -> None:
    """Open the version in FOLDER (as `affectgan archive` writes it).

    Requests get it when they name it or are routed to it.
    """
    version = _send(port, "POST", "/models", {"folder": str(folder.resolve())})
    click.echo(f"{version['name']} {version['version']} is open")


@models.command()
@click.argument("version")
@MODEL
@PORT
def default(version: str, model: str, port: int) -> None:
    """Let VERSION answer all requests that name none; a canary ends with it."""
    _reroute(port, model, default=version, weights={})
    _show(port)


@models.command()
@click.argument("weights", nargs=-1, required=True, metavar="VERSION=WEIGHT...")
@MODEL
@PORT
def weigh(weights: tuple[str, ...], model: str, port: int) -> None:
    """Spread requests that name no version: `affectgan models weigh 1.0=95 1.1=5`."""
    _reroute(port, model, weights=dict(_weight(text) for text in weights))
    _show(port)


@models.command()
@click.argument("version", required=False)
@click.option(
    "--share",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="of the requests, copied",
)
@MODEL
@PORT
def shadow(version: str | None, share: float, model: str, port: int) -> None:
    """Send VERSION copies of requests; without VERSION, stop that.

    Their answers are compared in /metrics and dropped.
    """
    _reroute(port, model, shadow={"version": version, "share": share} if version else None)
    _show(port)


@models.command()
@click.argument("version")
@MODEL
@PORT
def remove(version: str, model: str, port: int) -> None:
    """Close VERSION once its last request is answered."""
    _send(port, "DELETE", f"/models/{model}/versions/{version}")
    click.echo(f"{model} {version} is closed")


@models.command()
@click.argument("model", metavar="FOLDER")
@click.option(
    "--versions",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="the file that servers follow (`affectgan serve --versions`): change it, and nothing else",
)
@PORT
def swap(model: str, versions: Path | None, port: int) -> None:
    """Open the version in FOLDER, make it the default, and close the one that was.

    No request is lost. With --versions FOLDER may be a reference, pinned by its digest.
    """
    try:
        folder = fetch(model)
        card = check_model_folder(folder)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    if versions is not None:
        declared = DeclaredFile.read(versions).declaration
        location = model if is_reference(model) else str(folder.resolve())
        declared.swapped(card.name, card.version, location).save(versions)
        click.echo(f"{versions}: {card.name} {card.version} is the default")
        return
    added = _send(port, "POST", "/models", {"folder": str(folder.resolve())})
    name, version = added["name"], added["version"]
    click.echo(f"{name} {version} is open")
    previous = _send(port, "GET", f"/models/{name}/route")["default"]
    if previous != version:
        _reroute(port, name, default=version, weights={}, shadow=None)
        click.echo(f"{name} {version} answers")
        _send(port, "DELETE", f"/models/{name}/versions/{previous}")
        click.echo(f"{name} {previous} is closed")


def _reroute(port: int, model: str, **changes: Any) -> None:
    route = _send(port, "GET", f"/models/{model}/route")
    _send(port, "PUT", f"/models/{model}/route", {**route, **changes})


def _show(port: int) -> None:
    for version in _send(port, "GET", "/models")["models"]:
        part = ["default"] * version["default"] + ["shadow"] * version["shadow"]
        columns = (
            version["name"],
            f"{version['version']:<10}",
            f"{100 * version['share']:5.1f} %",
            version["digest"][:12],
            " ".join(part),
        )
        click.echo("  ".join(columns).rstrip())


def _weight(text: str) -> tuple[str, float]:
    version, _, value = text.partition("=")
    try:
        return version, float(value)
    except ValueError as error:
        raise click.BadParameter(f"{text!r}; write it as 1.1=5") from error


def _send(port: int, method: str, path: str, body: Any = None) -> Any:
    """The server's answer. Raises ClickException with what is wrong."""
    try:
        status, answer = asyncio.run(_request(admin_socket(port), method, path, body))
    except (aiohttp.ClientConnectorError, FileNotFoundError) as error:
        raise click.ClickException(
            f"no server of yours on port {port}; start it with `affectgan serve --port {port}`"
        ) from error
    except aiohttp.ClientError as error:
        raise click.ClickException(
            f"the server ended before it answered ({type(error).__name__})"
        ) from error
    if status >= 400:
        raise click.ClickException(answer["detail"])
    return answer


async def _request(socket: Path, method: str, path: str, body: Any) -> tuple[int, Any]:
    connector = aiohttp.UnixConnector(path=str(socket))
    forever = aiohttp.ClientTimeout(total=None)  # opening or closing a version has no timeout
    async with (
        aiohttp.ClientSession("http://operator", connector=connector, timeout=forever) as session,
        session.request(method, path, json=body) as response,
    ):
        return response.status, await response.json()
