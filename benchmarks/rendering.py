"""How many pictures a second of processor time the renderer draws on one core, at several sizes,
PNG included.

python -m benchmarks.rendering [--sittings 25]
"""

import time

import click
import cv2

from training.renderer.wrinkles import VARIANTS, creases
from training.sources.rendered import samples

TWINS = 4


@click.command()
@click.option(
    "--sittings",
    type=click.IntRange(min=1),
    default=25,
    show_default=True,
    help="of four pictures each",
)
@click.option("--size", "sizes", type=int, multiple=True, default=(64, 128, 256), show_default=True)
def main(sittings: int, sizes: tuple[int, ...]) -> None:
    """Print a line for each size."""
    cv2.setNumThreads(1)
    for variant in range(VARIANTS):
        creases(variant, {})  # a worker draws each furrow once for all its pictures
    for size_px in sizes:
        # compiles, fills caches
        list(samples(seed=1, first=0, count=2, size_px=size_px, twins=TWINS))
        begin = time.process_time()
        drawn = sum(
            1 for _ in samples(seed=1, first=10, count=sittings, size_px=size_px, twins=TWINS)
        )
        click.echo(
            f"{size_px} px: {drawn / (time.process_time() - begin):.1f} pictures a second "
            "of one core"
        )


if __name__ == "__main__":
    main()
