"""Feeds training: batch n is a pure function of (database, seed, n), so a resumed run gets the same
batches as an uninterrupted one.

An epoch shuffles the shards, then the rows within pools of a few shards: reading stays local and
memory flat, however many pictures there are. Decoding runs ahead in threads (OpenCV releases the
interpreter's lock).
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from affect.labels import Vocabulary, mask_labels
from training.database.annotations import Annotations, project, read_annotations
from training.database.card import DataError
from training.database.reader import Database

POOL_SHARDS = 16  # shuffled together: enough to mix, few enough to read locally
PREFETCH_BATCHES = 6
CACHE_BYTES = 2 * 2**30  # a split that fits is decoded once and cached


@dataclass(frozen=True)
class Batch:
    """B faces and their twins; beside a row without a twin stands a picture from elsewhere in the
    order of the epoch.
    """

    images: NDArray[np.uint8]  # (B, S, S, 3)
    labels: NDArray[np.float32]  # (B, K + 2), NaN = not annotated
    twins: NDArray[np.uint8]  # (B, S, S, 3)
    twin_labels: NDArray[np.float32]  # (B, K + 2)
    has_twin: NDArray[np.bool_]  # (B,)
    annotations: Annotations  # of the B faces
    twin_annotations: Annotations  # of their twins


class Stream:
    """An endless iterator of batches, to be used as a context manager.

    `rank` of `world` takes every world-th row.

    Labels are those of `vocabulary`, the database's own unless given.
    """

    def __init__(
        self,
        database: Database,
        *,
        split: str,
        size_px: int,
        batch_images: int,
        seed: int,
        labels: str = "both",
        vocabulary: Vocabulary | None = None,
        rank: int = 0,
        world: int = 1,
        start_batch: int = 0,
        threads: int = 1,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.database, self.split = database, split
        self.size_px, self.batch_images, self.seed = size_px, batch_images, seed
        self.rank, self.world, self.next_batch = rank, world, start_batch
        count = database.count(split)
        if not count:
            raise DataError(
                f"split {split!r} of {database.folder} is empty: add more people to the database"
            )
        self.vocabulary = vocabulary or database.vocabulary
        self._labels = self._learnable(labels)
        self.annotations = project(
            read_annotations(database, split), self.vocabulary.aus, database.vocabulary.aus
        )
        self._offsets = database.offsets(split)
        self._weights = _mean_one(database.weights(split))
        self._twins = _Twins(database, split)
        self._cache: NDArray[np.uint8] | None = None
        if count * size_px * size_px * 3 <= cache_bytes:
            self._cache = np.zeros((count, size_px, size_px, 3), np.uint8)
            self._cached = np.zeros(count, bool)
        self._epoch_order = lru_cache(maxsize=3)(self._shuffle)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._ahead: deque[Future[Batch]] = deque()

    def _learnable(self, labels: str) -> NDArray[np.float32]:
        """(N, K + 2) the label rows in the vocabulary, of the kinds that are learnt."""
        database, split = self.database, self.split
        rows = self.vocabulary.project(database.labels(split), database.vocabulary)
        masked: NDArray[np.float32] = mask_labels(rows, labels)
        if not np.isfinite(masked).any():
            raise DataError(
                f"split {split!r} of {database.folder} has no {labels} label: choose other "
                "--labels or import such annotations"
            )
        return masked

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        while len(self._ahead) < PREFETCH_BATCHES:
            self._ahead.append(self._pool.submit(self.batch, self.next_batch))
            self.next_batch += 1
        return self._ahead.popleft().result()

    def batch(self, number: int) -> Batch:
        """Batch `number` of this rank."""
        rows = self.rows(number)
        draws = np.random.default_rng((self.seed, 2, number)).random(
            self.batch_images * self.world
        )[self.rank :: self.world]
        partners = np.array(
            [self._twins.pick(int(row), draw) for row, draw in zip(rows, draws, strict=True)]
        )
        has_twin = partners != rows
        if not has_twin.all():
            partners[~has_twin] = self._rows_at(self._numbers(number) + len(self._labels) // 2)[
                ~has_twin
            ]
        return Batch(
            self._read(rows),
            self._labels[rows],
            self._read(partners),
            self._labels[partners],
            has_twin,
            self.annotations.take(rows),
            self.annotations.take(partners),
        )

    def rows(self, number: int) -> NDArray[np.int64]:
        """(B,) row numbers of batch `number`: consecutive places of the endless shuffled order."""
        return self._rows_at(self._numbers(number))

    @property
    def twinless(self) -> bool:
        """Whether any row of the split has no twin."""
        return not self._twins.everywhere

    def _numbers(self, number: int) -> NDArray[np.int64]:
        return (
            number * self.batch_images * self.world
            + self.rank
            + self.world * np.arange(self.batch_images)
        )

    def _rows_at(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows at places of the endless order.

        Half an epoch on, every picture stands once beside another.
        """
        count = len(self._labels)
        return np.array([self._epoch_order(int(place // count))[place % count] for place in places])

    def _shuffle(self, epoch: int) -> NDArray[np.int64]:
        rng = np.random.default_rng((self.seed, 1, epoch))
        numbers, begin = np.unique(self._offsets.shard, return_index=True)
        end = np.append(begin[1:], len(self._labels))
        repeats = (
            None
            if self._weights is None
            else _repeats(self._weights, np.random.default_rng((self.seed, 3, epoch)).random())
        )
        order = rng.permutation(len(numbers))
        parts = []
        for start in range(0, len(numbers), POOL_SHARDS):
            rows = np.concatenate(
                [np.arange(begin[k], end[k]) for k in np.sort(order[start : start + POOL_SHARDS])]
            )
            parts.append(
                rng.permutation(rows if repeats is None else np.repeat(rows, repeats[rows]))
            )
        return np.concatenate(parts)

    def _read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        return np.stack([self._image(int(row)) for row in rows])

    def _image(self, row: int) -> NDArray[np.uint8]:
        if self._cache is not None and self._cached[row]:
            cached: NDArray[np.uint8] = self._cache[row]
            return cached
        image = self.database.read_row(self._offsets, row, self.size_px)
        if self._cache is not None:
            self._cache[row] = image
            self._cached[row] = True
        return image


class _Twins:
    """The other states of each row's sitting, held as arrays: a few bytes a row."""

    def __init__(self, database: Database, split: str) -> None:
        self._order, self._starts, self._sizes = database.twin_order(split)
        self._group = np.full(database.count(split), -1, np.int64)
        in_group = np.repeat(
            self._starts - np.cumsum(self._sizes) + self._sizes, self._sizes
        ) + np.arange(self._sizes.sum())
        self._group[self._order[in_group]] = np.repeat(np.arange(len(self._sizes)), self._sizes)

    @property
    def everywhere(self) -> bool:
        """Whether every row has a twin."""
        return bool((self._group >= 0).all())

    def pick(self, row: int, draw: float) -> int:
        """Another state of the same person, light and pose by `draw` in [0, 1); the row itself
        where there is none.
        """
        group = self._group[row]
        if group < 0:
            return row
        start = self._starts[group]
        members = self._order[start : start + self._sizes[group]]
        others = members[members != row]
        return int(others[int(draw * len(others))])


def _mean_one(weights: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Weights with mean 1; None when they are all the same: then every row is drawn once an
    epoch.
    """
    return None if np.ptp(weights) == 0 else weights / weights.mean()


def _repeats(weights: NDArray[np.float64], offset: float) -> NDArray[np.int64]:
    """How often each of N rows is drawn in one epoch of N draws: systematic resampling, so never
    more than 1 away from its weight.
    """
    ends = np.floor(np.cumsum(weights) + offset).astype(np.int64)
    ends[-1] = len(weights)  # not left to rounding
    return np.diff(ends, prepend=0)
