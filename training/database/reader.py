"""Reads a database: labels and attributes by column, pictures by row."""

import json
import os
from functools import cached_property
from pathlib import Path
from typing import Self

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from affect.labels import DIMENSIONS, Vocabulary
from training.database.card import DataCard, DataError
from training.database.sample import SPLITS
from training.database.writer import SHARD, schema, written_shards


class Database:
    """One folder of shards. Open with `Database.open`."""

    def __init__(self, folder: Path, card: DataCard, shards: list[int]) -> None:
        self.folder, self.card, self.shards = folder, card, shards
        self._files: dict[int, int] = {}
        self._tables: dict[str, pa.Table] = {}

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Raises DataError when the folder is no database, is empty, or carries no label at all."""
        card = DataCard.load(folder)
        shards = written_shards(folder)
        if not shards:
            raise DataError(f"{folder} holds no finished shard: run the command that makes it again, it goes on where it stopped")
        database = cls(folder, card, shards)
        if not any(np.isfinite(database.labels(split)).any() for split in SPLITS):
            raise DataError(
                f"{folder} holds {len(database)} pictures and no label: import annotations for at least one AU or for valence and arousal"
            )
        return database

    def __len__(self) -> int:
        return sum(len(self.table(split)) for split in SPLITS)

    @property
    def vocabulary(self) -> Vocabulary:
        """The AUs of the label rows, in order."""
        return Vocabulary(self.card.vocabulary)

    @cached_property
    def _index(self) -> pa.Table:
        tables = []
        for number in self.shards:
            path = self.folder / f"{SHARD.format(number)}.parquet"
            try:
                table = pq.read_table(path, schema=schema(self.card))
            except (OSError, pa.ArrowInvalid) as error:
                raise DataError(f"{path} cannot be read: {error}; delete it and its .tar and make the shard again") from error
            tables.append(table.append_column("shard", pa.array(np.full(len(table), number, np.int32))))
        return pa.concat_tables(tables)

    def table(self, split: str) -> pa.Table:
        """All columns of the index for one split, in the order of the shards."""
        if split not in SPLITS:
            raise DataError(f"split is {split!r}; choose {', '.join(SPLITS)}")
        if split not in self._tables:
            self._tables[split] = self._index.filter(pc.equal(self._index["split"], split))
        return self._tables[split]

    def labels(self, split: str) -> NDArray[np.float32]:
        """(N, K + 2) label rows, NaN = not annotated."""
        table = self.table(split)
        columns = [table[name].to_numpy(zero_copy_only=False) for name in (*self.card.vocabulary, *DIMENSIONS)]
        return np.stack(columns, axis=1).astype(np.float32)

    def column(self, split: str, name: str) -> NDArray[np.generic]:
        """(N,) one column of the index; a name it does not have is looked up among the group attributes ("" where absent)."""
        table = self.table(split)
        if name in table.column_names:
            return np.asarray(table[name].to_numpy(zero_copy_only=False))
        return np.array([json.loads(text).get(name, "") for text in table["groups"].to_pylist()])

    def truth(self, split: str) -> list[dict[str, object]]:
        """What else is true of each row."""
        return [json.loads(text) for text in self.table(split)["truth"].to_pylist()]

    def twins(self, split: str) -> list[NDArray[np.intp]]:
        """Row numbers of each group of twins (at least two)."""
        names = self.table(split)["twin_group"].to_numpy(zero_copy_only=False).astype(str)
        order = np.argsort(names, kind="stable")
        parts = np.split(order, np.flatnonzero(np.diff(np.unique(names, return_inverse=True)[1][order])) + 1) if len(names) else []
        return [np.sort(part) for part in parts if len(part) > 1 and names[part[0]]]

    def images(self, split: str, rows: NDArray[np.integer], size_px: int) -> NDArray[np.uint8]:
        """(n, S, S, 3) RGB of the given rows of a split."""
        table = self.table(split)
        wanted = table.select(["shard", "offset", "size", "key"]).take(pa.array(np.asarray(rows, np.int64)))
        out = np.empty((len(rows), size_px, size_px, 3), np.uint8)
        for place, row in enumerate(wanted.to_pylist()):
            out[place] = self.read_image(row["shard"], row["offset"], row["size"], size_px, row["key"])
        return out

    def read_image(self, shard: int, offset: int, size: int, size_px: int, key: str) -> NDArray[np.uint8]:
        """(S, S, 3) one picture by its place in a shard; one read. Larger pictures are area-averaged down."""
        content = os.pread(self._file(shard), size, offset)
        decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if len(content) == size else None
        if decoded is None:
            raise DataError(f"picture {key} of {SHARD.format(shard)}.tar in {self.folder} is broken: make that shard again")
        if decoded.shape[:2] != (size_px, size_px):
            way = cv2.INTER_AREA if decoded.shape[0] > size_px else cv2.INTER_LINEAR
            decoded = cv2.resize(decoded, (size_px, size_px), interpolation=way)
        return np.ascontiguousarray(decoded[..., ::-1])

    def _file(self, shard: int) -> int:
        if shard not in self._files:
            self._files[shard] = os.open(self.folder / f"{SHARD.format(shard)}.tar", os.O_RDONLY)
        return self._files[shard]

    def close(self) -> None:
        """Close the shards' files."""
        for number in self._files.values():
            os.close(number)
        self._files.clear()
