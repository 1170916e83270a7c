"""`affectgan sign`: says by a signature whose model it is."""

from pathlib import Path

import click

from affect import signatures
from affect.archive import archive_of
from affect.model_folders import model_folder


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--key",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="Ed25519 private key (PEM); keep it away from the model",
)
@click.option("--new-key", is_flag=True, help="make the key first, and its public half as .pub")
def sign(folder: Path, key: Path, new_key: bool) -> None:
    """Sign FOLDER, a run or model folder or one of archives, so that servers may check it.

    Who sets AFFECTGAN_TRUSTED_KEY to the public half uses nothing else.
    """
    if new_key:
        click.echo(f"wrote {key} and {signatures.new_key(key)}")
    of_archives = archive_of(folder, "predict").is_file()
    click.echo(f"wrote {signatures.sign(folder if of_archives else model_folder(folder), key)}")
