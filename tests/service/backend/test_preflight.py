"""What would keep TorchServe from serving is said before it is started, in one sentence."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

from affect.archive import archive_of
from affect.cli import command
from service.backend.preflight import MANIFEST, check_archive, check_folder, check_space
from service.backend.torchserve_config import TorchServeError, config
from tests.support.archives import copied

pytestmark = pytest.mark.processes


@pytest.fixture
def archive(models: Path, tmp_path: Path) -> Path:
    return archive_of(copied(models, tmp_path), "explain")


def test_a_whole_archive_says_what_it_takes_unpacked(archive: Path) -> None:
    assert check_archive(archive) > archive.stat().st_size / 2


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_archive_is_named(archive: Path, share: float) -> None:
    archive.write_bytes(archive.read_bytes()[: int(share * archive.stat().st_size)])
    with pytest.raises(TorchServeError, match=rf"{archive.name} .*(damaged|no model archive)"):
        check_archive(archive)


def test_a_flipped_byte_in_an_archive_is_noticed_or_changes_nothing(archive: Path) -> None:
    with ZipFile(archive) as opened:
        contents = {name: opened.read(name) for name in opened.namelist()}
    whole, rng, noticed = archive.read_bytes(), np.random.default_rng(0), 0
    for _ in range(40):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        archive.write_bytes(damaged)
        try:
            check_archive(archive)
        except TorchServeError:
            noticed += 1
        else:
            with ZipFile(archive) as opened:
                assert [opened.read(name) for name in opened.namelist()] == [*contents.values()]
    assert noticed > 20


@pytest.mark.parametrize(
    ("manifest", "gone", "why"),
    [
        (b"[1]", "", "describes no model"),
        (b'{"model": 3}', "", "describes no model"),
        (b'{"model": {"modelName": "affectgan-predict"}}', "", "archive of 'affectgan-predict'"),
        (None, "explain.py", "lacks its handler, 'explain.py'"),
        (None, "weights.safetensors", "lacks its serializedFile"),
    ],
)
def test_an_archive_that_is_no_model_of_ours_says_why(
    archive: Path, manifest: bytes | None, gone: str, why: str
) -> None:
    with ZipFile(archive) as opened:
        contents = {name: opened.read(name) for name in opened.namelist() if name != gone}
    with ZipFile(archive, "w") as written:
        for name, content in contents.items():
            written.writestr(name, manifest if manifest and name == MANIFEST else content)
    with pytest.raises(TorchServeError, match=f"{archive.name} .*{why}"):
        check_archive(archive)


def test_a_folder_without_room_for_the_archives_says_how_much_they_take(tmp_path: Path) -> None:
    with pytest.raises(TorchServeError, match=r"MiB free, and the archives take 1099511627776 MiB"):
        check_space(tmp_path, 1 << 60)


@pytest.fixture
def mount() -> Iterator[Callable[[str], Path]]:
    """Mounts a small file system with these options; only root may."""
    # however long TMPDIR is: a path too long for sockets would be said first
    with tempfile.TemporaryDirectory(prefix="ag-", dir="/tmp") as folder:

        def mounted(options: str) -> Path:
            arguments = ["mount", "-t", "tmpfs", "-o", options, "none", folder]
            if subprocess.run(arguments, capture_output=True, check=False).returncode:
                pytest.skip("mounting is not allowed here")
            return Path(folder)

        yield mounted
        subprocess.run(["umount", folder], capture_output=True, check=False)


def test_a_small_folder_for_temporary_files_is_named(
    mount: Callable[[str], Path], archive: Path
) -> None:
    with pytest.raises(TorchServeError, match="11 MiB free"):
        check_folder(mount("size=11m"), [archive])


def test_a_folder_from_which_no_program_may_run_is_named(mount: Callable[[str], Path]) -> None:
    with pytest.raises(TorchServeError, match="noexec"):
        check_folder(mount("noexec"), [])


def test_a_name_that_is_no_utf8_is_named(tmp_path: Path) -> None:
    with pytest.raises(TorchServeError, match="UTF-8"):
        check_folder(tmp_path, [Path(os.fsdecode(b"m\xf3delos"))])


def test_properties_are_written_as_java_reads_them(tmp_path: Path) -> None:
    text = config(tmp_path, Path("/m\u00f3delos/a\\b/\U0001f600"))
    assert r"model_store=/m\u00f3delos/a\\b/\ud83d\ude00" in text and text.isascii()


SERVE = """
import asyncio, sys
from pathlib import Path
from service.backend.torchserve_process import TorchServeProcess

async def main():
    models = Path(sys.argv[1])
    async with TorchServeProcess(models, start_seconds=240, operations=["predict"]) as server:
        print("ready", flush=True)

asyncio.run(main())
"""


def test_odd_names_a_plain_locale_and_what_lies_in_the_working_folder_are_no_hindrance(
    models: Path, tmp_path: Path
) -> None:
    odd, here = tmp_path / "m\u00f3delos (1)", tmp_path / "here"
    odd.mkdir()
    scratch = Path("/tmp") / f"\u00fc{os.getpid()}"
    for folder in (here, here / "training", scratch):
        folder.mkdir()
    for name in ("random.py", "queue.py", "training/__init__.py", "affect.py"):
        (here / name).write_text("raise SystemExit('what lay in the working folder was run')")
    environment = os.environ | {"LC_ALL": "C", "TMPDIR": str(scratch)}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", SERVE, str(copied(models, odd))],
            cwd=here,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        scratch.rmdir()
    assert done.stdout == "ready\n", done.stderr


def test_commands_that_we_start_do_not_see_the_working_folder(tmp_path: Path) -> None:
    for name in ("random.py", "click.py", "affect.py"):
        (tmp_path / name).write_text("raise SystemExit('what lay in the working folder was run')")
    done = subprocess.run(command(["--version"]), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "affectgan" in done.stdout
