"""Chunks to readings in processes of this machine: in order, a bounded number in flight; a process
that dies is replaced.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import wait

from affect.allocator import keep_freed_memory
from affect.faces import Faces
from affect.images import ImageError
from affect.local.reading import LocalReading, failed
from affect.processes import preloaded_context
from scoring.chunks import Chunk

AHEAD = 2  # chunks a process has waiting: decoding goes on while it reads
MAX_ATTEMPTS = 3  # of a chunk whose process dies; then each of its pictures is tried alone
DIED = ImageError("worker_died", "Process died", "three processes that read this picture died")
IMPORTED_ONCE = ["torch", "affect.local.reader"]  # seconds of a processor, for all processes
Readings = list[list[LocalReading]]  # of each picture of a chunk its entries


@dataclass(frozen=True)
class ReadOptions:
    """How pictures are read. Pickled into every process and every actor."""

    model: str
    device: str
    faces: Faces
    identity: bool  # for tracking
    crops: bool  # for contact sheets


class ChunkReader:
    """The model of one process."""

    def __init__(self, options: ReadOptions) -> None:
        # Imported here: the process that only hands out chunks needs no torch.
        import cv2
        import torch

        from affect.local.reader import Reader

        keep_freed_memory()
        cv2.setNumThreads(1)
        torch.set_num_threads(1)
        self.options = options
        self.reader = Reader(options.model, device=options.device, faces=options.faces, threads=1)

    def __call__(self, chunk: Chunk) -> Readings:
        """The entries of each picture."""
        return self.reader.read_together(
            chunk.pictures,
            faces=self.options.faces,
            identity=self.options.identity,
            keep=self.options.crops,
        )


# The reader of this process, made once; or the error of its start, reported with the first chunk.
_reader: ChunkReader | Exception | None = None


def _start(options: ReadOptions) -> None:
    global _reader
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the parent process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _reader = ChunkReader(options)
    except Exception as error:
        _reader = error


def _end_with_parent() -> None:
    """End when the parent is killed: nothing would read the results or stop this process."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _read(chunk: Chunk) -> Readings:
    assert _reader is not None
    if isinstance(_reader, Exception):
        raise _reader
    return _reader(chunk)


@dataclass
class _Waiting:
    chunk: Chunk
    future: Future[Readings]
    attempts: int = 1

    @property
    def has_died(self) -> bool:
        """Its process died, or was stopped before it began."""
        return self.future.cancelled() or isinstance(self.future.exception(), BrokenProcessPool)


class Pool:
    """Processes that read chunks."""

    def __init__(self, options: ReadOptions, workers: int) -> None:
        self.options, self.workers = options, workers
        self._executor = self._processes(workers)
        self._waiting: deque[_Waiting] = deque()

    def read(self, chunks: Iterator[Chunk]) -> Iterator[tuple[Chunk, Readings]]:
        """Chunks with their readings, in order."""
        try:
            for chunk in chunks:
                self._waiting.append(_Waiting(chunk, self._submit(chunk)))
                if len(self._waiting) > AHEAD * self.workers:
                    yield self._next()
            while self._waiting:
                yield self._next()
        finally:
            self._executor.shutdown(wait=False, cancel_futures=True)

    def _processes(self, count: int) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            count,
            mp_context=preloaded_context(IMPORTED_ONCE),
            initializer=_start,
            initargs=(self.options,),
        )

    def _submit(self, chunk: Chunk) -> Future[Readings]:
        try:
            return self._executor.submit(_read, chunk)
        except BrokenProcessPool as error:
            future: Future[Readings] = Future()
            future.set_exception(error)
            return future

    def _next(self) -> tuple[Chunk, Readings]:
        first = self._waiting[0]
        while first.has_died:
            if first.attempts == MAX_ATTEMPTS:
                first.future.cancel()
                readings = self._one_by_one(first.chunk)
                self._waiting.popleft()
                return first.chunk, readings
            self._resubmit()
        self._waiting.popleft()
        return first.chunk, first.future.result()

    def _resubmit(self) -> None:
        """A process died and took the pool with it."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._executor = self._processes(self.workers)
        for one in self._waiting:
            if one.has_died:
                one.future, one.attempts = self._submit(one.chunk), one.attempts + 1

    def _one_by_one(self, chunk: Chunk) -> Readings:
        """Read each picture alone: one of the chunk kills its process, and only that one gets no
        reading.
        """
        readings, process = [], self._processes(1)
        for picture in chunk.pictures:
            try:
                (entries,) = process.submit(_read, Chunk((picture,), chunk.mark)).result()
            except BrokenProcessPool:
                process.shutdown(wait=False)
                process = self._processes(1)
                entries = [failed(picture, DIED)]
            readings.append(entries)
        process.shutdown(wait=False)
        return readings
