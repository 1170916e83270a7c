"""Rendered faces rated anew: valence and arousal by today's rule, from the Action Units they have
always had.

No picture is rendered again. The noise follows each sample's key, so relabelling twice gives the
same labels.
"""

import math
from dataclasses import replace
from pathlib import Path

from training.database.annotations import SIDES
from training.database.card import CARD_FILE, DataCard, DataError
from training.database.copying import samples
from training.database.reader import Database
from training.database.sample import Sample
from training.database.writer import DatabaseWriter
from training.renderer.affect_rule import RULE, affect_of, rated, rater
from training.renderer.expressions import SIDE
from training.sources.rendered import SOURCE
from training.sources.rendering import LABELLED


def relabel_database(database: Database, folder: Path) -> int:
    """Write the database into a new folder with rendered faces relabelled; returns their number.

    Raises DataError when none is rendered or the folder holds a database already.
    """
    if (folder / CARD_FILE).exists():
        raise DataError(f"{folder} already holds a database: give another --out")
    if SOURCE not in database.card.sources:
        raise DataError(
            f"{database.folder} has no rendered faces: the rule says nothing about photographs"
        )
    labelled = LABELLED if database.card.sources == (SOURCE,) else database.card.labelled
    changes = {"affect_rule": RULE, "labelled": labelled}
    card = DataCard.model_validate(database.card.model_dump() | changes)
    count = 0
    with DatabaseWriter(folder, card) as writer:
        for sample in samples(database):
            count += sample.source == SOURCE
            writer.add(relabelled(sample, card.vocabulary) if sample.source == SOURCE else sample)
    return count


def relabelled(sample: Sample, vocabulary: tuple[str, ...]) -> Sample:
    """A rendered sample with the rule's valence and arousal, and what is expected before noise in
    its truth.
    """
    intensities = {
        code: float(value)
        for code, value in zip(vocabulary, sample.labels[:-2], strict=True)
        if value > 0 and not math.isnan(value)
    }
    expected = affect_of(intensities, *_sides(sample, intensities))
    labels = sample.labels.copy()
    labels[-2:] = rated(rater(sample.key), expected, intensities)
    truth = sample.truth | {"expected_va": [round(value, 4) for value in expected]}
    return replace(sample, labels=labels, truth=truth)


def _sides(sample: Sample, intensities: dict[str, float]) -> tuple[dict[str, float], ...]:
    """Intensities on the person's left and right.

    Older truth has the left side's share of each AU instead.
    """
    if sides := sample.truth.get(SIDES):
        return sides["left"], sides["right"]
    left = sample.truth.get("left", {})
    shares = {code: float(left.get(code, 1.0)) for code in intensities}
    return tuple(
        {
            code: min(intensities[code] * min(share if is_left else 2 - share, SIDE), 1.0)
            for code, share in shares.items()
        }
        for is_left in (True, False)
    )
