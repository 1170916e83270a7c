"""Settings of glibc's allocator for memory that was freed."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
MAPPED_BYTES = 32 * 2**20  # the most that glibc takes
KEPT_BYTES = 64 * 2**20  # of each arena


def keep_freed_memory() -> None:
    """Let this process keep freed memory for the next picture, up to KEPT_BYTES an arena.

    By default glibc maps a block for every larger array and unmaps it after use; the kernel then
    zeroes the same pages again and again, which took half the time of decoding a photograph. Meant
    for serving processes; without glibc this does nothing.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
