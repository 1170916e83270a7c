"""What takes seconds of a processor is made once a test run, not once in each of its processes."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

FOLDER = "TESTS_SHARED_FOLDER"  # variable; tests/conftest.py sets it and removes the folder


def made_once(name: str, make: Callable[[Path], object]) -> Path:
    """The folder of this name, which the first process that asks for it makes. Read it only."""
    folder = Path(os.environ[FOLDER]) / name
    done = folder.with_suffix(".done")
    with FileLock(folder.with_suffix(".lock")):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that failed
            folder.mkdir()
            make(folder)
            done.touch()
    return folder
