"""`affectgan align`: make the landmark network again."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import click


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="the network as .onnx; its figures go beside it as .json")
@click.option(
    "--heads", type=click.IntRange(min=64), default=8000, show_default=True, help="rendered heads to train on; a tenth more are held out"
)
@click.option("--steps", type=click.IntRange(min=1), default=5000, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="processes that render")
@click.option("--cache", type=click.Path(path_type=Path), help="keep the rendered heads in this .npz and use them when they are there")
def align(out: Path, heads: int, steps: int, seed: int, workers: int, cache: Path | None) -> None:
    """Train the landmark network that aligns faces, on renders."""
    import torch

    from affect.faces import Landmarks
    from training.alignment.pictures import Heads
    from training.alignment.train import export, measure, train, write_report

    torch.set_num_threads(1)
    held = heads // 10
    rendered = Heads.load(cache) if cache and cache.exists() else render(seed, heads + held, workers)
    if cache and not cache.exists():
        rendered.save(cache)
    network = train(Heads(rendered.images[:-held], rendered.points[:-held]), steps=steps, seed=seed)
    export(network, out)
    accuracy = measure(Landmarks(out), Heads(rendered.images[-held:], rendered.points[-held:]), seed=seed)
    command = f"affectgan align --out {out} --heads {heads} --steps {steps} --seed {seed}"
    write_report(out.with_suffix(".json"), accuracy, command)
    click.echo(f"wrote {out}: {accuracy}")


def render(seed: int, count: int, workers: int):  # type: ignore[no-untyped-def]
    """Heads of a seed, by several processes."""
    import numpy as np

    from training.alignment.pictures import Heads, render_heads

    step = 250
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        parts = list(
            pool.map(render_heads, *zip(*((seed, first, min(step, count - first)) for first in range(0, count, step)), strict=True))
        )
    return Heads(np.concatenate([p.images for p in parts]), np.concatenate([p.points for p in parts]))
