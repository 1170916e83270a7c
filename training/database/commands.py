"""`affectgan data`: make and describe dual-annotated databases."""

from pathlib import Path

import click


@click.group()
def data() -> None:
    """Make and describe dual-annotated databases."""


@data.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="folder of the database; a stopped render goes on there")
@click.option("--images", type=click.IntRange(min=1), default=10_000, show_default=True)
@click.option("--size", "size_px", type=int, default=64, show_default=True, help="side of the aligned crops in px, 32 to 512")
@click.option("--twins", type=int, default=4, show_default=True, help="states of one person in one sitting")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="processes; the bytes do not depend on it")
def render(out: Path, images: int, size_px: int, twins: int, seed: int, workers: int) -> None:
    """Render faces with true AU intensities, valence and arousal. Same seed, same pixels."""
    from training.database.describe import contact_sheet
    from training.database.reader import Database
    from training.database.rendering import render_database

    report = render_database(out, images=images, size_px=size_px, twins=twins, seed=seed, workers=workers)
    sheet = contact_sheet(Database.open(out), out / "contact.png")
    click.echo(f"wrote {out} ({report}) and {sheet}")


@data.command()
@click.argument("folder", type=click.Path(path_type=Path))
def describe(folder: Path) -> None:
    """Print what a database holds: splits, prevalence and coverage of each label, groups."""
    from training.database.describe import description
    from training.database.reader import Database

    click.echo(description(Database.open(folder)))
