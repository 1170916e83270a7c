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
    "service/page/test_accessibility.py",
    "training/gan/test_kill.py",
    "training/gan/test_distributed.py",
    "test_end_to_end.py",
    "service/backend/test_runtimes.py",
    "service/backend/test_torchserve_process.py",
    "training/evaluation/explanation/test_domains.py",
    "training/evaluation/explanation/test_explanations.py",
    "service/cli/test_demo.py",
    "service/backend/test_watchdog.py",
    "service/backend/test_torchserve_client.py",
    "service/cli/test_swap.py",
    "service/backend/test_preflight.py",
    "service/observability/test_traces_end_to_end.py",
    "training/evaluation/bias/test_audit.py",
    "training/evaluation/bias/test_decision_flips.py",
    "training/database/test_database.py",
    "service/inference/test_preprocessing.py",
    "service/api/test_schemathesis.py",
    "service/api/test_generated_clients.py",
    "service/cli/test_convergence.py",
    "service/test_processes.py",
    "docs/test_book.py",
    "docs/test_notebooks.py",
    "test_custom_resources.py",
    "fuzz/test_fuzz.py",
    "scoring/test_run.py",
    "scoring/test_bad_input.py",
    "scoring/test_options.py",
    "scoring/test_live.py",
)
# What waits most of its time, for retries, leases and heartbeats. One of these is handed out after
# every two of FIRST: together at the end they left both cores idle.
WAITING = (
    "service/jobs/test_lying_redis.py",
    "service/jobs/test_jobs.py",
    "service/jobs/test_webhooks.py",
    "service/api/test_idempotency.py",
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
    """FIRST and WAITING, then files by their number of tests, the most first."""
    if not hasattr(config, "workerinput"):  # one process alone: as they are named
        return
    rank = {TESTS / name: 2 * place for place, name in enumerate(FIRST)}
    rank |= {TESTS / name: 4 * place + 3 for place, name in enumerate(WAITING)}
    if gone := [str(path) for path in rank if not path.is_file()]:
        raise pytest.UsageError(f"{__file__} names files that are not there: {gone}")
    count, rest = Counter(item.path for item in items), 1 + max(rank.values())
    items.sort(key=lambda item: (rank.get(item.path, rest), -count[item.path], item.path))
