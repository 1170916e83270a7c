"""What is scored: pictures, folders, videos, webcams, WebDataset tars, Parquet of bytes, lists of
paths.

Inputs become shards: what one process opens and reads from its beginning to its end. A shard's
pictures come in an order that never changes, each with a position from which the shard can be read
on.
"""

import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal, cast

import fsspec

from affect.images import ImageError
from affect.inputs import PICTURE_SUFFIXES, InputPicture, files
from affect.local.video import SUFFIXES as VIDEO_SUFFIXES
from affect.local.video import VideoError, VideoPosition, probe, read_frames, read_webcam

Kind = Literal["pictures", "video", "tar", "parquet", "webcam"]
Position = dict[str, int]  # where to read on in a shard; {} is its beginning
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
TABLE_SUFFIXES = (".parquet", ".pq")
LIST_SUFFIXES = (".txt", ".lst")
SHARD_PICTURES = 256  # files of a folder that are one shard
COLUMNS = ("image", "content", "bytes", "jpg", "jpeg", "png", "webp")  # of Parquet, the first found
NAMES = ("name", "path", "file", "file_name", "filename", "__key__", "id", "url")
WEBCAM = re.compile(r"webcam(?::(\d+))?")


class SourceError(ValueError):
    """An input that cannot be used at all: reported before anything is read."""


@dataclass(frozen=True)
class Shard:
    """Part of what is scored. `paths` has one entry, but for pictures."""

    kind: Kind
    paths: tuple[str, ...]


def shards(inputs: Sequence[str]) -> Iterator[Shard]:
    """Everything that was named, in order. Nothing is opened but folders and lists."""
    waiting: list[str] = []  # pictures that will be one shard
    for kind, path in (pair for text in inputs for pair in _expanded(text)):
        if kind == "pictures":
            waiting.append(path)
        if waiting and (kind != "pictures" or len(waiting) == SHARD_PICTURES):
            yield Shard("pictures", tuple(waiting))
            waiting = []
        if kind != "pictures":
            yield Shard(kind, (path,))
    if waiting:
        yield Shard("pictures", tuple(waiting))


def _expanded(text: str) -> Iterator[tuple[Kind, str]]:
    if WEBCAM.fullmatch(text):
        yield "webcam", text
    elif text.lower().endswith(LIST_SUFFIXES):
        for line in _list(text):
            yield from _expanded(line)
    elif "://" in text:
        for path in _matching(text):
            yield _kind(path), path
    elif Path(text).is_dir():
        suffixes = PICTURE_SUFFIXES | VIDEO_SUFFIXES | {*TAR_SUFFIXES, ".gz", *TABLE_SUFFIXES}
        for file in files(Path(text), frozenset(suffixes)):
            if file.suffix != ".gz" or file.name.endswith(TAR_SUFFIXES):
                yield _kind(str(file)), str(file)
    elif not Path(text).exists() and not Path(text).is_symlink():
        raise SourceError(f"{text}: no such file; give pictures, folders, videos, tars or tables")
    else:
        yield _kind(text), text


def _matching(pattern: str) -> list[str]:
    """Addresses that a pattern on object storage stands for (s3://archive/faces-*.tar)."""
    if not set(pattern) & set("*["):
        return [pattern]
    try:
        storage, inside = fsspec.core.url_to_fs(pattern)
        matches = [storage.unstrip_protocol(path) for path in sorted(storage.glob(inside))]
    except (OSError, ImportError, ValueError) as error:
        raise SourceError(f"{pattern} cannot be listed: {error}") from error
    if not matches:
        raise SourceError(f"{pattern}: nothing there has such a name")
    return matches


def _kind(path: str) -> Kind:
    name = PurePosixPath(path.split("?")[0]).name.lower()
    if name.endswith(TAR_SUFFIXES):
        return "tar"
    if name.endswith(TABLE_SUFFIXES):
        return "parquet"
    streamed = path.startswith(("rtsp://", "rtmp://", "udp://"))
    return "video" if streamed or Path(name).suffix in VIDEO_SUFFIXES else "pictures"


def _list(path: str) -> list[str]:
    """Lines of a list; what they name is meant from the list's own folder, unless it is there from
    here.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read as a list of paths: {error}") from error
    entries = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    folder = Path(path).parent
    return [
        line
        if "://" in line or Path(line).exists() or not (folder / line).exists()
        else str(folder / line)
        for line in entries
    ]


def expected(shard: Shard, every: int) -> int | None:
    """The number of pictures of a shard, None when it is not known before reading."""
    if shard.kind == "pictures":
        return len(shard.paths)
    try:
        if shard.kind == "video":
            frames = probe(shard.paths[0]).frames
            return -(-frames // every) or None
        if shard.kind == "parquet":
            return int(_parquet(shard.paths[0]).metadata.num_rows)
    except (VideoError, ImageError):
        return 1  # its error
    return None


def pictures(
    shard: Shard, *, every: int = 1, position: Position | None = None
) -> Iterator[tuple[InputPicture, Position]]:
    """Pictures of a shard from a position on, each with the position behind it. A picture that
    cannot be read fails alone.
    """
    start = position or {}
    if "ended" in start:
        return
    try:
        if shard.kind == "video":
            yield from _video(shard.paths[0], every, start)
            return
        readers = {"pictures": _files, "tar": _tar, "parquet": _rows, "webcam": _webcam}
        done = start.get("done", 0)
        for number, picture in enumerate(islice(readers[shard.kind](shard), done, None), done + 1):
            yield picture, {"done": number}
    except ImageError as error:
        yield InputPicture(shard.paths[0], error), {"ended": 1}


def _files(shard: Shard) -> Iterator[InputPicture]:
    for path in shard.paths:
        yield InputPicture(path, _remote(path) if "://" in path else Path(path))


def _remote(path: str) -> bytes | ImageError:
    try:
        with _open(path) as file:
            return bytes(file.read())
    except ImageError as error:
        return error


def _video(path: str, every: int, start: Position) -> Iterator[tuple[InputPicture, Position]]:
    number = start.get("number", 0)
    start_place = VideoPosition(number, start["pts"]) if "pts" in start else None
    try:
        for frame in read_frames(path, every=every, after=start_place):
            number = frame.number + 1
            picture = InputPicture(path, frame.pixels, frame.number, frame.time_seconds)
            yield picture, {"number": number, "pts": frame.pts}
    except VideoError as error:
        frame_number = number if number else None
        yield InputPicture(path, error, frame_number), {"number": number, "ended": 1}


def _webcam(shard: Shard) -> Iterator[InputPicture]:
    match = WEBCAM.fullmatch(shard.paths[0])
    assert match is not None
    for frame in read_webcam(int(match[1] or 0)):
        yield InputPicture(shard.paths[0], frame.pixels, frame.number, frame.time_seconds)


def _tar(shard: Shard) -> Iterator[InputPicture]:
    """Members of a tar that are pictures, named SHARD/MEMBER; read as a stream, wherever it
    lies.
    """
    (path,) = shard.paths
    with _open(path) as file:
        try:
            with tarfile.open(fileobj=file, mode="r|*") as tar:
                for member in tar:
                    if member.isfile() and Path(member.name).suffix.lower() in PICTURE_SUFFIXES:
                        content = cast(IO[bytes], tar.extractfile(member)).read()
                        yield InputPicture(f"{path}/{member.name}", content)
        except (tarfile.TarError, EOFError, OSError) as error:
            raise ImageError(
                "truncated", "Broken tar", f"{path}: {error}; copy it again"
            ) from error


def _rows(shard: Shard) -> Iterator[InputPicture]:
    """Rows of a Parquet file with a column of encoded pictures, as they are or as Hugging Face has
    them ({bytes, path}).
    """
    (path,) = shard.paths
    table = _parquet(path)
    names = table.schema_arrow.names
    image = next((name for name in COLUMNS if name in names), None)
    if image is None:
        present, known = ", ".join(names), ", ".join(COLUMNS)
        detail = f"{path} has the columns {present}; name the pictures' column one of {known}"
        raise ImageError("not_an_image", "No pictures", detail)
    column = next((name for name in NAMES if name in names), None)
    number = 0
    for batch in table.iter_batches(batch_size=64, columns=[image] + ([column] if column else [])):
        for row in batch.to_pylist():
            yield _row(path, number, row[image], row.get(column) if column else None)
            number += 1


def _row(path: str, number: int, value: Any, name: Any) -> InputPicture:
    if isinstance(value, dict):
        name, value = name or value.get("path"), value.get("bytes")
    label = f"{path}/{number if name is None else name}"
    if not isinstance(value, bytes):
        return InputPicture(
            label, ImageError("not_an_image", "Not an image", f"{label} holds no bytes")
        )
    return InputPicture(label, value)


def _parquet(path: str) -> Any:
    import pyarrow
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(_open(path))
    except pyarrow.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise ImageError("unreadable", "Broken Parquet file", f"{path}: {reason}") from error


def _open(path: str) -> Any:
    """A file here or on object storage. Raises ImageError."""
    try:
        return fsspec.open(path, "rb").open()
    except (OSError, ImportError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError("unreadable", "Unreadable file", f"{path}: {reason}") from error
