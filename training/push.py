"""`affectgan push`: a run, archived, where servers fetch it from."""

import tempfile
from pathlib import Path

import click

from affect import artefacts
from affect.archive import archive_of
from training.archive import write_archives


@click.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("reference")
@click.option("--version", help="Version under which it is served (default: the card's).")
def push(run: Path, reference: str, version: str | None) -> None:
    """Archive RUN, unless it is a folder of archives, and upload it to REFERENCE.

    REFERENCE is s3://bucket/folder, gs://bucket/folder, or oci://registry/name:tag. What is printed
    names exactly these bytes; `affectgan serve --models` takes it.
    """
    if archive_of(run, "predict").is_file():
        click.echo(artefacts.push(run, reference))
        return
    with tempfile.TemporaryDirectory() as scratch:
        write_archives(run, Path(scratch), version=version)
        click.echo(artefacts.push(Path(scratch), reference))
