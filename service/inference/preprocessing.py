"""Pictures to aligned crops: what is quick in a few threads, what decodes slowly in processes that
can be ended. The event loop stays free, and callers take turns.
"""

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec, Self, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from affect.allocator import keep_freed_memory
from affect.answers import RowProblem
from affect.faces import Face, FaceFinder, Faces, NoFaceError, crops
from affect.images import (
    LONGEST_PX,
    DecodedImage,
    Header,
    ImageError,
    checked_header,
    decode_header,
    decoding_bytes,
    decoding_seconds,
)
from service.inference.fair_slots import FairSlots
from service.inference.slow_decoding import SlowDecoder
from service.observability.metrics import Metrics
from service.problems import row_problem
from service.schemas import NotBase64
from service.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)
NICENESS = 5  # of the threads, beside the event loop
# What is estimated to decode for longer, or with more memory, goes to a process: photographs of
# telephones take a tenth.
SLOW_SECONDS, HEAVY_BYTES = 0.3, 64 * 2**20
NOT_BASE64 = "{!r} is no base64; send the bytes of the picture's file in base64"


@dataclass(frozen=True)
class Crop:
    """An aligned crop (S, S, 3) and the face it shows (none when the picture came aligned)."""

    pixels: NDArray[np.uint8]
    face: Face | None


class Preprocessor:
    """Decodes, finds and aligns: `with Preprocessor(...)` starts its threads. No picture is
    retained.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        threads: int,
        max_pixels: int,
        finder: FaceFinder,
        most_bytes: int = 512 * 2**20,
    ) -> None:
        cv2.setNumThreads(1)
        # numpy's products, too: threads that wait for each other spin on cores that others need
        threadpool_limits(1, user_api="blas")
        keep_freed_memory()
        self.metrics, self.max_pixels, self.finder = metrics, max_pixels, finder
        self.slow = SlowDecoder(max(1, threads // 2), most_bytes=most_bytes)
        self._pool = ThreadPoolExecutor(
            threads, thread_name_prefix="pictures", initializer=_lower_priority
        )
        self._slots = FairSlots(threads + 1)  # requests wait here, so that no thread does

    @classmethod
    def from_settings(cls, settings: Settings, metrics: Metrics) -> Self:
        """As the settings have it. Raises ValueError when their face finder cannot be read."""
        return cls(
            metrics,
            threads=settings.decode_threads,
            max_pixels=settings.max_pixels,
            finder=FaceFinder(yunet=settings.yunet),
            most_bytes=settings.decode_bytes,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.slow.close()

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Work on pictures in a thread: encoding many would block the event loop."""
        loop = asyncio.get_running_loop()
        async with self._slots.turn():
            return await loop.run_in_executor(self._pool, partial(work, *args, **kwargs))

    async def crops(
        self, images: Sequence[bytes], *, faces: Faces, size_px: int
    ) -> list[list[Crop] | RowProblem]:
        """For each picture its crops, or why it has none: a bad picture fails alone."""
        if len(images) == 1:  # most have one: nothing to gather
            return [await self._crops_of(images[0], faces, size_px)]
        work = [self._crops_of(image, faces, size_px) for image in images]
        return list(await asyncio.gather(*work))

    async def decoded(self, content: bytes) -> DecodedImage:
        """A picture at the size that verification needs. Raises ImageError."""
        if isinstance(content, NotBase64):
            raise ImageError("not_base64", "Not base64", NOT_BASE64.format(content.text))
        header = await self.run(checked_header, content, max_pixels=self.max_pixels)
        if _slow(header):
            return await self.slow.decode(header, longest_px=LONGEST_PX)
        return await self.run(decode_header, header, longest_px=LONGEST_PX)

    def problem(self, error: ImageError | NoFaceError) -> RowProblem:
        """Of one picture, counted."""
        self.metrics.rejected.labels(error.code).inc()
        return row_problem(error.code, error.title, error.detail)

    def unusable(self, error: Exception, size_bytes: int, reason: str) -> RowProblem:
        """The problem of a picture that raised an unexpected error: logged and counted."""
        log.error("a picture of %d bytes cannot be used: %s", size_bytes, reason, exc_info=error)
        self.metrics.rejected.labels("unusable").inc()
        detail = f"{reason} ({type(error).__name__}); send another picture"
        return row_problem("unusable", "Unusable image", detail)

    async def _crops_of(
        self, content: bytes, faces: Faces, size_px: int
    ) -> list[Crop] | RowProblem:
        """Whatever one picture raises is its own problem."""
        search = _Search(self.finder, faces, size_px)
        try:
            if isinstance(content, NotBase64):
                raise ImageError("not_base64", "Not base64", NOT_BASE64.format(content.text))
            face_crops = await self._ended_with(search, self._quick, content, search)
            if isinstance(face_crops, Header):
                with search.measured():
                    image = await self.slow.decode(face_crops, longest_px=LONGEST_PX)
                face_crops = await self._ended_with(search, search.crops, image)
            return face_crops
        except (ImageError, NoFaceError) as error:
            return self.problem(error)
        except Exception as error:  # of decoders and finders, whatever it is
            return self.unusable(error, len(content), "no face can be cut from it")
        finally:
            self.metrics.picture_seconds.observe(search.seconds)

    async def _ended_with(
        self, search: "_Search", work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run it; when the waiting task is cancelled, the search ends at its next step too."""
        try:
            return await self.run(work, *args, **kwargs)
        except asyncio.CancelledError:
            search.cancelled = True
            raise

    def _quick(self, content: bytes, search: "_Search") -> "list[Crop] | Header":
        """In a thread: the crops, or the header of what decodes too slowly for a thread."""
        with search.measured():
            header = checked_header(content, max_pixels=self.max_pixels)
            if _slow(header):
                return header
        return search.crops(header)


class _SearchEnded(Exception):
    """The search was cancelled."""


@dataclass
class _Search:
    """For the faces of one picture, and the seconds that went into it."""

    finder: FaceFinder
    faces: Faces
    size_px: int
    cancelled: bool = False
    seconds: float = 0.0

    def crops(self, image: Header | DecodedImage) -> list[Crop]:
        """In a thread. Raises ImageError and NoFaceError."""
        with self.measured():
            face_crops = crops(
                self.finder,
                image,
                faces=self.faces,
                size_px=self.size_px,
                checkpoint=self._checkpoint,
            )
            return [Crop(pixels, face) for face, pixels in face_crops]

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Time spent inside counts as part of the search."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - start

    def _checkpoint(self) -> None:
        if self.cancelled:
            raise _SearchEnded


def _slow(header: Header) -> bool:
    """Whether a thread would be held for too long, or hold too much."""
    heavy = decoding_bytes(header, LONGEST_PX) > HEAVY_BYTES
    return heavy or decoding_seconds(header) > SLOW_SECONDS


def _lower_priority() -> None:
    """On Linux a thread has a niceness of its own: the event loop, which refuses work when there is
    too much, computes first.
    """
    if sys.platform == "linux":
        niceness = os.getpriority(os.PRIO_PROCESS, 0) + NICENESS
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)
