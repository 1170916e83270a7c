"""SHA-256 sums of a shard's two files, beside them in the format of `sha256sum`.

A flipped byte of an index can change labels without making it unreadable, so an index is compared
with its sum before it is used. Pictures are compared with the index, one by one as they are read;
`sha256sum --check shard-*.sha256` compares whole shards.
"""

import hashlib
from pathlib import Path

from training.database.card import DataError

SUFFIX = ".sha256"


def write_sums(path: Path, files: dict[str, Path]) -> None:
    """Write the sums of `files` (name in the folder: where its content lies now) to `path`."""
    lines = [f"{_sum(file)}  {name}\n" for name, file in files.items()]
    fresh = path.with_suffix(".sums")
    fresh.write_text("".join(lines))
    fresh.replace(path)


def check_sum(file: Path) -> None:
    """Compare a file with its sum, if it has one: databases of earlier versions have none.

    Raises DataError when they differ.
    """
    sums = file.with_suffix(SUFFIX)
    if not sums.is_file():
        return
    lines = [line.split() for line in sums.read_text(errors="replace").splitlines()]
    if [_sum(file), file.name] not in lines:
        raise DataError(
            f"{file} is damaged: it differs from its sum in {sums.name}; delete the files of that "
            "shard and make it again"
        )


def picture_sum(content: bytes) -> int:
    """The first eight bytes of a picture's SHA-256, as the index has them."""
    return int.from_bytes(hashlib.sha256(content).digest()[:8])


def _sum(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
