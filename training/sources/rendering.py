"""Renders a database in parallel: shard k is a pure function of (seed, k), so any number of workers
writes the same bytes.

A killed render leaves complete shards and is resumed at the missing ones, if the renderer is the
same.
"""

import os
import resource
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from tqdm import tqdm

from training.database.card import DataCard, DataError
from training.database.folder_lock import locked
from training.database.writer import DatabaseWriter, written_shards
from training.renderer.affect_rule import RULE
from training.renderer.expressions import AU_CODES
from training.renderer.version import renderer_digest

SHARD_IMAGES = 1024
LABELLED = (
    "True AU intensities of the renderer, expression and pose; valence and arousal by the "
    "additive rule of "
    "training/renderer/affect_rule.py, with a rater's noise"
)


@dataclass(frozen=True)
class RenderReport:
    """The counts of a render."""

    images: int
    seconds: float
    peak_bytes: int  # of the largest worker

    def __str__(self) -> str:
        rate = self.images / self.seconds if self.seconds else 0.0
        return (
            f"{self.images} pictures in {self.seconds:.0f} s ({rate:.1f} a second), "
            f"peak memory {self.peak_bytes / 2**20:.0f} MiB a worker"
        )


def render_database(
    folder: Path,
    *,
    images: int,
    size_px: int,
    twins: int,
    seed: int,
    workers: int,
    change: tuple[str, ...] | None = None,
) -> RenderReport:
    """Render at least `images` pictures (whole groups of twins) into a folder.

    Raises DataError for sizes that cannot be.

    With `change`, twins are pairs: one of its AUs turned, or with none named the whole expression
    changed.
    """
    if not 32 <= size_px <= 512:
        raise DataError(f"size is {size_px} px; choose 32 to 512")
    if not 1 <= twins <= 64:
        raise DataError(f"twins is {twins}; choose 1 to 64 states a sitting")
    if change is not None and (unknown := sorted(set(change) - set(AU_CODES))):
        raise DataError(f"{unknown[0]} cannot be changed; choose of {', '.join(AU_CODES)}")
    kind = "rendered" if change is None else f"twins-{'+'.join(change) or 'expression'}"
    card = DataCard(
        name=f"{kind}-{size_px}-s{seed}",
        vocabulary=AU_CODES,
        image_px=size_px,
        sources=("rendered",),
        licence="CC0-1.0 (rendered from MakeHuman-derived CC0 shapes)",
        labelled=LABELLED,
        seed=seed,
        twins=twins,
        renderer=renderer_digest(),
        affect_rule=RULE,
    )
    with locked(folder, DataError):
        return _render(folder, card, images=images, change=change, workers=workers)


def _render(
    folder: Path, card: DataCard, *, images: int, change: tuple[str, ...] | None, workers: int
) -> RenderReport:
    twins = card.twins
    assert twins is not None
    DatabaseWriter(folder, card)  # fails at once when the folder cannot be written
    groups, per_shard = -(-images // twins), max(SHARD_IMAGES // twins, 1)
    finished = set(written_shards(folder))
    todo = [
        (number, first, min(per_shard, groups - first))
        for number, first in enumerate(range(0, groups, per_shard))
        if number not in finished
    ]
    start = time.monotonic()
    rendered_images, peak = 0, 0
    with tqdm(
        total=groups * twins,
        initial=groups * twins - sum(n for _, _, n in todo) * twins,
        unit="img",
        desc="render",
    ) as bar:
        for count, memory in _work(folder, card, todo, change, workers):
            rendered_images += count
            peak = max(peak, memory)
            bar.update(count)
    return RenderReport(rendered_images, time.monotonic() - start, peak)


def _work(
    folder: Path,
    card: DataCard,
    todo: list[tuple[int, int, int]],
    change: tuple[str, ...] | None,
    workers: int,
) -> Iterator[tuple[int, int]]:
    os.environ.setdefault("NUMBA_NUM_THREADS", "1")
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(_render_shard, folder, card, shard, change) for shard in todo]
        try:
            for future in futures:
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _render_shard(
    folder: Path, card: DataCard, shard: tuple[int, int, int], change: tuple[str, ...] | None
) -> tuple[int, int]:
    """Render the shard (its number, first group, groups); returns its pictures and the worker's
    peak memory in bytes.
    """
    import cv2

    from training.sources.rendered import pairs, samples

    cv2.setNumThreads(1)
    assert card.seed is not None and card.twins is not None
    number, first, groups = shard
    arguments = {"seed": card.seed, "first": first, "count": groups, "size_px": card.image_px}
    samples_drawn = (
        samples(**arguments, twins=card.twins)
        if change is None
        else pairs(**arguments, change=change)
    )
    count = 0
    with DatabaseWriter(folder, card, shard_images=2**31, first_shard=number) as writer:
        for sample in samples_drawn:
            writer.add(sample)
            count += 1
    return count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
