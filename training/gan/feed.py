"""From streams of batches to what a step takes: pairs on the device, photographs in the last
rows.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from affect.model import AffectModel
from training.database.annotations import Annotated, Annotations, annotated, expression_weights
from training.database.reader import Database
from training.database.stream import CACHE_BYTES, Batch, Stream
from training.gan.config import TrainConfig
from training.gan.distributed import Ranks
from training.gan.reading_losses import ReadingTargets
from training.gan.step import Pairs

GPU_THREADS, GPU_CACHE_BYTES = 8, 32 * 2**30  # a GPU is fed by more cores and more memory


class Feed:
    """Endless pairs from a database and, where given, from photographs. A context manager."""

    def __init__(
        self,
        config: TrainConfig,
        database: Database,
        photographs: Database | None,
        *,
        ranks: Ranks,
        device: torch.device,
        start_batch: int,
    ) -> None:
        self.device = device
        pairs = ranks.share(config.batch_pairs, "batch_pairs")
        self.photographs = round(pairs * config.photograph_share) if photographs else 0
        gpu = device.type == "cuda"
        shared: dict[str, Any] = {
            "split": "train",
            "size_px": config.image_px,
            "rank": ranks.rank,
            "world": ranks.world,
            "labels": config.labels,
            "start_batch": start_batch,
            "threads": GPU_THREADS if gpu else 1,
            "cache_bytes": GPU_CACHE_BYTES if gpu else CACHE_BYTES,
        }
        self._streams = [
            Stream(database, batch_images=pairs - self.photographs, seed=config.seed, **shared)
        ]
        if photographs:
            self._streams.append(
                Stream(
                    photographs,
                    batch_images=self.photographs,
                    seed=config.seed + 1,
                    vocabulary=database.vocabulary,
                    **shared,
                )
            )
        self.annotated = self._annotated(database)
        self._columns = [database.card.vocabulary.index(code) for code in self.annotated.one_sided]
        weights = expression_weights(_joined([s.annotations for s in self._streams]))
        self._class_weights = torch.from_numpy(weights).to(device)
        self._exit = ExitStack()

    @property
    def twinless(self) -> bool:
        """Whether any face has no twin: photographs never have one."""
        return any(stream.twinless for stream in self._streams)

    def __enter__(self) -> Self:
        for stream in self._streams:
            self._exit.enter_context(stream)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._exit.close()

    def __iter__(self) -> Iterator[Pairs]:
        for batches in zip(*self._streams, strict=True):
            yield self._pairs(batches)

    def _annotated(self, database: Database) -> Annotated:
        return annotated(
            _joined([stream.annotations for stream in self._streams]), database.card.vocabulary
        )

    def _pairs(self, batches: tuple[Batch, ...]) -> Pairs:
        def column(name: str) -> Tensor:
            return self._sent(np.concatenate([getattr(batch, name) for batch in batches]))

        faces = _joined([batch.annotations for batch in batches])
        twins = _joined([batch.twin_annotations for batch in batches])
        y, twin_y = column("labels"), column("twin_labels")
        return Pairs(
            x=AffectModel.to_pixels(column("images")),
            y=y,
            twin=AffectModel.to_pixels(column("twins")),
            twin_y=twin_y,
            paired=column("has_twin"),
            targets=self._targets(torch.cat([y, twin_y]), _joined([faces, twins])),
            photographs=self.photographs,
            twinless=self.twinless,
        )

    def _targets(self, labels: Tensor, rows: Annotations) -> ReadingTargets:
        expression = self._sent(rows.expression)
        return ReadingTargets(
            labels=labels,
            confidence=self._sent(rows.confidence),
            expression=expression,
            expression_weight=self._class_weights[expression.clamp(min=0)],
            pose=self._sent(rows.pose),
            sides=self._sent(rows.sides[:, :, self._columns]),
        )

    def _sent(self, array: NDArray[np.generic]) -> Tensor:
        tensor = torch.from_numpy(array)
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor


def _joined(parts: list[Annotations]) -> Annotations:
    names = ("expression", "pose", "sides", "confidence")
    return Annotations(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
