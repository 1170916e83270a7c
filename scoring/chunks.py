"""Chunks: the pictures that are read together. The pictures of a chunk depend on the inputs alone.
So a picture shares its forward pass with the same others for any number of processes, after the
death of any of them and after a resumed run: tables are the same to the last bit.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from affect.inputs import InputPicture
from scoring.sources import Position, Shard, pictures

CHUNK_PICTURES = 16
CHUNK_BYTES = 32 * 2**20  # of decoded frames: 12 of 720p, 1 of 4K


@dataclass(frozen=True)
class Mark:
    """The progress of a run: everything up to this position of this shard is done."""

    shard: int
    position: Position
    complete: bool = False  # nothing of the shard is left


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some pictures of one shard, and where the run stands when they are done."""

    pictures: tuple[InputPicture, ...]
    mark: Mark

    def without_pictures(self) -> "Chunk":
        """The same with the names of its pictures alone."""
        return replace(
            self, pictures=tuple(replace(picture, source=b"") for picture in self.pictures)
        )


def chunks(
    number: int, shard: Shard, *, every: int, position: Position | None = None
) -> Iterator[Chunk]:
    """The chunks of a shard, the `number`-th of its run, from a position on. The last one has no
    pictures.
    """
    batch, size, behind = list[InputPicture](), 0, position or {}
    for picture, behind in pictures(shard, every=every, position=position):
        batch.append(picture)
        size += picture.source.nbytes if isinstance(picture.source, np.ndarray) else 0
        if len(batch) == CHUNK_PICTURES or size >= CHUNK_BYTES:
            yield Chunk(tuple(batch), Mark(number, behind))
            batch, size = [], 0
    yield Chunk(tuple(batch), Mark(number, behind, complete=True))
