"""Joins databases into one: labels side by side with their masks, the same picture once, nobody in
two splits.

Output shard k is made of input shard k (the inputs in the order given) and of nothing else, so a
stopped merge can be resumed.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

from affect.labels import Vocabulary
from training.database.card import DataCard, DataError
from training.database.folder_lock import locked
from training.database.reader import Database
from training.database.sample import SPLITS, TEST, TRAIN, VALIDATION, Sample
from training.database.writer import DatabaseWriter, written_shards

STRICTNESS = (TRAIN, VALIDATION, TEST)  # people in several splits go to the last of these
TEMPERATURE = 0.5  # 0: every source is drawn equally often, 1: every picture


@dataclass(frozen=True)
class MergeReport:
    """The counts of a merge."""

    read: int
    kept: int
    joined_labels: int  # labels that a kept picture got from its copy
    conflicts: int  # labels that copies state differently; the first database's stand
    moved: int  # pictures whose split changed because they show someone of a stricter split

    def __str__(self) -> str:
        return (
            f"read {self.read:,} pictures, kept {self.kept:,}; {self.read - self.kept:,} "
            "copies by content gave "
            f"{self.joined_labels:,} labels to their first, {self.conflicts:,} labels "
            "differed (the first stands); "
            f"{self.moved:,} pictures changed their split"
        )


@dataclass(frozen=True)
class _Rows:
    """All N rows of all inputs, in the order of inputs, shards and places.

    Codes number what is the same; -1 is nothing.
    """

    labels: NDArray[np.float32]  # (N, K + 2)
    split: NDArray[np.int64]  # (N,) place in STRICTNESS
    person: NDArray[np.int64]
    video: NDArray[np.int64]
    picture: NDArray[np.int64]
    source: NDArray[np.int64]


@dataclass(frozen=True)
class _Plan:
    """The result for each row."""

    kept: NDArray[np.bool_]
    labels: NDArray[np.float32]
    split: NDArray[np.int64]
    weight: NDArray[np.float64]


def merge_databases(
    folders: Sequence[Path],
    out: Path,
    *,
    name: str = "",
    positive_intensity: float | None = None,
    temperature: float = TEMPERATURE,
) -> MergeReport:
    """Merge at least two databases.

    Raises DataError when they cannot be read or the folder holds another database.
    """
    if len(folders) < 2 or len({folder.resolve() for folder in (*folders, out)}) <= len(folders):
        raise DataError("give two different databases or more, and another folder for --out")
    if not 0 <= temperature <= 1:
        raise DataError(
            f"temperature is {temperature:g}; choose 0 (every source alike) to 1 (every "
            "picture alike)"
        )
    inputs = [Database.open(folder) for folder in folders]
    card = merged_card([database.card for database in inputs], name, positive_intensity)
    with locked(out, DataError):
        return _merge(inputs, out, card, temperature)


def _merge(
    inputs: Sequence[Database], out: Path, card: DataCard, temperature: float
) -> MergeReport:
    DatabaseWriter(out, card)  # fails at once when the folder cannot be written
    plan, report = _decide(_rows(inputs, card), temperature)
    done = set(written_shards(out))
    start = 0
    with tqdm(total=report.read, unit="img", desc="merge") as bar:
        for number, (source_index, shard) in enumerate(
            (source_index, shard)
            for source_index, database in enumerate(inputs)
            for shard in database.shards
        ):
            index = inputs[source_index].shard(shard)
            if number not in done:
                with DatabaseWriter(out, card, shard_images=2**31, first_shard=number) as writer:
                    for row_in_shard in np.flatnonzero(plan.kept[start : start + len(index)]):
                        writer.add(
                            _sample(
                                inputs[source_index],
                                source_index,
                                index.slice(row_in_shard, 1).to_pylist()[0],
                                plan,
                                start + int(row_in_shard),
                            )
                        )
            start += len(index)
            bar.update(len(index))
    return report


def merged_card(
    cards: Sequence[DataCard], name: str = "", positive_intensity: float | None = None
) -> DataCard:
    """The card of a union: every AU, every source; the smallest side, as larger pictures can be
    given smaller.
    """
    vocabulary = Vocabulary(())
    for card in cards:
        vocabulary = vocabulary.union(Vocabulary(card.vocabulary))
    by_licence: dict[str, list[str]] = {}
    for card in cards:
        for sources, licence in _licences(card):
            by_licence.setdefault(licence, []).extend(sources)
    return DataCard(
        name=name or "+".join(card.name for card in cards),
        vocabulary=vocabulary.aus,
        image_px=min(card.image_px for card in cards),
        sources=tuple(dict.fromkeys(source for card in cards for source in card.sources)),
        licence="; ".join(
            f"{', '.join(dict.fromkeys(sources))}: {licence}"
            for licence, sources in by_licence.items()
        ),
        positive_intensity=positive_intensity or cards[0].positive_intensity,
        renderer=" ".join(dict.fromkeys(card.renderer for card in cards if card.renderer)),
        affect_rule=" ".join(
            dict.fromkeys(
                card.affect_rule or "unnamed" for card in cards if "rendered" in card.sources
            )
        ),
        labelled="; ".join(dict.fromkeys(card.labelled for card in cards if card.labelled)),
    )


def _licences(card: DataCard) -> list[tuple[Sequence[str], str]]:
    """Sources and their licence: of a merged set, which names its sources, each by itself."""
    parts = [part.partition(": ") for part in card.licence.split("; ")]
    if all(set(named.split(", ")) <= set(card.sources) for named, _, _ in parts):
        return [(named.split(", "), licence) for named, _, licence in parts]
    return [(card.sources, card.licence)]


def rescale(intensity: NDArray[np.float32], start: float, target: float) -> NDArray[np.float32]:
    """Intensities of a set where AUs count as present from `start` on, so that the same ones count
    from `goal` on. 0 and 1 stay.
    """
    if start == target:
        return intensity
    low = intensity * (target / start)
    high = (
        target + (intensity - start) * ((1 - target) / (1 - start))
        if start < 1
        else np.ones_like(intensity)
    )
    present = intensity >= np.float32(start)
    least_present = (
        np.float32(target)
        if float(np.float32(target)) >= target
        else np.nextafter(np.float32(target), np.float32(2))
    )
    below = np.nextafter(np.float32(target), np.float32(-1))
    return np.where(present, np.maximum(high, least_present), np.minimum(low, below)).astype(
        np.float32
    )


def balance(source: NDArray[np.int64], temperature: float) -> dict[int, float]:
    """Weight of each source's pictures: a source with a share q of them is drawn in proportion to q
    ** temperature; mean 1.
    """
    codes, counts = np.unique(source, return_counts=True)
    share = counts / counts.sum()
    target_shares = share**temperature / (share**temperature).sum()
    return {
        int(code): float(weight) for code, weight in zip(codes, target_shares / share, strict=True)
    }


def _decide(rows: _Rows, temperature: float) -> tuple[_Plan, MergeReport]:
    first = _first_of(rows.picture)
    kept = first == np.arange(len(first))
    labels, joined, conflicts = _join(rows.labels, first)
    split = _splits(rows)
    by_source = balance(rows.source[kept], temperature)
    weight = np.array([by_source.get(code, 1.0) for code in range(int(rows.source.max()) + 1)])[
        rows.source
    ]
    moved = int((split != rows.split)[kept].sum())
    return _Plan(kept, labels, split, weight), MergeReport(
        len(first), int(kept.sum()), joined, conflicts, moved
    )


def _rows(inputs: Sequence[Database], card: DataCard) -> _Rows:
    threshold, wide = card.positive_intensity, Vocabulary(card.vocabulary)
    labels: list[NDArray[np.float32]] = []
    columns: dict[str, list[pa.Array]] = {
        name: [] for name in ("split", "source", "identity", "video", "hash")
    }
    for database in inputs:
        index = database.whole((*database.vocabulary.names, *columns))
        own_labels = np.stack(
            [index[name].to_numpy(zero_copy_only=False) for name in database.vocabulary.names],
            axis=1,
        ).astype(np.float32)
        own_labels[:, :-2] = rescale(
            own_labels[:, :-2], database.card.positive_intensity, threshold
        )
        labels.append(wide.project(own_labels, database.vocabulary))
        for name, parts in columns.items():
            parts.append(index[name].combine_chunks())
    joined = {name: pa.chunked_array(parts) for name, parts in columns.items()}
    source = _codes(joined["source"])
    return _Rows(
        labels=np.concatenate(labels),
        split=np.array([STRICTNESS.index(split) for split in SPLITS])[
            _codes_in(joined["split"], SPLITS)
        ],
        person=_of_source(source, joined["identity"]),
        video=_of_source(source, joined["video"]),
        picture=_codes(joined["hash"]),
        source=source,
    )


def _codes(column: pa.ChunkedArray) -> NDArray[np.int64]:
    return np.asarray(column.combine_chunks().dictionary_encode().indices.to_numpy(), np.int64)


def _codes_in(column: pa.ChunkedArray, values: Sequence[str]) -> NDArray[np.int64]:
    encoded = column.combine_chunks().dictionary_encode()
    places = np.array([values.index(value) for value in encoded.dictionary.to_pylist()], np.int64)
    return np.asarray(places[encoded.indices.to_numpy()])


def _of_source(source: NDArray[np.int64], column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Codes of names that mean the same within a source only; -1 for the empty name."""
    encoded = column.combine_chunks().dictionary_encode()
    names = encoded.dictionary.to_pylist()
    codes = np.asarray(encoded.indices.to_numpy(), np.int64)
    empty = codes == (names.index("") if "" in names else -1)
    return np.where(empty, -1, np.unique(source * len(names) + codes, return_inverse=True)[1])


def _first_of(picture: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,) the first row with the same picture."""
    _, first, inverse = np.unique(picture, return_index=True, return_inverse=True)
    return np.asarray(first[inverse], np.int64)


def _join(
    labels: NDArray[np.float32], first: NDArray[np.int64]
) -> tuple[NDArray[np.float32], int, int]:
    """Labels of first rows filled from their copies; how many were filled, and how many
    differed.
    """
    joined = labels.copy()
    filled = conflicts = 0
    for row in np.flatnonzero(first != np.arange(len(first))):
        kept_labels, duplicate_labels = joined[first[row]], labels[row]
        is_new = np.isnan(kept_labels) & ~np.isnan(duplicate_labels)
        filled += int(is_new.sum())
        conflicts += int(
            (
                ~np.isnan(kept_labels)
                & ~np.isnan(duplicate_labels)
                & (kept_labels != duplicate_labels)
            ).sum()
        )
        kept_labels[is_new] = duplicate_labels[is_new]
    return joined, filled, conflicts


def _splits(rows: _Rows) -> NDArray[np.int64]:
    """The split of each row; rows that share a person, a video or a picture get the strictest split
    among them.
    """
    count, offset, edges = len(rows.split), len(rows.split), []
    for codes in (rows.person, rows.video, rows.picture):
        known = codes >= 0
        edges.append(np.stack([np.flatnonzero(known), codes[known] + offset]))
        offset += int(codes.max(initial=-1)) + 1
    a, b = np.concatenate(edges, axis=1)
    _, component = connected_components(
        coo_array((np.ones(len(a), np.int8), (a, b)), shape=(offset, offset)), directed=False
    )
    strictest = np.zeros(component.max() + 1, np.int64)
    np.maximum.at(strictest, component[:count], rows.split)
    return np.asarray(strictest[component[:count]], np.int64)


def _sample(
    database: Database, source_index: int, row: dict[str, Any], plan: _Plan, row_number: int
) -> Sample:
    return Sample(
        key=f"d{source_index}-{row['key']}",
        image=database.read_bytes(row["shard"], row["offset"], row["size"]),
        labels=plan.labels[row_number],
        source=row["source"],
        identity=row["identity"],
        video=row["video"],
        twin_group=row["twin_group"] and f"d{source_index}-{row['twin_group']}",
        groups=json.loads(row["groups"]),
        truth=json.loads(row["truth"]),
        weight=float(plan.weight[row_number]),
        assigned=STRICTNESS[plan.split[row_number]],
    )
