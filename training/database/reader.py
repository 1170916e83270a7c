"""Reads a database: labels and attributes by column, pictures by row.

Columns are read on demand and not retained; only the location of each picture is, some thirty bytes
a picture.
"""

import json
import os
import tarfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from affect.labels import Vocabulary
from training.database.card import DataCard, DataError
from training.database.checksums import check_sum, picture_sum
from training.database.sample import SPLITS
from training.database.writer import SHARD, schema, written_shards

OPEN_SHARDS = 256  # files kept open
INDEX_THREADS = 4


@dataclass(frozen=True)
class ShardOffsets:
    """Where the N pictures of a split lie: shard, and byte offset and size in its tar, and the
    first eight bytes of its SHA-256; (N,) each.
    """

    shard: NDArray[np.int32]
    offset: NDArray[np.int64]
    size: NDArray[np.int64]
    digest: NDArray[np.uint64]


class Database:
    """One folder of shards. Open with `Database.open`."""

    def __init__(self, folder: Path, card: DataCard, shards: list[int]) -> None:
        self.folder, self.card, self.shards = folder, card, shards
        self._checked: set[int] = set()  # shards whose index was compared with its sum
        self._rows: dict[str, NDArray[np.int64]] = {}
        self._offsets: dict[str, ShardOffsets] = {}
        self._tar = lru_cache(OPEN_SHARDS)(
            lambda number: _Tar(folder / f"{SHARD.format(number)}.tar")
        )

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Raises DataError when the folder is no database, is empty, or an index is broken.

        Rows may lack labels.
        """
        card = DataCard.load(folder)
        shards = written_shards(folder)
        if not shards:
            raise DataError(
                f"{folder} holds no finished shard: run the command that makes it again, "
                "it goes on where it stopped"
            )
        database = cls(folder, card, shards)
        database.count(SPLITS[0])  # reads every index: a broken one is named at once
        return database

    def __len__(self) -> int:
        return sum(self.count(split) for split in SPLITS)

    @property
    def vocabulary(self) -> Vocabulary:
        """The AUs of the label rows, in order."""
        return Vocabulary(self.card.vocabulary)

    def count(self, split: str) -> int:
        """Pictures of a split."""
        return len(self._rows_of(split))

    def table(self, split: str, names: Sequence[str] | None = None) -> pa.Table:
        """Columns of the index for one split (all of them unless named), in the order of the
        shards.
        """
        names = [*schema(self.card).names, "shard"] if names is None else list(names)
        rows = self._rows_of(split)
        return pa.table(
            dict(zip(names, (column.take(rows) for column in self._columns(names)), strict=True))
        )

    def whole(self, names: Sequence[str]) -> pa.Table:
        """Columns of the index for all splits together, in the order of the shards."""
        return pa.table(dict(zip(names, self._columns(names), strict=True)))

    def shard(self, number: int) -> pa.Table:
        """All columns of one shard."""
        return self._index(number, [*schema(self.card).names, "shard"])

    def labels(self, split: str) -> NDArray[np.float32]:
        """(N, K + 2) label rows, NaN = not annotated."""
        table = self.table(split, self.vocabulary.names)
        labels = np.empty((len(table), table.num_columns), np.float32)
        for index, column in enumerate(table.columns):
            labels[:, index] = column.to_numpy(zero_copy_only=False)
        return labels

    def weights(self, split: str) -> NDArray[np.float64]:
        """(N,) how often training draws each row, 1 on average over a balanced database."""
        return np.asarray(
            self.table(split, ["weight"])["weight"].fill_null(1.0).to_numpy(), np.float64
        )

    def column(self, split: str, name: str) -> NDArray[np.generic]:
        """(N,) one column of the index; a name it does not have is looked up among the group
        attributes ("" where absent).
        """
        if name in (*schema(self.card).names, "shard"):
            return np.asarray(self.table(split, [name])[name].to_numpy(zero_copy_only=False))
        # few different ones: each is parsed once
        encoded = self.table(split, ["groups"])["groups"].combine_chunks().dictionary_encode()
        values = np.array(
            [json.loads(text).get(name, "") for text in encoded.dictionary.to_pylist()] or [""]
        )
        return np.asarray(values[encoded.indices.to_numpy()])

    def truth(self, split: str) -> list[dict[str, object]]:
        """What else is true of each row."""
        return [json.loads(text) for text in self.table(split, ["truth"])["truth"].to_pylist()]

    def twins(self, split: str) -> list[NDArray[np.intp]]:
        """Row numbers of each group of twins (at least two)."""
        order, starts, sizes = self.twin_order(split)
        return [order[start : start + size] for start, size in zip(starts, sizes, strict=True)]

    def twin_order(self, split: str) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
        """Rows ordered by group of twins, and where in that order each group of at least two begins
        and how many it has.
        """
        encoded = (
            self.table(split, ["twin_group"])["twin_group"].combine_chunks().dictionary_encode()
        )
        codes, names = encoded.indices.to_numpy(), np.array(encoded.dictionary.to_pylist(), object)
        order = np.argsort(codes, kind="stable")
        sizes = np.bincount(codes, minlength=len(names)).astype(np.intp)
        starts = np.cumsum(sizes) - sizes
        groups = (sizes > 1) & (names != "")
        return order, starts[groups], sizes[groups]

    def offsets(self, split: str) -> ShardOffsets:
        """Where the pictures of a split lie, in the order of the shards."""
        if split not in self._offsets:
            table = self.table(split, ["shard", "offset", "size", "hash"])
            shard, offset, size = (column.to_numpy() for column in table.columns[:3])
            self._offsets[split] = ShardOffsets(shard, offset, size, _digests(table["hash"]))
        return self._offsets[split]

    def images(self, split: str, rows: NDArray[np.integer], size_px: int) -> NDArray[np.uint8]:
        """(n, S, S, 3) RGB of the given rows of a split."""
        offsets = self.offsets(split)
        out = np.empty((len(rows), size_px, size_px, 3), np.uint8)
        for image, row in zip(out, np.asarray(rows), strict=True):
            image[:] = self.read_row(offsets, int(row), size_px)
        return out

    def read_row(self, offsets: ShardOffsets, row: int, size_px: int) -> NDArray[np.uint8]:
        """(S, S, 3) the picture of one row of a split, compared with its digest."""
        location = (int(offsets.shard[row]), int(offsets.offset[row]), int(offsets.size[row]))
        return self.read_image(*location, size_px, digest=int(offsets.digest[row]) or None)

    def read_image(
        self, shard: int, offset: int, size: int, size_px: int, *, digest: int | None = None
    ) -> NDArray[np.uint8]:
        """(S, S, 3) one picture by its place in a shard; one read.

        Larger pictures are area-averaged down. Raises DataError when it is broken.
        """
        content = self.read_bytes(shard, offset, size)
        is_intact = len(content) == size and (digest is None or picture_sum(content) == digest)
        decoded = (
            cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if is_intact else None
        )
        if decoded is None:
            raise DataError(
                f"{self._member(shard, offset)} of {SHARD.format(shard)}.tar in "
                f"{self.folder} is broken: make that shard again"
            )
        if decoded.shape[:2] != (size_px, size_px):
            interpolation = cv2.INTER_AREA if decoded.shape[0] > size_px else cv2.INTER_LINEAR
            decoded = cv2.resize(decoded, (size_px, size_px), interpolation=interpolation)
        return np.ascontiguousarray(decoded[..., ::-1])

    def read_bytes(self, shard: int, offset: int, size: int) -> bytes:
        """A picture as stored. Raises DataError when the shard's tar is gone."""
        try:
            return self._tar(shard).read(size, offset)
        except OSError as error:
            raise DataError(
                f"{self.folder}/{SHARD.format(shard)}.tar cannot be read: "
                f"{error.strerror}; make that shard again"
            ) from error

    def close(self) -> None:
        """Close the shards' files."""
        self._tar.cache_clear()

    def _member(self, shard: int, offset: int) -> str:
        header = self._tar(shard).read(tarfile.BLOCKSIZE, offset - tarfile.BLOCKSIZE)
        return (
            "picture "
            f"{header[:100].rstrip(bytes(1)).decode(errors='replace') or 'at ' + str(offset)}"
        )

    def _rows_of(self, split: str) -> NDArray[np.int64]:
        if split not in SPLITS:
            raise DataError(f"split is {split!r}; choose {', '.join(SPLITS)}")
        if split not in self._rows:
            all_of_them = self._columns(["split"])[0]
            self._rows |= {
                name: np.flatnonzero(pc.equal(all_of_them, name).to_numpy(zero_copy_only=False))
                for name in SPLITS
            }
        return self._rows[split]

    def _columns(self, names: Sequence[str]) -> list[pa.ChunkedArray]:
        """Whole columns, of all splits."""
        with ThreadPoolExecutor(INDEX_THREADS) as pool:
            table = pa.concat_tables(
                pool.map(lambda number: self._index(number, names), self.shards)
            )
        return [table[name].combine_chunks() for name in names]

    def _index(self, number: int, names: Sequence[str]) -> pa.Table:
        """Columns of one shard; what an older index does not have is null."""
        path = self.folder / f"{SHARD.format(number)}.parquet"
        if number not in self._checked:
            check_sum(path)
            self._checked.add(number)
        try:
            with pq.ParquetFile(path) as file:
                table = file.read(columns=[name for name in names if name != "shard"])
                rows = file.metadata.num_rows
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(
                f"{path} cannot be read: {error}; delete it and its .tar and make the shard again"
            ) from error
        columns = dict(zip(table.column_names, table.columns, strict=True))
        columns["shard"] = pa.array(np.full(rows, number, np.int32))
        types = schema(self.card)
        return pa.table(
            {
                name: columns[name] if name in columns else pa.nulls(rows, types.field(name).type)
                for name in names
            }
        )


def _digests(hashes: pa.ChunkedArray) -> NDArray[np.uint64]:
    """(N,) the first eight bytes of hexadecimal digests as numbers, 0 where there is none."""
    starts = pc.utf8_slice_codeunits(hashes.fill_null("0" * 16), 0, 16)
    return np.frombuffer(bytes.fromhex("".join(starts.to_pylist())), ">u8").astype(np.uint64)


class _Tar:
    """An open tar, closed when its last reader releases it: another thread may have evicted it from
    the cache meanwhile.
    """

    def __init__(self, path: Path) -> None:
        self._number = os.open(path, os.O_RDONLY)

    def read(self, size: int, offset: int) -> bytes:
        return os.pread(self._number, size, offset)

    def __del__(self) -> None:
        if hasattr(self, "_number"):
            os.close(self._number)
