"""What would keep TorchServe from serving, found before it is started: it says so late or never."""

import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from service.backend.torchserve_config import TorchServeError

LONGEST_SOCKET_PATH = 80  # bytes; a Unix socket's path has at most 107, and workers add their names
SPARE_BYTES = 16 << 20  # beside the unpacked archives: native libraries, logs
MANIFEST = "MAR-INF/MANIFEST.json"
DAMAGES = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


def check_archive(archive: Path) -> int:
    """Read an archive to its end; the bytes that it takes unpacked. Raises TorchServeError."""
    try:
        with zipfile.ZipFile(archive) as opened:
            broken = opened.testzip()
            if broken is not None:
                raise zipfile.BadZipFile(f"its member {broken} is damaged")
            json.loads(opened.read(MANIFEST))
            return sum(member.file_size for member in opened.infolist())
    except OSError as error:
        raise TorchServeError(f"{archive} cannot be read: {error.strerror or error}") from error
    except KeyError as error:
        raise TorchServeError(f"{archive} is no model archive: it has no {MANIFEST}") from error
    except DAMAGES as error:
        raise TorchServeError(
            f"{archive} is damaged ({error}): write it again with `affectgan archive`"
        ) from error


def check_folder(folder: Path, archives: Sequence[Path]) -> None:
    """Whether TorchServe can work in a folder of ours in TMPDIR. Raises TorchServeError."""
    for path in (folder, *archives):
        try:
            str(path).encode()
        except UnicodeEncodeError as error:
            raise TorchServeError(
                f"{str(path)!r} is no name in UTF-8, which Java wants: rename it"
            ) from error
    if len(os.fsencode(folder)) > LONGEST_SOCKET_PATH:
        raise TorchServeError(
            f"{folder} is too long for a Unix socket: set TMPDIR to a shorter path"
        )
    if os.statvfs(folder).f_flag & os.ST_NOEXEC:
        raise TorchServeError(
            f"{folder} is mounted noexec, and TorchServe loads libraries from there: "
            "set TMPDIR to a folder from which programs may run"
        )
    check_space(folder, sum(check_archive(archive) for archive in archives) + SPARE_BYTES)


def check_space(folder: Path, needed: int) -> None:
    """Whether so many bytes fit into a folder. Raises TorchServeError."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise TorchServeError(
            f"{folder} has {free >> 20} MiB free, and the archives take {needed >> 20} MiB "
            "unpacked: free some space there, or set TMPDIR to another folder"
        )
