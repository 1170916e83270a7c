"""What the command line says when it cannot do what it was asked: one sentence, no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import command, run

pytestmark = pytest.mark.processes

HIDDEN = """
import sys
from importlib.abc import MetaPathFinder

class Hidden(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "NAME":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
from affect.cli import main
sys.argv[0] = "affectgan"
main()
"""


def without(package: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The command in a Python that lacks a package."""
    program = [sys.executable, "-c", HIDDEN.replace("NAME", package), *arguments]
    return subprocess.run(program, capture_output=True, text=True, cwd=folder)


@pytest.mark.parametrize(
    ("package", "arguments"),
    [
        ("torch", ("train", "--data", "x", "--out", "y")),
        ("torch", ("runs", "y")),
        ("torch", ("evaluate", "y", "--data", "x")),
        ("PIL", ("data", "render", "--out", "x", "--images", "1")),
        ("torch", ("archive", "y", "--out", "x")),
    ],
)
def test_a_base_install_says_which_extra_a_command_needs(
    package: str, arguments: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "y").mkdir()
    done = without(package, *arguments, folder=tmp_path)
    assert done.returncode != 0 and "Traceback" not in done.stderr, done.stderr
    assert f"{arguments[0]} needs the package {package}" in done.stderr, done.stderr
    assert "pip install 'affectgan[training]'" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("data", "describe", "FILE"),
        ("data", "import", "csv", "FILE/no", "--out", "FILE/out"),
        ("data", "render", "--out", "FILE/out", "--count", "1"),
        ("archive", "FILE", "--out", "FILE/models"),
        ("evaluate", "FILE", "--data", "FILE"),
        ("train", "--data", "FILE", "--out", "FILE/run"),
        ("keys", "new", "clinic", "--file", "FILE/keys.yaml"),
        ("keys", "new", "clinic", "--file", "/proc/keys.yaml"),
    ],
)
def test_what_the_system_refuses_is_one_sentence(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    file = tmp_path / "a-file"
    file.write_text("no folder")
    done = run(*(word.replace("FILE", str(file)) for word in arguments))
    assert done.returncode != 0 and "Traceback" not in done.stderr, done.stderr
    assert "Error" in done.stderr


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command("--help"), stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert done.returncode == 1 and done.stderr == ""
