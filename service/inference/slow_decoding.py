"""Pictures that take long to decode, in processes of their own: unlike threads, they can be killed.

The first such picture starts them. One that takes too long, or whose client goes, ends its process;
so does every hundredth, which frees the memory that decoders retain. Their total memory is bounded:
a picture waits until there is room for it, and one larger than the bound is refused.
"""

import asyncio
import logging
import os
from concurrent.futures import Future, TimeoutError
from multiprocessing import get_context

from pebble import ProcessExpired, ProcessPool

from affect.images import DecodedImage, Header, ImageError, decode_header, decoding_bytes
from service.inference.fair_slots import FairSlots

NICENESS = 5  # beside the event loop
LIMIT_SECONDS = 15.0  # pictures within the limits take two or three
MOST_PICTURES = 100  # of a process
ATTEMPTS = 3  # of a picture, when the pool breaks because of others
log = logging.getLogger(__name__)


class SlowDecoder:
    """So many processes, whose pictures take at most so much memory together. `close` ends them."""

    def __init__(
        self, processes: int, *, most_bytes: int, limit_seconds: float = LIMIT_SECONDS
    ) -> None:
        self.processes, self.most_bytes, self.limit_seconds = processes, most_bytes, limit_seconds
        self._slots, self._memory = FairSlots(processes), FairSlots(most_bytes)
        self._pool: ProcessPool | None = None

    def close(self) -> None:
        """End the processes, whatever they do."""
        if self._pool is not None:
            _end(self._pool)

    async def decode(self, header: Header, *, longest_px: int) -> DecodedImage:
        """As `decode_header` does. Raises ImageError, also for what takes too long or too much."""
        size = decoding_bytes(header, longest_px)
        if size > self.most_bytes:
            raise self._too_much(header, size)
        async with self._slots.turn(), self._memory.turn(size):
            for _ in range(ATTEMPTS):
                pool = self._working_pool()
                try:
                    return await self._decode_in(pool, header, longest_px)
                except (TimeoutError, ProcessExpired) as error:
                    raise self._too_complex(header) from error
                except RuntimeError as error:  # BrokenProcessPool is one
                    log.warning("decoding starts afresh, a process of it was lost: %s", error)
                    await self._replace(pool)
            raise self._too_complex(header)

    async def _decode_in(self, pool: ProcessPool, header: Header, longest_px: int) -> DecodedImage:
        kwargs, limit = {"longest_px": longest_px}, self.limit_seconds
        future: Future[DecodedImage] = pool.schedule(decode_header, [header], kwargs, timeout=limit)
        return await asyncio.wrap_future(future)

    def _working_pool(self) -> ProcessPool:
        if self._pool is None:
            context = get_context("spawn")
            self._pool = ProcessPool(self.processes, MOST_PICTURES, _step_back, context=context)
        return self._pool

    async def _replace(self, pool: ProcessPool) -> None:
        """A pool is permanently broken when an idle process ends, or one that is just answering.
        The first caller that notices replaces it.
        """
        if self._pool is pool:
            self._pool = None
            await asyncio.to_thread(_end, pool)

    def _too_complex(self, header: Header) -> ImageError:
        return ImageError(
            "too_complex",
            "Image too complex",
            f"{header.width} x {header.height} px took longer than {self.limit_seconds:g} s to "
            "decode, or too much memory; send a smaller or simpler picture",
        )

    def _too_much(self, header: Header, size: int) -> ImageError:
        return ImageError(
            "too_complex",
            "Image too complex",
            f"{header.width} x {header.height} px take {size / 1e6:,.0f} MB to decode as they are "
            f"stored, more than the {self.most_bytes / 1e6:,.0f} MB that there are for it; save "
            "the picture smaller, and neither progressive nor interlaced",
        )


def _end(pool: ProcessPool) -> None:
    pool.stop()  # type: ignore[no-untyped-call]
    pool.join()


def _step_back() -> None:
    os.nice(NICENESS)
