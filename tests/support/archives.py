"""Archives of the tiny model, as TorchServe serves them."""

from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from zipfile import ZipFile

from tests.support.tiny import tiny_run
from training.archive import write_archives


def tiny_archives(folder: Path, *, version: str = "1.0") -> Path:
    """A folder with the three archives of the tiny model and its card."""
    write_archives(tiny_run(folder / "run"), folder / version, version=version)
    return folder / version


def altered_archive(archive: Path, member: str, change: Callable[[bytes], bytes]) -> None:
    """Rewrite one file in an archive."""
    with ZipFile(archive) as original:
        contents = {name: original.read(name) for name in original.namelist()}
    contents[member] = change(contents[member])
    with ZipFile(archive, "w") as changed:
        for name, content in contents.items():
            changed.writestr(name, content)


def copied(models: Path, folder: Path) -> Path:
    """A copy to alter."""
    return Path(copytree(models, folder / "copy"))
