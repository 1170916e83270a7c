"""Imports an annotated set: every line ends up in the database or in the report, and a stopped
import can be resumed.

Shard k holds what items k n ... (k + 1) n - 1 of the reader give, so shards are made in any order
by any number of processes. Beside each finished shard lies `import-000000.json` with what was read,
masked and refused.
"""

import csv
import itertools
import json
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path

from tqdm import tqdm

from affect.faces import NoFaceError
from affect.images import ImageError
from affect.labels import Vocabulary
from training.database.card import DataCard, DataError
from training.database.folder_lock import locked
from training.database.sample import SHARES, TEST, TRAIN, VALIDATION, Sample, place_of, split_of
from training.database.writer import DatabaseWriter
from training.sources.cropping import Cropping
from training.sources.record import Item, Record, Refusal, Source

SHARD_LINES = 1024
REPORT = "import-{:06d}.json"
SETTINGS_FILE = "import.json"
REFUSED_FILE = "refused.csv"
SHOWN = 100  # characters of a reason in the table
NO_LABEL = "no label is known"
HASH, OFFICIAL = "hash", "official"  # or TEST: all of it


@dataclass
class ImportReport:
    """The counts of an import."""

    read: int = 0
    kept: int = 0
    # kept rows in which a label is not annotated
    masked: Counter[str] = field(default_factory=Counter)
    refused: list[tuple[str, str, str]] = field(default_factory=list)  # (where, kind, reason)
    remarks: list[str] = field(default_factory=list)

    def add(self, other: "ImportReport") -> None:
        """Join the report of another shard."""
        self.read += other.read
        self.kept += other.kept
        self.masked += other.masked
        self.refused += other.refused

    def table(self) -> str:
        """For a terminal."""
        lines = [
            f"read {self.read:>12,} lines",
            f"kept {self.kept:>12,}",
            f"refused {len(self.refused):>9,}",
        ]
        for kind, count in Counter(kind for _, kind, _ in self.refused).most_common():
            first = next((where, reason) for where, this, reason in self.refused if this == kind)
            lines.append(f"  {count:>9,}  {kind:<28} first at {first[0]}: {first[1][:SHOWN]}")
        masked = ", ".join(
            f"{name} {count:,}"
            for name, count in sorted(self.masked.items(), key=lambda pair: -pair[1])
        )
        return "\n".join([*lines, f"masked in kept rows: {masked or 'nothing'}", *self.remarks])


def import_database(
    source: Source,
    out: Path,
    *,
    cropping: Cropping,
    splits: str = HASH,
    workers: int = 1,
    shard_lines: int = SHARD_LINES,
) -> ImportReport:
    """Import a set into a folder.

    Raises DataError when the layout is wrong, nothing could be used, or the folder holds another
    import.
    """
    card = DataCard(
        name=source.name,
        vocabulary=source.vocabulary(),
        image_px=cropping.size_px,
        sources=(source.name,),
        licence=source.licence,
        positive_intensity=source.positive_intensity,
        labelled=f"{source.title}: {source.labelled}",
    )
    settings = {
        "format": source.name,
        "splits": splits,
        "cropping": repr(cropping),
        "shard_lines": str(shard_lines),
    }
    with locked(out, DataError):
        DatabaseWriter(out, card)  # fails at once when the folder cannot be written
        _same_settings(out, settings)
        target = _Target(out, card, cropping, splits)
        report = _import(source, target, workers, shard_lines)
    if not report.kept:
        raise DataError(f"nothing of {source.root} could be used:\n{report.table()}")
    return report


@dataclass(frozen=True)
class _Target:
    """The folder of an import, and how its pictures are cropped and split."""

    out: Path
    card: DataCard
    cropping: Cropping
    splits: str


def _import(source: Source, target: _Target, workers: int, shard_lines: int) -> ImportReport:
    total, units = survey(source.items())
    items = (
        replace(item, unit=units.get(item.unit, item.unit)) if isinstance(item, Record) else item
        for item in source.items()
    )
    report = ImportReport(remarks=source.remarks())
    with tqdm(total=total, unit="line", desc=f"import {source.name}") as bar:
        for part in _shards(target, _chunks(items, shard_lines), workers):
            report.add(part)
            bar.update(part.read)
    _write_refused(target.out / REFUSED_FILE, report)
    return report


def _import_shard(target: _Target, number: int, first: int, items: Sequence[Item]) -> ImportReport:
    """Make one shard and its report."""
    out, card = target.out, target.card
    report, vocabulary = ImportReport(read=len(items)), Vocabulary(card.vocabulary)
    with DatabaseWriter(out, card, shard_images=2**31, first_shard=number) as writer:
        for item_number, item in enumerate(items, start=first):
            sample = _sample_of(item, f"{card.name}-{item_number:09d}", target)
            if isinstance(sample, Sample):
                writer.add(sample)
                report.kept += 1
                report.masked.update(
                    name for name in vocabulary.names if name not in vocabulary.named(sample.labels)
                )
            else:
                report.refused.append(sample)
    text = json.dumps(
        {
            "read": report.read,
            "kept": report.kept,
            "masked": report.masked,
            "refused": report.refused,
        }
    )
    _write(out / REPORT.format(number), text)
    return report


def _sample_of(item: Item, key: str, target: _Target) -> Sample | tuple[str, str, str]:
    """The sample that an item becomes, or (where, kind, reason) of its refusal."""
    if isinstance(item, Refusal):
        return (item.where, "line not understood", item.reason)
    labels = {name: value for name, value in item.labels.items() if value is not None}
    if item.annotated and not labels:
        return (item.where, NO_LABEL, f"all of {', '.join(item.labels) or 'nothing'}")
    try:
        image = target.cropping.crop(item)
    except NoFaceError as error:
        return (
            item.where,
            error.title.lower(),
            f"{item.picture.name}: if it is an aligned crop already, import with --aligned",
        )
    except ImageError as error:
        return (item.where, error.title.lower(), f"{item.picture.name}: {error.detail}")
    unit, source = item.unit or item.video or item.identity or key, target.card.sources[0]
    return Sample(
        key=key,
        image=image,
        labels=Vocabulary(target.card.vocabulary).row(labels),
        source=source,
        identity=item.identity,
        video=item.video,
        groups=item.groups,
        truth={"picture": item.picture.name} | item.truth,
        assigned=_split(target.splits, source, unit, item.official),
    )


def _split(splits: str, source: str, unit: str, official: str) -> str:
    if splits == TEST:
        return TEST
    return official_split(source, unit, official) if splits == OFFICIAL else split_of(source, unit)


def official_split(source: str, unit: str, official: str) -> str:
    """The set's own split; of an official training part, a share by hash is for validation, as
    large as elsewhere.
    """
    if official != TRAIN:
        return official or split_of(source, unit)
    return TRAIN if place_of(source, unit) < SHARES[TRAIN] / (1 - SHARES[TEST]) else VALIDATION


def survey(items: Iterable[Item]) -> tuple[int, dict[str, str]]:
    """How many items there are; and for units that share a person or a video, the unit that stands
    for all of them.
    """
    count = 0
    root: dict[str, str] = {}

    def top(name: str) -> str:
        while root.setdefault(name, name) != name:
            name = root[name]
        return name

    for item in items:
        count += 1
        if isinstance(item, Record) and item.unit:
            for shared in (
                f"person {item.identity}",
                f"video {item.video}" if item.video else f"person {item.identity}",
            ):
                a, b = sorted(
                    (top(f"unit {item.unit}"), top(shared)),
                    key=lambda name: (not name.startswith("unit "), name),
                )
                root[b] = a
    units = (name for name in list(root) if name.startswith("unit "))
    return count, {
        name.removeprefix("unit "): top(name).removeprefix("unit ")
        for name in units
        if top(name) != name
    }


def _chunks(items: Iterator[Item], size: int) -> Iterator[tuple[int, list[Item]]]:
    """(place of the first, items) of consecutive chunks."""
    for first in itertools.count(step=size):
        if not (chunk := list(itertools.islice(items, size))):
            return
        yield first, chunk


def _shards(
    target: _Target, chunks: Iterable[tuple[int, Sequence[Item]]], workers: int
) -> Iterator[ImportReport]:
    """Reports of all shards in order; finished shards are not made again."""
    if workers == 1:
        for number, (first, items) in enumerate(chunks):
            yield _finished(target.out, number) or _import_shard(target, number, first, items)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        ahead: deque[ImportReport | Future[ImportReport]] = deque()
        try:
            for number, (first, items) in enumerate(chunks):
                ahead.append(
                    _finished(target.out, number)
                    or pool.submit(_import_shard, target, number, first, items)
                )
                while len(ahead) > 2 * workers:
                    yield _result(ahead.popleft())
            while ahead:
                yield _result(ahead.popleft())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _result(part: ImportReport | Future[ImportReport]) -> ImportReport:
    return part if isinstance(part, ImportReport) else part.result()


def _finished(out: Path, number: int) -> ImportReport | None:
    path = out / REPORT.format(number)
    if not path.is_file():
        return None
    stored = json.loads(path.read_bytes())
    return ImportReport(
        stored["read"],
        stored["kept"],
        Counter(stored["masked"]),
        [(a, b, c) for a, b, c in stored["refused"]],
    )


def _same_settings(out: Path, settings: dict[str, str]) -> None:
    path = out / SETTINGS_FILE
    if path.is_file() and json.loads(path.read_bytes()) != settings:
        raise DataError(
            f"{out} holds an import with other settings ({path.read_text().strip()}): give "
            "another --out"
        )
    _write(path, json.dumps(settings))


def _write_refused(path: Path, report: ImportReport) -> None:
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("where", "kind", "reason"))
        rows.writerows(report.refused)


def _write(path: Path, text: str) -> None:
    part = path.with_suffix(".part")
    part.write_text(text)
    part.replace(path)
