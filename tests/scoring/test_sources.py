"""What is scored: every kind of input gives its pictures in order, named, from any position on."""

import io
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from affect.images import ImageError
from scoring.chunks import CHUNK_PICTURES, chunks
from scoring.sources import Shard, SourceError, expected, pictures, shards
from tests.support.pictures import FACE, encoded

FACE_BYTES = encoded(FACE)


def _tar(path: Path, count: int = 3) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for number in range(count):
            for suffix, content in ((".png", FACE_BYTES), (".json", b"{}")):
                member = tarfile.TarInfo(f"{number:03d}{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def _names(path: Path | str) -> list[str]:
    return [picture.name for shard in shards([str(path)]) for picture, _ in pictures(shard)]


@pytest.mark.parametrize("name", ["shard.tar", "shard.tar.gz"])
def test_members_of_a_tar_are_pictures(tmp_path: Path, name: str) -> None:
    path = _tar(tmp_path / name)
    (shard,) = shards([str(path)])
    members = [picture for picture, _ in pictures(shard)]
    assert [picture.name for picture in members] == [f"{path}/{n:03d}.png" for n in range(3)]
    assert members[0].content() == FACE_BYTES


def test_a_tar_that_was_cut_off_ends_with_its_error(tmp_path: Path) -> None:
    path = _tar(tmp_path / "shard.tar")
    path.write_bytes(path.read_bytes()[: len(FACE_BYTES) + 3000])
    (shard,) = shards([str(path)])
    *readable, last = [picture for picture, _ in pictures(shard)]
    assert readable[0].content() == FACE_BYTES
    with pytest.raises(ImageError, match="copy it again"):
        last.content()


@pytest.mark.parametrize(
    "column",
    [
        pa.array([FACE_BYTES, b"broken", None], pa.binary()),
        pa.array([{"bytes": FACE_BYTES, "path": "a.png"}, {"bytes": b"x"}, {"bytes": None}]),
    ],
    ids=["bytes", "Hugging Face"],
)
def test_rows_of_a_parquet_file_are_pictures(tmp_path: Path, column: pa.Array) -> None:
    path = tmp_path / "faces.parquet"
    parquet.write_table(pa.table({"image": column}), path)
    (shard,) = shards([str(path)])
    first, _, empty = [picture for picture, _ in pictures(shard)]
    assert first.content() == FACE_BYTES and expected(shard, 1) == 3
    with pytest.raises(ImageError, match="no bytes"):
        empty.content()


def test_a_parquet_file_without_pictures_names_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    parquet.write_table(pa.table({"age": [1]}), path)
    ((picture, _),) = pictures(Shard("parquet", (str(path),)))
    with pytest.raises(ImageError, match="age"):
        picture.content()


def test_a_list_names_files_from_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(FACE_BYTES)
    (tmp_path / "list.txt").write_text(f"# pictures\na.png\n{tmp_path}/a.png\n\n")
    assert _names(tmp_path / "list.txt") == [str(tmp_path / "a.png")] * 2


def test_a_folder_holds_pictures_videos_and_tars(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "b.mp4").symlink_to(clip)
    (tmp_path / "a.png").write_bytes(FACE_BYTES)
    _tar(tmp_path / "c.tar.gz")
    (tmp_path / "notes.gz").write_bytes(b"")
    kinds = [(shard.kind, len(shard.paths)) for shard in shards([str(tmp_path)])]
    assert kinds == [("pictures", 1), ("video", 1), ("tar", 1)]


def test_the_same_name_in_two_folders_stays_apart(album: Path) -> None:
    names = _names(album)
    assert len(names) == len(set(names)) == 23


def test_a_file_on_object_storage_is_read(tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/a.png", FACE_BYTES)
    memory.pipe("/bucket/shard.tar", _tar(tmp_path / "s.tar").read_bytes())
    members = [
        picture
        for shard in shards(["memory://bucket/a.png", "memory://bucket/shard.tar"])
        for picture, _ in pictures(shard)
    ]
    assert [picture.content() for picture in members] == [FACE_BYTES] * 4
    assert [shard.paths for shard in shards(["memory://bucket/*.tar"])] == [
        ("memory:///bucket/shard.tar",)
    ]
    with pytest.raises(SourceError, match="nothing there"):
        list(shards(["memory://bucket/*.mp4"]))
    ((gone, _),) = pictures(Shard("pictures", ("memory://bucket/gone.png",)))
    with pytest.raises(ImageError):
        gone.content()


@pytest.mark.parametrize("given", ["gone.jpg", "gone.txt"])
def test_what_is_not_there_is_reported_before_anything_is_read(given: str) -> None:
    with pytest.raises(SourceError, match="gone"):
        list(shards([given]))


@pytest.mark.parametrize("skip", [1, 2])
def test_a_shard_is_read_on_from_any_chunk(clip: Path, skip: int) -> None:
    (shard,) = shards([str(clip)])
    whole = list(chunks(0, shard, every=1))
    rest = list(chunks(0, shard, every=1, position=whole[skip - 1].mark.position))
    frames = [[picture.frame for picture in chunk.pictures] for chunk in whole]
    assert [[picture.frame for picture in chunk.pictures] for chunk in rest] == frames[skip:]
    assert whole[-1].mark.complete and len(whole[0].pictures) == CHUNK_PICTURES


def test_what_failed_to_open_is_not_tried_again(tmp_path: Path) -> None:
    shard = Shard("video", (str(tmp_path / "gone.mp4"),))
    ((picture, position),) = pictures(shard)
    assert isinstance(picture.source, ImageError)
    assert not list(pictures(shard, position=position))
