"""The threads that decode: they let the event loop compute first."""

import os
import sys
import threading

import pytest

from affect.faces import FaceFinder
from service.inference.preprocessing import NICENESS, Preprocessor
from service.observability.metrics import Metrics


@pytest.mark.skipif(
    sys.platform != "linux", reason="threads have a niceness of their own on Linux only"
)
async def test_decoding_threads_stand_back_behind_the_event_loop() -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    finder = FaceFinder()
    with Preprocessor(Metrics(), threads=1, max_pixels=10**6, finder=finder) as preprocessor:
        assert await preprocessor.run(niceness) == niceness() + NICENESS
