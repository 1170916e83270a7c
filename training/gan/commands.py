"""`affectgan train` and `affectgan runs`."""

import json
from dataclasses import replace
from pathlib import Path
from typing import cast

import click

from training.gan.config import PRESETS, Labels, preset


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help="database folder")
@click.option(
    "--labels",
    type=click.Choice(["au", "va", "both"]),
    default="both",
    show_default=True,
    help="which annotations to learn from",
)
@click.option(
    "--preset",
    "preset_name",
    type=click.Choice(list(PRESETS)),
    default="faces64",
    show_default=True,
)
@click.option("--out", type=click.Path(path_type=Path), help="new run folder")
@click.option(
    "--resume",
    "resume_run",
    type=click.Path(path_type=Path),
    help="run folder to go on with, to the same bits",
)
@click.option(
    "--init",
    type=click.Path(path_type=Path, file_okay=False),
    help="model folder to begin from (weights/, RUN/model); another size or vocabulary "
    "takes over what fits",
)
@click.option(
    "--photographs",
    type=click.Path(path_type=Path, file_okay=False),
    help="database of photographs, pseudo-labelled: read and edited, never drawn from the latent",
)
@click.option(
    "--images",
    type=click.IntRange(min=1),
    help="pictures to see in all (default: the preset's); with --resume a new length",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="torch threads; more than one is slower on busy cores",
)
def train(
    data: Path | None,
    labels: str,
    preset_name: str,
    out: Path | None,
    resume_run: Path | None,
    init: Path | None,
    photographs: Path | None,
    images: int | None,
    seed: int,
    threads: int,
) -> None:
    """Train a categorical GAN on a database; Ctrl-C saves and leaves."""
    import torch

    from training.gan import loop

    torch.set_num_threads(threads)
    if resume_run is not None:
        if init is not None:
            raise click.UsageError(
                "--init begins a run and --resume goes on with one: give one of them"
            )
        loop.resume(resume_run, images=images)
        return
    if data is None or out is None:
        raise click.UsageError("give --data and --out for a new run, or --resume RUN")
    config = replace(preset(preset_name), labels=cast(Labels, labels), seed=seed)
    config = replace(config, total_images=images or config.total_images)
    loop.start(config, data, out, init=init, photographs=photographs)


@click.command()
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="for machines: a list of runs")
def runs(folders: tuple[Path, ...], as_json: bool) -> None:
    """List the runs of a folder (runs/ unless given), or compare the run FOLDERS given.

    A comparison shows the settings that differ, how far each run is, its last losses, and what
    evaluation measured.
    """
    from training.gan import runs as run_folders
    from training.gan.run_folder import CONFIG_FILE

    is_listing = len(folders) < 2 and not (folders and (folders[0] / CONFIG_FILE).is_file())
    folder = folders[0] if folders else Path("runs")
    if is_listing and not folder.is_dir():
        raise click.UsageError(
            f"there is no folder {folder}/ here: give the folder that holds the runs"
        )
    all_runs = (
        run_folders.runs_in(folder)
        if is_listing
        else [run_folders.Run.load(one) for one in folders]
    )
    if as_json:
        click.echo(json.dumps(run_folders.as_json(all_runs), indent=2))
    elif is_listing:
        for run in all_runs:
            click.echo(run.line())
    else:
        click.echo(run_folders.comparison(all_runs))
