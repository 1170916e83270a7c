"""A merge unites labels, keeps splits, and lets nobody stand on two sides."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.made_database import card, make
from training.database.card import DataError
from training.database.merging import balance, merge_databases, merged_card, rescale
from training.database.reader import Database
from training.database.sample import SPLITS, split_of
from training.database.stream import Stream


def _rows(folder: Path) -> list[dict[str, Any]]:
    database = Database.open(folder)
    samples = []
    for split in SPLITS:
        labels = database.labels(split)
        rows = database.table(
            split, ["key", "identity", "source", "twin_group", "hash", "split", "weight"]
        ).to_pylist()
        samples += [
            row | {"labels": database.vocabulary.named(labels[place])}
            for place, row in enumerate(rows)
        ]
    return samples


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """AU only and VA only; ten pictures are in both, under other names."""
    aus = [(number, f"a{number // 2}", {"AU1": 1.0, "AU12": 0.0}) for number in range(60)]
    affect = [
        (number, f"b{number}", {"valence": 0.5, "arousal": -0.5}) for number in range(50, 150)
    ]
    return make(tmp_path / "aus", card("AU1", "AU12", source="aus"), aus), make(
        tmp_path / "va", card(source="va"), affect
    )


def test_a_merge_of_merges_names_each_source_and_licence_once(two: tuple[Path, Path]) -> None:
    first, second = (Database.open(folder).card for folder in two)
    once = merged_card([first, second])
    assert merged_card([once, first, once]).licence == once.licence


def test_a_picture_in_both_gets_the_labels_of_both(two: tuple[Path, Path], tmp_path: Path) -> None:
    report = merge_databases(two, tmp_path / "out")
    rows = _rows(tmp_path / "out")
    assert (report.read, report.kept, report.joined_labels, report.conflicts) == (
        160,
        150,
        20,
        0,
    ) and len(rows) == 150
    dual = [row for row in rows if len(row["labels"]) == 4]
    assert (
        len(dual) == 10
        and {row["source"] for row in dual} == {"aus"}
        and len({row["hash"] for row in rows}) == 150
    )


def test_splits_are_kept_and_copies_draw_their_people_into_the_strictest(
    two: tuple[Path, Path], tmp_path: Path
) -> None:
    report = merge_databases(two, tmp_path / "out")
    order = ("train", "validation", "test")
    changed = 0
    for row in _rows(tmp_path / "out"):
        own = split_of(row["source"], row["identity"])
        number = int(row["identity"][1:])
        copies = [2 * number, 2 * number + 1] if row["source"] == "aus" and number >= 25 else []
        expected = max([own, *(split_of("va", f"b{copy}") for copy in copies)], key=order.index)
        assert row["split"] == expected
        changed += row["split"] != own
    assert report.moved == changed > 0


def test_the_first_database_is_right_when_labels_differ(tmp_path: Path) -> None:
    for name, value in (("a", 1.0), ("b", 0.0)):
        make(tmp_path / name, card("AU1", source=name), [(0, "p", {"AU1": value})])
    report = merge_databases([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert report.conflicts == 1 and [row["labels"] for row in _rows(tmp_path / "out")] == [
        {"AU1": 1.0}
    ]


def test_a_stopped_merge_goes_on_to_the_same_bytes(two: tuple[Path, Path], tmp_path: Path) -> None:
    merge_databases(two, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    for suffix in ("tar", "parquet"):
        (tmp_path / f"out/shard-000002.{suffix}").unlink()
    merge_databases(two, tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_merging_again_keeps_the_splits(two: tuple[Path, Path], tmp_path: Path) -> None:
    merge_databases(two, tmp_path / "once")
    third = make(
        tmp_path / "third",
        card("AU4", source="third"),
        [(900 + n, f"c{n}", {"AU4": 1.0}) for n in range(20)],
    )
    merge_databases([third, tmp_path / "once"], tmp_path / "twice")
    once = {row["hash"]: row["split"] for row in _rows(tmp_path / "once")}
    assert all(
        row["split"] == once[row["hash"]]
        for row in _rows(tmp_path / "twice")
        if row["hash"] in once
    )


def test_twins_of_two_databases_do_not_mix(tmp_path: Path) -> None:
    for place, name in enumerate(("a", "b")):
        rows = [(100 * place + number, "p", {"AU1": 1.0}) for number in range(4)]
        make(tmp_path / name, card("AU1", source=name), rows, twin_group="g0")
    merge_databases([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    database = Database.open(tmp_path / "out")
    assert sorted(len(group) for split in SPLITS for group in database.twins(split)) == [4, 4]


def test_thresholds_meet_without_changing_what_is_present() -> None:
    graded = np.linspace(0, 1, 11, dtype=np.float32)
    for start, goal in ((0.4, 0.3), (0.3, 0.7), (0.5, 0.5)):
        moved = rescale(graded, start, goal).astype(np.float64)
        assert (
            np.array_equal(moved >= goal, graded >= np.float32(start))
            and moved[0] == 0
            and moved[-1] == 1
        )
        assert (np.diff(moved) > 0).all()


def test_weights_lift_the_small_source() -> None:
    source = np.repeat([0, 1], [900, 100])
    weights = {temperature: balance(source, temperature) for temperature in (0.0, 0.5, 1.0)}
    assert weights[1.0] == pytest.approx({0: 1.0, 1: 1.0}) and weights[0.0] == pytest.approx(
        {0: 1 / 1.8, 1: 5.0}
    )
    assert weights[0.5][1] / weights[0.5][0] == pytest.approx(3.0)
    assert 0.9 * weights[0.5][0] + 0.1 * weights[0.5][1] == pytest.approx(1.0)


def test_an_epoch_draws_rows_as_often_as_they_weigh(tmp_path: Path) -> None:
    for place, (name, count) in enumerate((("a", 400), ("b", 40))):
        make(
            tmp_path / name,
            card("AU1", source=name),
            [(1000 * place + n, f"p{n}", {"AU1": 1.0}) for n in range(count)],
        )
    merge_databases([tmp_path / "a", tmp_path / "b"], tmp_path / "out", temperature=0.0)
    database = Database.open(tmp_path / "out")
    with Stream(database, split="train", size_px=16, batch_images=8, seed=0) as stream:
        count = database.count("train")
        drawn = np.bincount(
            np.concatenate([stream.rows(n) for n in range(-(-count // 8))])[:count], minlength=count
        )
    weights = database.weights("train")
    assert np.abs(drawn - weights / weights.mean()).max() < 1 + 1e-9 and drawn.sum() == count


def test_what_cannot_be_merged_is_refused(two: tuple[Path, Path], tmp_path: Path) -> None:
    for folders, out in (
        ([two[0]], tmp_path / "out"),
        ([two[0], two[0]], tmp_path / "out"),
        (list(two), two[0]),
    ):
        with pytest.raises(DataError, match="another folder for --out"):
            merge_databases(folders, out)
