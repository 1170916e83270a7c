"""`affectgan verify`: which marks pictures have, in this process or asked of a gateway."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
import orjson

from affect.images import ImageError
from affect.inputs import InputPicture
from affect.marking.verification import verify as verify_here
from service.cli.client import KEY, PATHS, Connection, connected, named_pictures
from service.inference.verification import verification_result

Row = dict[str, Any]


@click.command()
@PATHS
@click.option("--url", help="ask this gateway (default: look at the files in this process)")
@KEY
def verify(paths: tuple[Path, ...], url: str | None, key: str | None) -> None:
    """Say of pictures who signed them and whether a model made them; one JSON line each.

    "unknown" is no promise that no model did. Ends with status 1 when a picture cannot be read.
    """
    pictures, failed = named_pictures(paths), False
    lines = (
        _here(pictures) if url is None else _from_gateway(Connection(url=url, key=key), pictures)
    )
    for name, line in lines:
        failed |= line["status"] != "ok"
        click.echo(orjson.dumps({"file": name, **line}))
    if failed:
        raise click.exceptions.Exit(1)


def _here(pictures: Iterable[InputPicture]) -> Iterator[tuple[str, Row]]:
    for picture in pictures:
        try:
            result = verification_result(0, verify_here(picture))
        except ImageError as error:
            yield picture.name, {"status": "error", "detail": str(error)}
        else:
            yield picture.name, result.model_dump(mode="json", exclude_none=True)


def _from_gateway(
    gateway: Connection, pictures: Iterable[InputPicture]
) -> Iterator[tuple[str, Row]]:
    with connected(gateway) as client:
        for picture in pictures:
            (result,) = client.verify(picture).results
            yield picture.name, result.model_dump(mode="json", exclude_none=True)
