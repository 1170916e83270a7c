"""How many pictures a second each preset trains on, before and after the critic plays, and the
memory it takes.

python -m benchmarks.training [--preset faces64 ...] [--seconds 20]

On made pictures, so that no data has to be read: what a step costs does not depend on what it
shows. Every preset in a process of its own, as memory is given by its peak. On a GPU the figures
are those of the GPU.
"""

import resource
import subprocess
import sys
import time
from pathlib import Path

import click
import torch

from affect.factory import initialise_model
from training.database.card import DataCard
from training.gan.config import PRESETS, TrainConfig, preset
from training.gan.distributed import StepRandom
from training.gan.learner import Learner, learner_of
from training.gan.post_training import new_card
from training.gan.step import Pairs
from training.renderer.expressions import AU_CODES

ROOT = Path(__file__).resolve().parents[1]
PHASES = {"before the critic": 0.3, "with the critic": 0.9}  # progress of the run


@click.command()
@click.option(
    "--preset",
    "names",
    type=click.Choice(list(PRESETS)),
    multiple=True,
    default=tuple(PRESETS),
    help="several times  [default: all]",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=1),
    default=20.0,
    show_default=True,
    help="each of the two, at least one step in four",
)
@click.option(
    "--threads", type=click.IntRange(min=1), default=1, show_default=True, help="torch threads"
)
@click.option("--alone", is_flag=True, hidden=True, help="measure the one preset in this process")
def main(names: tuple[str, ...], seconds: float, threads: int, alone: bool) -> None:
    """Print a table."""
    if alone:
        click.echo(row(preset(names[0]), seconds, threads))
        return
    click.echo(
        f"| preset | side | a step | {' | '.join(f'{phase}, pictures/s' for phase in PHASES)} "
        "| peak memory |\n|---|---|---|---|---|---|"
    )
    for name in names:
        command = [
            sys.executable,
            "-m",
            "benchmarks.training",
            "--alone",
            "--preset",
            name,
            "--seconds",
            str(seconds),
            "--threads",
            str(threads),
        ]
        click.echo(
            subprocess.run(
                command, capture_output=True, text=True, check=True, cwd=ROOT
            ).stdout.strip()
        )


def row(config: TrainConfig, seconds: float, threads: int) -> str:
    """A line of the table."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    data = DataCard(
        name="made",
        vocabulary=AU_CODES,
        image_px=config.image_px,
        sources=("made",),
        licence="none",
    )
    model = initialise_model(new_card(config, data), seed=0).to(
        device, memory_format=torch.channels_last
    )  # type: ignore[call-overload]
    learner, pairs = learner_of(model, config), _pairs(config, device)
    rates = [
        rate(learner, pairs, config, progress, seconds, device) for progress in PHASES.values()
    ]
    figures = " | ".join(f"{pictures:.1f}" for pictures in rates)
    peak = (
        torch.cuda.max_memory_allocated()
        if device == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    return (
        f"| {config.preset} | {config.image_px} px | {config.step_images} pictures | "
        f"{figures} | {peak / 2**30:.2f} GiB |"
    )


def rate(
    learner: Learner,
    pairs: Pairs,
    config: TrainConfig,
    progress: float,
    seconds: float,
    device: str,
) -> float:
    """Pictures a second over whole rounds of steps, each round with one penalty."""
    # makes the optimiser's state, chooses kernels
    learner.step(pairs, progress=progress, step=1, rng=StepRandom(0, device=device))
    steps, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        for _ in range(config.penalty_every):
            steps += 1
            values = learner.step(
                pairs, progress=progress, step=steps, rng=StepRandom(steps, device=device)
            )
        float(values["gradient_norm"])  # waits for a GPU
    return steps * config.step_images / (time.perf_counter() - begin)


def _pairs(config: TrainConfig, device: str) -> Pairs:
    chance = torch.Generator().manual_seed(0)
    count, side, labels = config.batch_pairs, config.image_px, len(AU_CODES) + 2
    x, twin = (2 * torch.rand(count, 3, side, side, generator=chance) - 1 for _ in range(2))
    y, twin_y = (torch.rand(count, labels, generator=chance) for _ in range(2))
    return Pairs(
        x.to(device, memory_format=torch.channels_last),
        y.to(device),
        twin.to(device, memory_format=torch.channels_last),
        twin_y.to(device),
        torch.ones(count, dtype=torch.bool, device=device),
    )


if __name__ == "__main__":
    main()
