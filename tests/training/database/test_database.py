"""A database keeps what it is given, and a stream's batches are functions of their number."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset

from training.database import reader, stream
from training.database.card import DataCard, DataError
from training.database.folder_lock import locked
from training.database.reader import Database
from training.database.sample import SPLITS, Sample, split_of
from training.database.stream import Stream
from training.database.writer import DatabaseWriter, written_shards

pytestmark = pytest.mark.processes

CARD = DataCard(
    name="test", vocabulary=("AU1", "AU12"), image_px=16, sources=("made",), licence="CC0-1.0"
)


def _picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def _sample(number: int, **changes: Any) -> Sample:
    labels = np.array([number % 5 / 5, np.nan if number % 3 else 1.0, 0.1, -0.2], np.float32)
    code = cv2.imencode(".png", _picture(number)[..., ::-1])[1].tobytes()
    fields: dict[str, Any] = {
        "key": f"{number:05d}",
        "image": code,
        "labels": labels,
        "source": "made",
        "identity": f"p{number // 8}",
        "twin_group": f"g{number // 4}",
    }
    return Sample(
        **(fields | {"groups": {"sex": "female" if number % 16 < 8 else "male"}} | changes)
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("database")
    with DatabaseWriter(place, CARD, shard_images=50) as writer:
        for number in range(400):
            writer.add(_sample(number))
    return place


def test_pictures_and_labels_come_back_as_they_went_in(folder: Path) -> None:
    database = Database.open(folder)
    for split in SPLITS:
        numbers = database.column(split, "key").astype(int)
        assert np.array_equal(
            database.images(split, np.arange(5), 16), np.stack([_picture(n) for n in numbers[:5]])
        )
        assert np.array_equal(
            database.labels(split), np.stack([_sample(n).labels for n in numbers]), equal_nan=True
        )
    assert len(database) == 400


def test_no_person_stands_in_two_splits(folder: Path) -> None:
    database = Database.open(folder)
    people = [set(database.column(split, "identity")) for split in SPLITS]
    assert not people[0] & people[1] and not people[0] & people[2] and not people[1] & people[2]


def test_splits_have_the_shares_they_promise() -> None:
    drawn = [split_of("made", str(number)) for number in range(5000)]
    assert [drawn.count(split) / 5000 for split in SPLITS] == pytest.approx(
        [0.80, 0.08, 0.12], abs=0.02
    )


def test_twins_share_a_group_and_a_shard(folder: Path) -> None:
    database = Database.open(folder)
    shards = database.table("train")["shard"].to_numpy()
    groups = database.table("train")["twin_group"].to_pylist()
    twins = database.twins("train")
    assert twins and all(
        len(rows) == 4 and len(set(shards[rows])) == 1 and len({groups[row] for row in rows}) == 1
        for rows in twins
    )


def test_a_shard_is_a_webdataset(folder: Path) -> None:
    read = list(
        webdataset.WebDataset(str(folder / "shard-000000.tar"), shardshuffle=False).decode("rgb8")
    )
    assert np.array_equal(read[0]["png"], _picture(0)) and read[0]["json"]["identity"] == "p0"


def test_group_attributes_are_columns(folder: Path) -> None:
    assert set(Database.open(folder).column("train", "sex")) == {"female", "male"}


def test_a_killed_writer_leaves_whole_shards_and_goes_on(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), DatabaseWriter(tmp_path, CARD, shard_images=8) as writer:
        for number in range(20):
            if number == 19:
                raise KeyboardInterrupt
            writer.add(_sample(number))
    assert written_shards(tmp_path) == [0, 1] and len(Database.open(tmp_path)) == 16
    with DatabaseWriter(tmp_path, CARD, shard_images=8, first_shard=2) as writer:
        for number in range(16, 20):
            writer.add(_sample(number))
    assert len(Database.open(tmp_path)) == 20


def test_the_same_samples_make_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    with DatabaseWriter(tmp_path, CARD, shard_images=50) as writer:
        for number in range(52):
            writer.add(_sample(number))
    for name in ("shard-000000.tar", "shard-000000.parquet"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def _stream(folder: Path, *, seed: int = 3, **options: Any) -> Stream:
    shape = {"size_px": 16, "batch_images": 16}
    return Stream(Database.open(folder), split="train", seed=seed, **(shape | options))


def test_a_resumed_stream_goes_on_with_the_same_batches(folder: Path) -> None:
    with _stream(folder) as whole, _stream(folder, start_batch=30) as resumed:
        batches = [next(whole) for _ in range(32)]
        later = [next(resumed) for _ in range(2)]
    for a, b in zip(batches[30:], later, strict=True):
        assert np.array_equal(a.images, b.images) and np.array_equal(a.twins, b.twins)


def test_an_epoch_shows_every_picture_once(folder: Path) -> None:
    with _stream(folder) as stream:
        count = len(Database.open(folder).table("train"))
        rows = np.concatenate([stream.rows(number) for number in range(-(-count // 16))])[:count]
    assert sorted(rows) == list(range(count))


def test_two_ranks_share_the_order_of_one(folder: Path) -> None:
    with (
        _stream(folder) as one,
        _stream(folder, rank=0, world=2) as first,
        _stream(folder, rank=1, world=2) as second,
    ):
        alone = np.concatenate([one.rows(0), one.rows(1)])
        shared = np.stack([first.rows(0), second.rows(0)], axis=1).ravel()
    assert np.array_equal(alone, shared)


def test_a_twin_is_another_picture_of_the_same_sitting(folder: Path) -> None:
    database = Database.open(folder)
    groups = np.array(database.table("train")["twin_group"].to_pylist())
    with _stream(folder) as stream:
        batch = stream.batch(0)
        rows = stream.rows(0)
    assert batch.has_twin.all() and not any(
        np.array_equal(a, b) for a, b in zip(batch.images, batch.twins, strict=True)
    )
    members = [database.images("train", np.flatnonzero(groups == groups[row]), 16) for row in rows]
    assert all(
        any(np.array_equal(twin, other) for other in group)
        for twin, group in zip(batch.twins, members, strict=True)
    )


def test_rows_without_labels_are_read_and_no_run_learns_from_them(tmp_path: Path) -> None:
    with DatabaseWriter(tmp_path, CARD) as writer:
        for number in range(20):
            writer.add(_sample(number, labels=np.full(4, np.nan, np.float32)))
    database = Database.open(tmp_path)
    assert np.isnan(database.labels("train")).all()
    with pytest.raises(DataError, match="no both label"):
        Stream(database, split="train", size_px=16, batch_images=4, seed=0)


def test_a_run_on_missing_labels_is_refused(tmp_path: Path) -> None:
    with DatabaseWriter(tmp_path, CARD) as writer:
        for number in range(40):
            writer.add(_sample(number, labels=np.array([0.5, 0.5, np.nan, np.nan], np.float32)))
    with pytest.raises(DataError, match="no va label"):
        Stream(
            Database.open(tmp_path), split="train", size_px=16, batch_images=4, seed=0, labels="va"
        )


def test_a_folder_that_is_no_database_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.json"):
        Database.open(tmp_path)


def test_a_full_disk_is_reported_in_words() -> None:
    with pytest.raises(DataError, match="writable folder"):
        DatabaseWriter(Path("/dev/full/database"), CARD)


def test_a_broken_picture_is_named(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tar = tmp_path / "shard-000000.tar"
    tar.write_bytes(tar.read_bytes()[:700])
    with pytest.raises(DataError, match=r"shard-000000\.tar"), _stream(tmp_path) as stream:
        for number in range(30):
            stream.batch(number)


def test_a_disk_that_fills_up_is_reported_in_words(tmp_path: Path) -> None:
    (tmp_path / "shard-000000.part").symlink_to("/dev/full")
    with (
        pytest.raises(DataError, match="free some space"),
        DatabaseWriter(tmp_path, CARD) as writer,
    ):
        for number in range(40):
            writer.add(_sample(number))
    assert written_shards(tmp_path) == []


def test_more_shards_than_files_may_be_open(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "OPEN_SHARDS", 2)
    with DatabaseWriter(tmp_path, CARD, shard_images=4) as writer:
        for number in range(400):
            writer.add(_sample(number))
    rows = np.arange(0, 300, 3)
    with _stream(tmp_path) as read:
        assert np.array_equal(read.batch(7).images.shape, (16, 16, 16, 3))
    few, many = Database.open(tmp_path), Database.open(folder)
    assert np.array_equal(few.images("train", rows, 16), many.images("train", rows, 16))


def test_decoding_ahead_in_threads_changes_nothing(folder: Path) -> None:
    with _stream(folder) as one, _stream(folder, threads=3) as three:
        for _ in range(20):
            a, b = next(one), next(three)
            assert np.array_equal(a.images, b.images) and np.array_equal(
                a.twin_labels, b.twin_labels, equal_nan=True
            )


def test_a_split_too_large_to_keep_gives_the_same_batches(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _stream(folder) as cached:
        first = [cached.batch(number).images for number in range(3)]
    monkeypatch.setattr(stream, "CACHE_BYTES", 0)
    with _stream(folder) as read:
        assert all(np.array_equal(read.batch(number).images, first[number]) for number in range(3))


def test_larger_pictures_are_averaged_down(folder: Path) -> None:
    database = Database.open(folder)
    small = database.images("train", np.arange(3), 8).astype(float)
    mean = database.images("train", np.arange(3), 16).reshape(3, 8, 2, 8, 2, 3).mean((2, 4))
    assert np.abs(small - mean).max() <= 0.51


def test_an_index_without_weights_weighs_all_alike(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    for index in tmp_path.glob("*.parquet"):
        pq.write_table(pq.read_table(index).drop_columns(["weight"]), index)
        index.with_suffix(".sha256").unlink()  # as a database of an earlier version
    assert set(Database.open(tmp_path).weights("train")) == {1.0}


@pytest.mark.parametrize(
    ("kind", "least"),
    [("parquet", 60), ("sha256", 20), ("tar", 5)],  # half of the sums are the tar's
)
def test_a_flipped_byte_anywhere_is_named_or_changes_nothing(
    folder: Path, tmp_path: Path, kind: str, least: int
) -> None:
    rows = np.arange(len(Database.open(folder).labels("train")))
    reference = Database.open(folder)
    labels, images = reference.labels("train"), reference.images("train", rows, 16)
    rng = np.random.default_rng(0)
    shutil.copytree(folder, tmp_path / "copy")
    path = tmp_path / f"copy/shard-000000.{kind}"
    content, noticed = path.read_bytes(), 0
    for _ in range(60):
        damaged = bytearray(content)
        damaged[rng.integers(len(content))] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            opened = Database.open(tmp_path / "copy")
            read_labels, read_images = opened.labels("train"), opened.images("train", rows, 16)
        except DataError:
            noticed += 1
        else:
            assert np.array_equal(read_labels, labels, equal_nan=True)
            assert np.array_equal(read_images, images)
    assert noticed >= least


def test_the_sums_of_a_shard_are_those_of_sha256sum(folder: Path) -> None:
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", *(p.name for p in folder.glob("*.sha256"))],
        cwd=folder,
        check=False,
    )
    assert done.returncode == 0


def test_a_folder_has_one_writer_at_a_time(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from training.database.folder_lock import locked\n"
        f"with locked(pathlib.Path({str(tmp_path)!r}), ValueError):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(DataError, match="another process"), locked(tmp_path, DataError):
            pass
        other.kill()
    with locked(tmp_path, DataError):
        assert other.returncode != 0


def test_a_broken_index_is_named(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "shard-000001.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"shard-000001\.parquet"):
        Database.open(tmp_path)


def test_an_unknown_split_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="choose train, validation, test"):
        Database.open(folder).count("training")
