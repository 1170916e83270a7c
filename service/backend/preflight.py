"""Checks before TorchServe is started: it reports such faults late or never."""

import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from service.backend.torchserve_config import TorchServeError

LONGEST_SOCKET_PATH = 80  # bytes; a Unix socket's path has at most 107, and workers add their names
SPARE_BYTES = 16 << 20  # beside the unpacked archives: native libraries, logs
MANIFEST = "MAR-INF/MANIFEST.json"
NAMED_FILES = ("handler", "serializedFile", "configFile")  # in the manifest
DAMAGES = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


def check_archive(archive: Path) -> int:
    """Read an archive to its end; the bytes that it takes unpacked. Raises TorchServeError."""
    try:
        with zipfile.ZipFile(archive) as zip_file:
            broken = zip_file.testzip()
            if broken is not None:
                raise zipfile.BadZipFile(f"its member {broken} is damaged")
            manifest = json.loads(zip_file.read(MANIFEST))
            _check_manifest(manifest, archive.stem, frozenset(zip_file.namelist()))
            return sum(member.file_size for member in zip_file.infolist())
    except OSError as error:
        raise TorchServeError(f"{archive} cannot be read: {error.strerror or error}") from error
    except KeyError as error:
        raise TorchServeError(f"{archive} is no model archive: it has no {MANIFEST}") from error
    except DAMAGES as error:
        raise TorchServeError(
            f"{archive} is damaged ({error}): write it again with `affectgan archive`"
        ) from error


def _check_manifest(manifest: Any, name: str, members: frozenset[str]) -> None:
    """TorchServe leaves out an archive whose manifest it cannot use, and waits. Raises
    ValueError.
    """
    model = manifest.get("model") if isinstance(manifest, dict) else None
    if not isinstance(model, dict):
        raise ValueError(f"{MANIFEST} describes no model")
    if model.get("modelName") != name:
        raise ValueError(f"it is the archive of {model.get('modelName')!r}")
    for part in NAMED_FILES:
        if model.get(part) not in members:
            raise ValueError(f"it lacks its {part}, {model.get(part)!r}")


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
