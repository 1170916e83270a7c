"""`affectgan train` and `affectgan runs`."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import click

from training.gan.config import PRESETS, Labels, preset


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help="database folder")
@click.option(
    "--labels", type=click.Choice(["au", "va", "both"]), default="both", show_default=True, help="which annotations to learn from"
)
@click.option("--preset", "preset_name", type=click.Choice(list(PRESETS)), default="faces64", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="new run folder")
@click.option("--resume", "resume_run", type=click.Path(path_type=Path), help="run folder to go on with, to the same bits")
@click.option(
    "--init",
    type=click.Path(path_type=Path, file_okay=False),
    help="model folder to begin from (weights/, RUN/model); another size or vocabulary takes over what fits",
)
@click.option("--images", type=click.IntRange(min=1), help="pictures to see in all (default: the preset's); with --resume a new length")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--threads", type=click.IntRange(min=1), default=1, show_default=True, help="torch threads; more than one is slower on busy cores"
)
def train(
    data: Path | None,
    labels: str,
    preset_name: str,
    out: Path | None,
    resume_run: Path | None,
    init: Path | None,
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
            raise click.UsageError("--init begins a run and --resume goes on with one: give one of them")
        loop.resume(resume_run, images=images)
        return
    if data is None or out is None:
        raise click.UsageError("give --data and --out for a new run, or --resume RUN")
    config = replace(preset(preset_name), labels=cast(Labels, labels), seed=seed)
    loop.start(replace(config, total_images=images or config.total_images), data, out, init=init)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False), default=Path("runs"))
def runs(folder: Path) -> None:
    """List the runs of a folder with their progress and latest losses."""
    for config_file in sorted(folder.glob("*/config.json")):
        click.echo(_line(config_file.parent, json.loads(config_file.read_text())))


def _line(run: Path, config: dict[str, Any]) -> str:
    log = run / "log.jsonl"
    lines = log.read_text().splitlines() if log.is_file() else []
    last = json.loads(lines[-1]) if lines else {"seen_images": 0, "rate": 0.0}
    done = 100 * last["seen_images"] / config["total_images"]
    figures = " ".join(f"{name}={last[name]:.4f}" for name in ("label", "reconstruction", "critic") if name in last)
    what = f"{config['preset']:<10} {config['labels']:<5} seed {config['seed']:<4}"
    return f"{run.name:<24} {what} {done:6.1f} %  {last['rate']:7.1f} images/s  {figures}"
