"""Writes a database shard by shard.

A killed writer leaves complete shards only, and is resumed after them.

A shard is `shard-000000.tar` (WebDataset: `<key>.png` and `<key>.json`) with `shard-000000.parquet`
beside it, one row a sample, that knows where in the tar each picture's bytes lie: any row is one
read, whatever the size of the database. `shard-000000.sha256` has the sums of both.
"""

import io
import json
import math
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from affect.labels import DIMENSIONS
from training.database.card import CARD_FILE, DataCard, DataError
from training.database.checksums import SUFFIX, write_sums
from training.database.sample import Sample

SHARD = "shard-{:06d}"
ABOUT = ("source", "identity", "video", "twin_group")  # of a sample, as text


@dataclass
class _Open:
    """The shard being written."""

    path: Path
    tar: tarfile.TarFile
    rows: list[dict[str, Any]]
    group: str = ""


class DatabaseWriter:
    """Use as a context manager; `add` samples in order.

    `first_shard` lets several writers fill one folder.
    """

    def __init__(
        self, folder: Path, card: DataCard, *, shard_images: int = 1024, first_shard: int = 0
    ) -> None:
        self.folder, self.card, self.shard_images = folder, card, shard_images
        self.next_shard = first_shard
        self._open: _Open | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if (folder / CARD_FILE).exists():
                _same(DataCard.load(folder), card, folder)
            else:
                card.save(folder)
        except OSError as error:
            raise DataError(
                f"cannot write a database to {folder}: {error.strerror or error}; give a "
                "writable folder with space"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close_shard()
        elif self._open:
            with suppress(OSError):  # a full disk says so again
                self._open.tar.close()
            self._open.path.unlink(missing_ok=True)

    def add(self, sample: Sample) -> None:
        """Append one sample. A shard closes when it is full, but never between twins."""
        if (
            self._open
            and len(self._open.rows) >= self.shard_images
            and (not sample.twin_group or sample.twin_group != self._open.group)
        ):
            self.close_shard()
        with self._disk():
            self._write(sample)

    def close_shard(self) -> None:
        """Finish the open shard: its two files appear under their final names, the index last."""
        shard, self._open = self._open, None
        if shard is None:
            return
        final = self.folder / f"{SHARD.format(self.next_shard)}.tar"
        index = shard.path.with_suffix(".index")
        with self._disk():
            shard.tar.close()
            pq.write_table(pa.Table.from_pylist(shard.rows, schema=schema(self.card)), index)
            sums = {final.name: shard.path, final.with_suffix(".parquet").name: index}
            write_sums(final.with_suffix(SUFFIX), sums)
            shard.path.replace(final)
            index.replace(final.with_suffix(".parquet"))
        self.next_shard += 1

    @contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or error
            raise DataError(
                f"cannot write to {self.folder}: {reason}; free some space and run the "
                "command again"
            ) from error

    def _write(self, sample: Sample) -> None:
        shard = self._open or self._new_shard()
        labels = (None if math.isnan(v) else float(v) for v in sample.labels)
        columns = dict(zip((*self.card.vocabulary, *DIMENSIONS), labels, strict=True))
        texts = {name: getattr(sample, name) for name in ABOUT}
        offset = _append(shard.tar, f"{sample.key}.{_extension(sample.image)}", sample.image)
        described = {**texts, "labels": columns, "groups": sample.groups, "truth": sample.truth}
        _append(shard.tar, f"{sample.key}.json", json.dumps(described, sort_keys=True).encode())
        shard.rows.append(
            {
                "key": sample.key,
                "split": sample.split,
                **texts,
                **columns,
                "groups": json.dumps(sample.groups, sort_keys=True),
                "truth": json.dumps(sample.truth, sort_keys=True),
                "hash": sha256(sample.image).hexdigest(),
                "offset": offset,
                "size": len(sample.image),
                "weight": sample.weight,
            }
        )
        shard.group = sample.twin_group

    def _new_shard(self) -> "_Open":
        path = self.folder / f"{SHARD.format(self.next_shard)}.part"
        # closed with its shard
        tar = tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        self._open = _Open(path, tar, [])
        return self._open


def _extension(image: bytes) -> str:
    if image[:4] == b"\x89PNG":
        return "png"
    return "jpg" if image[:2] == b"\xff\xd8" else "webp"


def schema(card: DataCard) -> pa.Schema:
    """Columns of an index."""
    text = pa.string()
    return pa.schema(
        [
            *((name, text) for name in ("key", "split", *ABOUT)),
            *((name, pa.float32()) for name in (*card.vocabulary, *DIMENSIONS)),
            *((name, text) for name in ("groups", "truth", "hash")),
            ("offset", pa.int64()),
            ("size", pa.int64()),
            ("weight", pa.float32()),
        ]
    )


def written_shards(folder: Path) -> list[int]:
    """Numbers of the finished shards of a folder."""
    return sorted(int(path.stem.removeprefix("shard-")) for path in folder.glob("shard-*.parquet"))


def _append(tar: tarfile.TarFile, name: str, content: bytes) -> int:
    """Add a member; returns where its bytes begin."""
    member = tarfile.TarInfo(name)
    # time, owner and mode stay at their fixed defaults: the same samples, the same bytes
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
    return int(tar.offset) - _padded(len(content))


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _same(stored: DataCard, card: DataCard, folder: Path) -> None:
    for name in ("name", "vocabulary", "image_px", "seed", "twins", "renderer"):
        present, expected = getattr(stored, name), getattr(card, name)
        if present != expected:
            description = "unknown" if present in (None, "") else present
            raise DataError(
                f"{folder} already holds a database with {name} {description}, not "
                f"{expected}: give another --out"
            )
