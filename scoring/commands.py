"""`affectgan score` and `affectgan live`."""

import errno
from pathlib import Path
from typing import Any

import click

from affect.card import CardError
from affect.cores import cores
from affect.faces import Faces
from affect.images import ImageError
from affect.local.table import TableError
from scoring.journal import JournalError
from scoring.run import ScoreOptions, Summary
from scoring.run import score as run_score
from scoring.sources import SourceError

MODEL = click.option(
    "--model",
    type=click.Path(path_type=Path),
    help="run or model folder (default: the shipped one)",
)
DEVICE = click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, auto")
FACES = click.option(
    "--faces",
    type=click.Choice(["largest", "all", "none"]),
    default="largest",
    show_default=True,
    help="of each picture; none: pictures are aligned crops",
)


@click.command()
@click.argument("inputs", nargs=-1, required=True)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="the table: x.parquet, x.csv or x.jsonl",
)
@FACES
@click.option("--every", type=click.IntRange(1), default=1, show_default=True, help="n-th frame")
@click.option("--track", is_flag=True, help="number people through a video")
@click.option(
    "--smooth",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="time constant of a causal mean",
)
@click.option(
    "--baseline",
    metavar="FILE|median",
    help="neutral face to take off: a picture's, or each person's median",
)
@click.option(
    "--events",
    type=click.Path(path_type=Path, dir_okay=False),
    help="a table of blinks: onset, length, peak",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=cores,
    show_default="cores",
    help="processes that read",
)
@click.option(
    "--ray", metavar="auto|ADDRESS", help="read on a Ray cluster; auto: the one here, or a new one"
)
@click.option(
    "--pictures",
    type=click.Path(path_type=Path, file_okay=False),
    help="folder for videos and sheets to look at",
)
@click.option("--resume", is_flag=True, help="go on where the same command was stopped")
@click.option("--overwrite", is_flag=True, help="replace what an earlier run wrote")
@click.option("--progress/--no-progress", default=True, help="rate and time left")
@MODEL
@DEVICE
def score(inputs: tuple[str, ...], **parameters: Any) -> None:
    """Read pictures and videos into a table: a row a face a frame.

    INPUT is a picture, a folder, a video or a stream's URL, webcam, a WebDataset .tar, a .parquet
    with a column of pictures, or a .txt with a path on each line; tars, tables and videos may lie
    on object storage (s3://...).
    """
    parameters["smooth_seconds"] = parameters.pop("smooth")
    options = ScoreOptions(inputs=inputs, **parameters)
    try:
        summary = run_score(options)
    except (SourceError, TableError, JournalError, CardError) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(_disk_full(error, options)) from error
    _finish(summary, options)


@click.command()
@click.argument("source", default="webcam")
@click.option("--json", "as_json", is_flag=True, help="JSON lines instead of a window")
@FACES
@MODEL
@DEVICE
def live(source: str, as_json: bool, faces: Faces, model: Path | None, device: str) -> None:
    """Read a webcam (webcam, webcam:1), a stream's URL or a video as it comes, until Ctrl-C.

    Whatever the reader is too slow for is left out: what is shown is now.
    """
    from affect.local.reader import Reader
    from scoring.live import print_lines, show_window

    reader = Reader(model, device=device, faces=faces)
    try:
        (print_lines if as_json else show_window)(reader, source)
    except ImageError as error:
        raise click.ClickException(error.detail) from error
    except (KeyboardInterrupt, BrokenPipeError):
        raise click.exceptions.Exit(0) from None


def _finish(summary: Summary | None, options: ScoreOptions) -> None:
    if summary is None:
        click.echo(f"{options.out} is complete already: nothing is left to do", err=True)
        return
    for sentence in summary.said:
        click.echo(sentence, err=True)
    if summary.broken > len(summary.said):
        click.echo(
            f"... and {summary.broken - len(summary.said)} more; see the column error", err=True
        )
    counts = f"{summary.pictures:,} pictures or frames, {summary.faces:,} faces"
    click.echo(f"wrote {options.out}: {counts}, {summary.broken:,} not readable", err=True)
    if not summary.complete:
        click.echo("stopped before the end; the same command with --resume goes on", err=True)
        raise click.exceptions.Exit(130)
    if summary.pictures and summary.broken == summary.pictures:
        raise click.exceptions.Exit(1)


def _disk_full(error: OSError, options: ScoreOptions) -> str:
    path = error.filename or options.out
    if error.errno == errno.ENOSPC:
        return (
            f"{path}: the disk is full; free space and go on with --resume, what was read is kept"
        )
    return f"{path} cannot be written: {error.strerror or error}"
