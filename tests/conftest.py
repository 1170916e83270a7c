"""A folder that all processes of a test run share (tests/support/once.py)."""

import os
import shutil
import tempfile

import pytest

from tests.support.once import FOLDER


def pytest_configure(config: pytest.Config) -> None:
    if FOLDER not in os.environ:  # the first process; those that it starts inherit it
        os.environ[FOLDER] = tempfile.mkdtemp(prefix="affectgan-tests-")
        config.add_cleanup(lambda: shutil.rmtree(os.environ.pop(FOLDER)))
