"""Time in tests: a clock that a test turns, and waiting for what happens in another thread or
process.
"""

import time
from collections.abc import Callable

# Of starts, stops and everything waited for, on a machine however busy: reached only by what hangs.
LIMIT_SECONDS = 240.0


class Clock:
    """Seconds that a test lets pass."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def until(holds: Callable[[], object], seconds: float = LIMIT_SECONDS) -> None:
    """Returns as soon as `holds()` is true; fails when it is not within `seconds`."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.02)
