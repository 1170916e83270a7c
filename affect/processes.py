"""How processes that compute are started."""

import sys
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext, SpawnContext


def preloaded_context(modules: Sequence[str]) -> SpawnContext | ForkServerContext:
    """On Linux processes are forked off one that has imported `modules`, which take seconds; it
    ends with the process that asked for it. Elsewhere each starts afresh.
    """
    if sys.platform != "linux":
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(list(modules))
    return context
