"""Settings of a compute process: it has a lower priority than the gateway and ends with it. Imports
nothing of this project: the code of an archive brings its own `affect`.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

# Beside the gateway's event loop: a third of its weight where they compete.
NICENESS = 5
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def configure_child() -> None:
    """In the child: ask Linux to kill it when its parent dies, even by SIGKILL, and before its
    parent when memory runs out; and to let the parent compute first, so that a refusal is sent at
    once while workers keep every core busy.

    What it starts itself inherits the rest.
    """
    os.nice(NICENESS)
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        Path("/proc/self/oom_score_adj").write_text("500")
