"""Old rendered sets get today's valence and arousal, from their AUs, without new pixels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from training.database.annotations import SIDES
from training.database.card import DataCard, DataError
from training.database.reader import Database
from training.database.sample import Sample
from training.database.writer import DatabaseWriter
from training.renderer.affect_rule import RULE
from training.renderer.expressions import AU_CODES
from training.sources.relabelling import relabel_database, relabelled
from training.sources.rendered import samples


@pytest.fixture(scope="module")
def fresh() -> list[Sample]:
    return list(samples(seed=2, first=0, count=4, size_px=32, twins=2))


def _old(sample: Sample) -> Sample:
    """As it was before the rule: VA unknown, the left side's share of each AU and no right side."""
    labels = sample.labels.copy()
    labels[-2:] = np.nan
    truth = {k: v for k, v in sample.truth.items() if k not in (SIDES, "expected_va")}
    shares = {
        code: 2 * left / max(left + sample.truth[SIDES]["right"][code], 1e-9)
        for code, left in sample.truth[SIDES]["left"].items()
    }
    return replace(sample, labels=labels, truth=truth | {"left": shares})


def test_relabelling_todays_faces_changes_nothing(fresh: list[Sample]) -> None:
    for sample in fresh:
        again = relabelled(sample, AU_CODES)
        assert np.allclose(again.labels, sample.labels, atol=2e-4)
        assert np.allclose(again.truth["expected_va"], sample.truth["expected_va"], atol=2e-4)


def test_a_set_from_before_the_rule_is_read_and_relabelled(
    fresh: list[Sample], tmp_path: Path
) -> None:
    card = DataCard(
        name="old", vocabulary=AU_CODES, image_px=32, sources=("rendered",), licence="CC0-1.0"
    )
    with DatabaseWriter(tmp_path / "old", card) as writer:
        for sample in fresh:
            writer.add(_old(sample))
    assert relabel_database(Database.open(tmp_path / "old"), tmp_path / "new") == len(fresh)
    new = Database.open(tmp_path / "new")
    assert new.card.affect_rule == RULE and Database.open(tmp_path / "old").card.affect_rule == ""
    for split in ("train", "validation", "test"):
        assert not np.isnan(new.labels(split)).any()


def test_a_folder_that_holds_a_database_is_left_alone(fresh: list[Sample], tmp_path: Path) -> None:
    card = DataCard(
        name="old", vocabulary=AU_CODES, image_px=32, sources=("rendered",), licence="CC0-1.0"
    )
    with DatabaseWriter(tmp_path, card) as writer:
        writer.add(fresh[0])
    with pytest.raises(DataError, match="another --out"):
        relabel_database(Database.open(tmp_path), tmp_path)
