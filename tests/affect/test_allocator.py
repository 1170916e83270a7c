"""Freed memory stays with the process."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import numpy as np
from affect.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for turn in range(41):
    held = [np.ones(2**20, np.uint8) for _ in range(8)]
    if turn == 0:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    del held
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 40)
"""


def faults(how: str) -> float:
    """Page faults each time that 8 MiB are allocated, written and freed."""
    out = subprocess.check_output([sys.executable, "-c", PROGRAM, how], text=True)
    return float(out)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_memory_that_is_kept_is_not_mapped_again() -> None:
    assert faults("keep") < 0.1 * faults("leave")
