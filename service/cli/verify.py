"""`affectgan verify`: which marks pictures have, in this process or asked of a gateway."""

from pathlib import Path
from typing import Any

import click
import orjson

from affect.answers import VerifyResult
from affect.client import Client
from affect.images import ImageError
from affect.inputs import InputPicture, expand
from affect.marking.verification import verify as verify_here
from service.cli.client import KEY, PATHS
from service.inference.verification import verification_result


@click.command()
@PATHS
@click.option("--url", help="ask this gateway (default: look at the files in this process)")
@KEY
def verify(paths: tuple[Path, ...], url: str | None, key: str | None) -> None:
    """Say of pictures who signed them and whether a model made them; one JSON line each.

    "unknown" is no promise that no model did. Ends with status 1 when a picture cannot be read.
    """
    failed = False
    for picture in expand(paths):
        try:
            result = _verified(picture, url, key)
        except ImageError as error:
            line: dict[str, Any] = {"status": "error", "detail": str(error)}
        else:
            line = result.model_dump(mode="json", exclude_none=True)
        failed |= line["status"] != "ok"
        click.echo(orjson.dumps({"file": picture.name, **line}))
    if failed:
        raise click.exceptions.Exit(1)


def _verified(picture: InputPicture, url: str | None, key: str | None) -> VerifyResult:
    if url is None:
        return verification_result(0, verify_here(picture))
    with Client(url, api_key=key) as client:
        return client.verify(picture).results[0]
