"""Pictures that take long to decode, in processes of their own: a thread cannot be ended, they can.

The first such picture starts them. One that takes too long, or whose client goes, ends its process;
so does every hundredth, and with it what decoders keep of memory.
"""

import asyncio
import os
from concurrent.futures import Future, TimeoutError
from multiprocessing import get_context

from pebble import ProcessExpired, ProcessPool

from affect.images import DecodedImage, Header, ImageError, decode_header
from service.inference.fair_slots import FairSlots

NICENESS = 5  # beside the event loop
LIMIT_SECONDS = 15.0  # what is allowed takes two or three
MOST_PICTURES = 100  # of a process


class SlowDecoder:
    """`with SlowDecoder(processes) as decoder:` ends them."""

    def __init__(self, processes: int, *, limit_seconds: float = LIMIT_SECONDS) -> None:
        self.processes, self.limit_seconds = processes, limit_seconds
        self._slots = FairSlots(processes)
        self._pool: ProcessPool | None = None

    def close(self) -> None:
        """End the processes, whatever they do."""
        if self._pool is not None:
            self._pool.stop()  # type: ignore[no-untyped-call]
            self._pool.join()

    async def decode(self, header: Header, *, longest_px: int) -> DecodedImage:
        """As `decode_header` does. Raises ImageError, also for what takes too long or too much."""
        async with self._slots.turn():
            if self._pool is None:
                self._pool = ProcessPool(
                    self.processes, MOST_PICTURES, _step_back, context=get_context("spawn")
                )
            kwargs = {"longest_px": longest_px}
            limit = self.limit_seconds
            future: Future[DecodedImage] = self._pool.schedule(
                decode_header, [header], kwargs, timeout=limit
            )
            try:
                return await asyncio.wrap_future(future)
            except (TimeoutError, ProcessExpired) as error:
                raise ImageError(
                    "too_complex",
                    "Image too complex",
                    f"{header.width} x {header.height} px took longer than {limit:g} s to decode, "
                    "or too much memory; send a smaller or simpler picture",
                ) from error


def _step_back() -> None:
    os.nice(NICENESS)
