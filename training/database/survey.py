"""Counts what a database holds: splits, labels, sources, groups, and what is wrong with it.

N pictures, K Action Units.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affect.labels import DIMENSIONS
from training.database.card import DataCard
from training.database.reader import Database
from training.database.sample import SPLITS

Bools = NDArray[np.bool_]
FEW_PRESENT = 50  # faces that show an AU, under which nothing is learnt or measured well
SMALL_SHARE = 0.02  # of a group attribute's pictures
MANY_VALUES = 20  # values of an attribute that are listed


@dataclass(frozen=True)
class SurveyPart:
    """A split, a source or a group."""

    name: str
    pictures: int
    people: int
    twins: int
    au_only: int
    va_only: int
    both: int
    neither: int
    weight: float  # mean, in training


@dataclass(frozen=True)
class Label:
    """One AU or dimension over the whole database."""

    name: str
    known: int
    present: int  # AUs only
    share: dict[str, float]  # of known faces that show it, by split; AUs only
    mean: float
    deviation: float


@dataclass(frozen=True)
class Survey:
    """All of it."""

    card: DataCard
    pictures: int
    splits: list[SurveyPart]
    sources: list[SurveyPart]
    groups: dict[str, list[SurveyPart]]
    labels: list[Label]
    # (K, K) share of the faces with the row's AU that also show the column's, NaN where unknown
    together: NDArray[np.float64]
    circumplex: NDArray[np.float32]  # (M, 2) all known valence and arousal
    problems: list[str]


@dataclass(frozen=True)
class _Index:
    """The columns of all N rows that are counted. Text is codes (N,) into a list of its values."""

    labels: NDArray[np.float32]  # (N, K + 2)
    text: dict[str, tuple[NDArray[np.int64], list[str]]]
    person: NDArray[np.int64]  # (N,) one number for each identity of each source
    weight: NDArray[np.float64]  # (N,)

    @classmethod
    def of(cls, database: Database) -> "_Index":
        names, texts = database.vocabulary.names, ("split", "source", "identity", "twin_group")
        index = database.whole((*texts, "groups", "weight", *names))
        columns = [index[name].to_numpy(zero_copy_only=False) for name in names]
        text = {
            name: _codes(index[name].combine_chunks().dictionary_encode())
            for name in (*texts, "groups")
        }
        person = text["source"][0] * len(text["identity"][1]) + text["identity"][0]
        weight = np.asarray(index["weight"].fill_null(1.0).to_numpy(), np.float64)
        return cls(np.stack(columns, axis=1).astype(np.float32), text, person, weight)

    def part(self, name: str, selected: Bools) -> SurveyPart:
        """Counts of the rows `here` (N,)."""
        known = ~np.isnan(self.labels[selected])
        au, va = known[:, :-2].any(1), known[:, -2:].all(1)
        codes, groups = self.text["twin_group"]
        twins = codes[selected]
        has_twin = np.array([bool(value) for value in groups])[twins]
        sizes = np.bincount(twins[has_twin], minlength=len(groups))
        return SurveyPart(
            name=name,
            pictures=int(selected.sum()),
            people=len(np.unique(self.person[selected])),
            twins=int(sizes[sizes > 1].sum()),
            au_only=int((au & ~va).sum()),
            va_only=int((~au & va).sum()),
            both=int((au & va).sum()),
            neither=int((~au & ~va).sum()),
            weight=float(self.weight[selected].mean()) if selected.any() else 0.0,
        )

    def parts(self, column: str, order: Sequence[str]) -> list[SurveyPart]:
        """Counts by the values of a column."""
        codes, values = self.text[column]
        empty = np.zeros(len(codes), bool)
        return [
            self.part(value, codes == values.index(value) if value in values else empty)
            for value in order
        ]


def survey(database: Database) -> Survey:
    """Count everything."""
    index, card = _Index.of(database), database.card
    groups = _groups(*index.text["groups"])
    counted = Survey(
        card=card,
        pictures=len(index.labels),
        splits=index.parts("split", SPLITS),
        sources=index.parts("source", sorted(index.text["source"][1])),
        groups={
            name: [index.part(value, selected) for value, selected in values.items()]
            for name, values in groups.items()
        },
        labels=_labels(card, index.labels, index.text["split"]),
        together=_together(index.labels[:, :-2], card.positive_intensity),
        circumplex=index.labels[~np.isnan(index.labels[:, -2:]).any(1), -2:],
        problems=[],
    )
    problems = [*_label_problems(counted), *_row_problems(database, counted, index.text)]
    return replace(counted, problems=problems)


def _codes(encoded: Any) -> tuple[NDArray[np.int64], list[str]]:
    return np.asarray(encoded.indices.to_numpy(), np.int64), encoded.dictionary.to_pylist()


def _labels(
    card: DataCard, rows: NDArray[np.float32], split: tuple[NDArray[np.int64], list[str]]
) -> list[Label]:
    all_labels = []
    for name, values in zip((*card.vocabulary, *DIMENSIONS), rows.T, strict=True):
        is_known = ~np.isnan(values)
        known = values[is_known].astype(np.float64)
        present = values >= card.positive_intensity
        share = {}
        for code, split_name in enumerate(split[1]):
            in_split = is_known & (split[0] == code)
            share[split_name] = float(present[in_split].mean()) if in_split.any() else float("nan")
        mean, deviation = (
            (float(known.mean()), float(known.std()))
            if len(known)
            else (float("nan"), float("nan"))
        )
        all_labels.append(
            Label(
                name,
                len(known),
                int(present.sum()),
                share if name not in DIMENSIONS else {},
                mean,
                deviation,
            )
        )
    return all_labels


def _together(aus: NDArray[np.float32], threshold: float) -> NDArray[np.float64]:
    known, present = ~np.isnan(aus), aus >= threshold
    both_known = present.T.astype(np.float32) @ known.astype(np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(
            (present.T.astype(np.float32) @ present.astype(np.float32)) / both_known, np.float64
        )


def _groups(codes: NDArray[np.int64], texts: list[str]) -> dict[str, dict[str, Bools]]:
    """For each attribute and value, the rows that have it."""
    parsed = [json.loads(text) for text in texts]
    all_groups: dict[str, dict[str, Bools]] = {}
    for name in sorted({name for groups in parsed for name in groups}):
        values = np.array([str(groups.get(name, "")) for groups in parsed])[codes]
        common = sorted(
            (value for value, _ in Counter(values.tolist()).most_common(MANY_VALUES) if value),
            key=lambda v: (len(v), v),
        )
        all_groups[name] = {value: values == value for value in common}
    return all_groups


def _label_problems(result: Survey) -> list[str]:
    problems = []
    for label in result.labels:
        if not label.known:
            problems.append(
                f"{label.name} is never annotated: a model cannot learn it from this database"
            )
        elif label.name not in DIMENSIONS and label.present < FEW_PRESENT:
            problems.append(
                f"{label.name} is present in {label.present} faces only (of "
                f"{label.known:,} that say)"
            )
    if not sum(part.both for part in result.splits):
        problems.append(
            "no picture has both kinds of annotation: `--labels both` learns each from other faces"
        )
    return problems


def _row_problems(
    database: Database, result: Survey, text: dict[str, tuple[NDArray[np.int64], list[str]]]
) -> list[str]:
    problems = [f"the {part.name} split is empty" for part in result.splits if not part.pictures]
    problems += [
        f"{part.name}: {part.neither:,} pictures carry no label"
        for part in result.splits
        if part.neither
    ]
    for name, values in result.groups.items():
        counted = sum(part.pictures for part in values)
        small = [part.name for part in values if part.pictures < SMALL_SHARE * counted]
        if small:
            problems.append(
                f"{name.replace('_', ' ')}: {', '.join(small)} under {SMALL_SHARE:.0%} of "
                "the pictures: their figures will be wide"
            )
    splits_of_people = np.unique(
        np.stack([text["identity"][0], text["source"][0], text["split"][0]]), axis=1
    )[:2]
    has_name = np.array([bool(name) for name in text["identity"][1]])[splits_of_people[0]]
    split_people = len(np.unique(splits_of_people[:, has_name], axis=1).T)
    if split_people < has_name.sum():
        problems.append(
            f"{int(has_name.sum()) - split_people:,} people stand in more than one split: "
            "scores will flatter"
        )
    hashes = database.whole(["hash"])["hash"]
    copies = len(hashes) - len(hashes.unique())
    if copies:
        problems.append(
            f"{copies:,} pictures are copies of others: `affectgan data merge` joins their labels"
        )
    return problems
