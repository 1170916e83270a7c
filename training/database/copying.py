"""A database written anew, sample by sample: with labels or twins taken away, for experiments."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from training.database.card import DataCard
from training.database.reader import Database
from training.database.sample import SPLITS, Sample
from training.database.writer import DatabaseWriter


def copy_database(
    database: Database, folder: Path, name: str, change: Callable[[Sample], Sample | None]
) -> Path:
    """Write what `change` makes of every sample into `folder`, unless that is there; None leaves it
    out, splits are kept. Returns the folder.
    """
    if not folder.is_dir():
        fresh = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(fresh, ignore_errors=True)
        card = database.card.model_copy(update={"name": name, "seed": None})
        with DatabaseWriter(fresh, DataCard.model_validate(card.model_dump())) as writer:
            for sample in map(change, samples(database)):
                if sample is not None:
                    writer.add(sample)
        fresh.rename(folder)
    return folder


def samples(database: Database) -> Iterator[Sample]:
    """Every sample as it was written, in the order of splits and shards."""
    texts = ("key", "source", "identity", "video", "twin_group")
    for split in SPLITS:
        offsets, labels, weights = (
            database.offsets(split),
            database.labels(split),
            database.weights(split),
        )
        for row, columns in enumerate(
            database.table(split, [*texts, "groups", "truth"]).to_pylist()
        ):
            yield Sample(
                **{name: columns[name] or "" for name in texts},
                image=database.read_bytes(
                    int(offsets.shard[row]), int(offsets.offset[row]), int(offsets.size[row])
                ),
                labels=labels[row],
                groups=json.loads(columns["groups"]),
                truth=json.loads(columns["truth"]),
                weight=float(weights[row]),
                assigned=split,
            )
