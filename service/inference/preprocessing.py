"""Pictures to aligned crops, in a few threads: decoding and finding release the interpreter's lock,
the event loop goes on.
"""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from affect.answers import RowProblem
from affect.faces import Face, FaceFinder, Faces, NoFaceError, crops
from affect.images import ImageError, checked_header, decode_header
from service.observability.metrics import Metrics

P = ParamSpec("P")
T = TypeVar("T")
NICENESS = 5  # of the threads, beside the event loop
LONGEST_PX = (
    1600  # large photographs are decoded no larger than needed to find faces and cut crops from
)


@dataclass(frozen=True)
class Crop:
    """An aligned crop (S, S, 3) and the face it shows (none when the picture came aligned)."""

    pixels: NDArray[np.uint8]
    face: Face | None


class Preprocessor:
    """Decodes, finds and aligns. Nothing is kept."""

    def __init__(
        self, metrics: Metrics, *, threads: int, max_pixels: int, finder: FaceFinder
    ) -> None:
        cv2.setNumThreads(1)
        self.metrics, self.max_pixels, self.finder = metrics, max_pixels, finder
        self._pool = ThreadPoolExecutor(
            threads, thread_name_prefix="pictures", initializer=_stand_back
        )

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Work on pictures in a thread: encoding many of them would hold up everybody else on the
        event loop.
        """
        return await asyncio.get_running_loop().run_in_executor(
            self._pool, partial(work, *args, **kwargs)
        )

    async def crops(
        self, contents: list[bytes], *, faces: Faces, size_px: int
    ) -> list[list[Crop] | RowProblem]:
        """For each picture its crops, or why it has none: a bad picture fails alone."""
        loop = asyncio.get_running_loop()
        found = [
            loop.run_in_executor(self._pool, self._one, content, faces, size_px)
            for content in contents
        ]
        return (
            [await found[0]] if len(found) == 1 else list(await asyncio.gather(*found))
        )  # most have one: nothing to gather

    def _one(self, content: bytes, faces: Faces, size_px: int) -> list[Crop] | RowProblem:
        start = time.perf_counter()
        try:
            image = decode_header(
                checked_header(content, max_pixels=self.max_pixels), longest_px=LONGEST_PX
            )
            return [
                Crop(pixels, face)
                for face, pixels in crops(self.finder, image, faces=faces, size_px=size_px)
            ]
        except (ImageError, NoFaceError) as error:
            self.metrics.rejected.labels(error.code).inc()
            status = (
                415
                if error.code in ("unsupported_type", "not_an_image")
                else 413
                if error.code in ("too_many_pixels", "too_complex")
                else 422
            )
            return row_problem(error.code, error.title, error.detail, status)
        finally:
            self.metrics.picture_seconds.observe(time.perf_counter() - start)


def _stand_back() -> None:
    """On Linux a thread has a niceness of its own: the event loop, which tells others that the
    house is full, computes first.
    """
    if sys.platform == "linux":
        os.setpriority(
            os.PRIO_PROCESS,
            threading.get_native_id(),
            os.getpriority(os.PRIO_PROCESS, 0) + NICENESS,
        )


def row_problem(code: str, title: str, detail: str, status: int = 422) -> RowProblem:
    """An error of one row."""
    return RowProblem(
        type=f"urn:affectgan:problem:{code}", title=title, status=status, detail=detail, code=code
    )
