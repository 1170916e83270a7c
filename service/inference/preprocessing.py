"""Pictures to aligned crops, in a few threads: decoding and finding release the interpreter's lock,
the event loop goes on.
"""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec, Self, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from affect.answers import RowProblem
from affect.faces import Face, FaceFinder, Faces, NoFaceError, crops
from affect.images import LONGEST_PX, ImageError, checked_header, decode_header
from service.observability.metrics import Metrics
from service.problems import row_problem
from service.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")

NICENESS = 5  # of the threads, beside the event loop


@dataclass(frozen=True)
class Crop:
    """An aligned crop (S, S, 3) and the face it shows (none when the picture came aligned)."""

    pixels: NDArray[np.uint8]
    face: Face | None


class Preprocessor:
    """Decodes, finds and aligns: `with Preprocessor(...)` has its threads. Nothing is kept."""

    def __init__(
        self, metrics: Metrics, *, threads: int, max_pixels: int, finder: FaceFinder
    ) -> None:
        cv2.setNumThreads(1)
        self.metrics, self.max_pixels, self.finder = metrics, max_pixels, finder
        self._pool = ThreadPoolExecutor(
            threads, thread_name_prefix="pictures", initializer=_lower_priority
        )

    @classmethod
    def from_settings(cls, settings: Settings, metrics: Metrics) -> Self:
        """As the settings have it. Raises ValueError when their face finder cannot be read."""
        return cls(
            metrics,
            threads=settings.decode_threads,
            max_pixels=settings.max_pixels,
            finder=FaceFinder(yunet=settings.yunet),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Work on pictures in a thread: encoding many would hold up everybody else on the event
        loop.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, partial(work, *args, **kwargs))

    async def crops(
        self, images: Sequence[bytes], *, faces: Faces, size_px: int
    ) -> list[list[Crop] | RowProblem]:
        """For each picture its crops, or why it has none: a bad picture fails alone."""
        loop = asyncio.get_running_loop()
        work = [
            loop.run_in_executor(self._pool, self._crops_of_one, image, faces, size_px)
            for image in images
        ]
        if len(work) == 1:  # most have one: nothing to gather
            return [await work[0]]
        return list(await asyncio.gather(*work))

    def _crops_of_one(self, content: bytes, faces: Faces, size_px: int) -> list[Crop] | RowProblem:
        start = time.perf_counter()
        try:
            header = checked_header(content, max_pixels=self.max_pixels)
            image = decode_header(header, longest_px=LONGEST_PX)
            pairs = crops(self.finder, image, faces=faces, size_px=size_px)
            return [Crop(pixels, face) for face, pixels in pairs]
        except (ImageError, NoFaceError) as error:
            self.metrics.rejected.labels(error.code).inc()
            return row_problem(error.code, error.title, error.detail)
        finally:
            self.metrics.picture_seconds.observe(time.perf_counter() - start)


def _lower_priority() -> None:
    """On Linux a thread has a niceness of its own: the event loop, which refuses work when there is
    too much, computes first.
    """
    if sys.platform == "linux":
        niceness = os.getpriority(os.PRIO_PROCESS, 0) + NICENESS
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)
