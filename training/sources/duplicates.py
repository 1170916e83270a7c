"""Lines of a set about the same face: which of them cannot be used, and why."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from training.sources.record import Box, Record

Key = tuple[Path, int | None, Box | None]
Fact = tuple[str, float | str]


def duplicates(records: Callable[[], Iterable[Record]]) -> dict[str, str]:
    """Reasons by the place of a line: all lines that contradict another about the same face, and
    repetitions but the first.

    `records` is read twice, so that only lines of which there are several are held in memory.
    """
    times = Counter(hash(_key(record)) for record in records())
    groups: dict[Key, list[Record]] = {}
    for record in records():
        if times[hash(_key(record))] > 1:
            groups.setdefault(_key(record), []).append(record)
    return {where: reason for group in groups.values() for where, reason in _refused(group)}


def _key(record: Record) -> Key:
    return (record.picture, record.frame, record.box)


def _refused(group: list[Record]) -> Iterator[tuple[str, str]]:
    # By fact and value: the record that states it first.
    first_stated: dict[str, dict[float | str, str]] = {}
    for record in group:
        for name, value in _facts(record):
            first_stated.setdefault(name, {}).setdefault(value, record.where)
    earlier: dict[tuple[Fact, ...], str] = {}
    for record in group:
        facts = _facts(record)
        disputed = next((fact for fact in facts if len(first_stated[fact[0]]) > 1), None)
        first = earlier.setdefault((*facts, ("truth", repr(record.truth))), record.where)
        if disputed:
            name, value = disputed
            other, where = next(pair for pair in first_stated[name].items() if pair[0] != value)
            yield (
                record.where,
                f"contradicts {where} about the same face: {name} is {value}, there {other}",
            )
        elif first != record.where:
            yield record.where, f"repeats {first}"


def _facts(record: Record) -> tuple[Fact, ...]:
    facts = {"identity": record.unit, "video": record.video, "split": record.official}
    labels = {name: value for name, value in record.labels.items() if value is not None}
    return (*labels.items(), *((name, value) for name, value in facts.items() if value))
