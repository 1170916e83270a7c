"""A folder that all processes of a test run share (tests/support/once.py), and the order of files
among several processes.
"""

import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from tests.support.once import FOLDER

TESTS = Path(__file__).parent
# What takes longest comes first, so that no process is left alone with it at the end. The first two
# train what others need too (tests/support/trained.py, the judge), once a run: by the time that a
# second process asks for it, it is there.
FIRST = (
    "affect/counterfactual/test_explanation.py",
    "training/evaluation/report/test_evaluate.py",
    "training/gan/test_distributed.py",
    "service/backend/test_torchserve_process.py",
    "service/backend/test_runtimes.py",
    "service/backend/test_watchdog.py",
    "test_end_to_end.py",
    "service/cli/test_demo.py",
    "service/cli/test_swap.py",
    "service/backend/test_torchserve_client.py",
    "service/observability/test_traces_end_to_end.py",
    "service/backend/test_preflight.py",
)


# A gateway gives up what takes 30 s, which a first answer on a crowded machine may. Tests of
# deadlines ask for theirs.
os.environ["AFFECTGAN_DEADLINE_SECONDS"] = "120"


def pytest_configure(config: pytest.Config) -> None:
    if FOLDER not in os.environ:  # the first process; those that it starts inherit it
        os.environ[FOLDER] = tempfile.mkdtemp(prefix="affectgan-tests-")
        config.add_cleanup(lambda: shutil.rmtree(os.environ.pop(FOLDER)))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """FIRST, then files by their number of tests, the most first."""
    if not hasattr(config, "workerinput"):  # one process alone: as they are named
        return
    rank = {TESTS / name: place for place, name in enumerate(FIRST)}
    if gone := [str(path) for path in rank if not path.is_file()]:
        raise pytest.UsageError(f"FIRST in {__file__} names files that are not there: {gone}")
    count = Counter(item.path for item in items)
    items.sort(key=lambda item: (rank.get(item.path, len(rank)), -count[item.path], item.path))
