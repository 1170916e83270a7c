"""`affectgan align` makes the landmark network again; `affectgan misalignment` says what its error
costs a reader.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from training.alignment.pictures import HeadPictures

STEP = 100  # heads a process renders at a time


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="the network as .onnx; its figures go beside it as .json",
)
@click.option(
    "--heads",
    type=click.IntRange(min=64),
    default=10_000,
    show_default=True,
    help="rendered heads to train on",
)
@click.option(
    "--held-out",
    type=click.IntRange(min=1),
    default=700,
    show_default=True,
    help="heads of other people to measure it on",
)
@click.option("--steps", type=click.IntRange(min=1), default=6000, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="processes that render",
)
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    help="keep the rendered heads in this .npz and use them when they are there",
)
@click.option(
    "--photos",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="folder of photographs to learn from too, but for a fifth of them, which it is "
    "measured on",
)
@click.option(
    "--points",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="mesh points of the photographs, by `make mesh`",
)
@click.option(
    "--init",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="go on from this .onnx, at half the rate; a third of the steps will do [random weights]",
)
def align(
    out: Path,
    heads: int,
    held_out: int,
    steps: int,
    seed: int,
    workers: int,
    cache: Path | None,
    photos: Path | None,
    points: Path | None,
    init: Path | None,
) -> None:
    """Train the landmark network that aligns faces, on renders and photographs; say how exact it
    is on other people.
    """
    if (photos is None) != (points is None):
        raise click.UsageError("--photos and --points go together")
    import torch

    from affect.landmarks import Landmarks
    from training.alignment.photographs import photograph_heads
    from training.alignment.pictures import HeadPictures
    from training.alignment.train import export, load, measure, train, write_report

    torch.set_num_threads(1)
    learnt, unseen = photograph_heads(photos, points) if photos and points else (None, None)
    rendered = (
        HeadPictures.load(cache) if cache and cache.exists() else render(seed, heads, workers)
    )
    if cache and not cache.exists():
        rendered.save(cache)
    torch.manual_seed(seed)  # what an older network has not is drawn
    start = load(init) if init else None
    network = train(rendered, steps=steps, seed=seed, photographs=learnt, start=start)
    export(network, out)
    on_photographs = measure(Landmarks(out), unseen, seed=seed) if unseen else None
    accuracy = measure(
        Landmarks(out), render(seed + 1, held_out, workers, filling=False), seed=seed
    )
    write_report(
        out.with_suffix(".json"),
        accuracy,
        f"affectgan align --out {out.name} --heads {heads} --steps {steps} --seed {seed}"
        + (" --photos FOLDER --points POINTS" if photos else "")
        + (f" --init {init.name}" if init else ""),
        on_photographs,
    )
    click.echo(f"wrote {out}: {accuracy}")


@click.command()
@click.argument("model", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option(
    "--heads",
    type=click.IntRange(min=16),
    default=600,
    show_default=True,
    help="rendered heads of new people",
)
@click.option(
    "--size",
    "size_px",
    type=click.IntRange(96, 1024),
    default=320,
    show_default=True,
    help="side of the pictures they are found in, px",
)
@click.option("--seed", type=int, default=9, show_default=True)
def misalignment(model: Path, heads: int, size_px: int, seed: int) -> None:
    """What reading MODEL loses when eyes are found instead of known: mean AU AUC on rendered heads
    by both crops.
    """
    import torch

    from affect.faces import FaceFinder
    from affect.factory import load_model
    from training.alignment.reading import cost_of_alignment

    torch.set_num_threads(1)
    click.echo(
        cost_of_alignment(
            load_model(model), FaceFinder(), heads=heads, picture_px=size_px, seed=seed
        )
    )


def render(seed: int, count: int, workers: int, *, filling: bool = True) -> HeadPictures:
    """Heads of a seed, by several processes."""
    from tqdm import tqdm

    from training.alignment.pictures import HeadPictures, render_heads

    firsts = range(0, count, STEP)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        parts = pool.map(
            partial(render_heads, seed, filling=filling),
            firsts,
            (min(STEP, count - first) for first in firsts),
        )
        return HeadPictures.joined(
            list(tqdm(parts, desc="heads", unit=f"{STEP} heads", total=len(firsts)))
        )
