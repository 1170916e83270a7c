"""What reading pictures in this process costs part by part, and how much of that two ways reach.

python -m benchmarks.reading FOLDER --pictures 500 --cores 2

The parts are measured one after the other on one core, in processor time. If nothing waited for
anything, so many cores would read cores / sum pictures a second. `Reader` (threads of one process)
and the processes of `affectgan score` are measured against that, in wall time, without their start:
the machine must be quiet. On a busy one compare the processor time of each way with the sum.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import click
import cv2
import psutil
import torch

from affect import Reader
from affect.faces import Faces
from affect.inputs import InputPicture, expand
from affect.local.reading import LocalReading
from affect.local.table import row
from affect.model_folders import shipped_weights
from scoring.chunks import CHUNK_PICTURES, Chunk, Mark
from scoring.workers import Pool, ReadOptions

FIRST = 64  # pictures before anything is measured


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.option("--pictures", "count", default=500, show_default=True)
@click.option("--cores", default=2, show_default=True)
@click.option("--faces", type=click.Choice(["largest", "none"]), default="largest")
def main(folder: Path, count: int, cores: int, faces: Faces) -> None:
    """Print the table."""
    pictures = list(islice(expand(folder), count))
    parts = _parts(pictures, faces)
    total = sum(parts.values())
    for name, ms in parts.items():
        print(f"{name:>32} {ms:7.2f} ms of processor a picture")
    ideal = 1000 * cores / total
    print(f"{'sum':>32} {total:7.2f} ms, so {ideal:.1f} a second on {cores} cores")
    methods: dict[str, Callable[[], tuple[float, float]]] = {
        f"Reader, {cores} threads": lambda: _threads(pictures, faces, cores),
        f"score, {cores} processes": lambda: _processes(pictures, faces, cores),
    }
    for name, method in methods.items():
        rate, ms = method()
        print(f"{name:>32} {ms:7.2f} ms, {rate:.1f} a second: {rate / ideal:.2f} of that")


def _parts(pictures: Sequence[InputPicture], faces: Faces) -> dict[str, float]:
    """ms of processor a picture of everything that happens to it, one after the other."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    reader = Reader(device="cpu", faces=faces, threads=1)
    for picture in pictures[:FIRST]:
        reader.read_together([picture], faces=faces)
    decoded = _spent(lambda: [picture.decoded() for picture in pictures])
    crops: list[object] = []
    both = _spent(lambda: crops.extend(reader._crops(picture, faces) for picture in pictures))
    entries: list[list[LocalReading]] = []
    chunks = range(0, len(pictures), CHUNK_PICTURES)

    def read() -> None:
        for at in chunks:
            part = slice(at, at + CHUNK_PICTURES)
            entries.extend(reader._entries(pictures[part], crops[part]))  # type: ignore[arg-type]

    network = _spent(read)
    rows = _spent(lambda: [row(one, reader.card.vocabulary) for some in entries for one in some])
    names = ("decode", "find and align", "read", "row of a table")
    times = (decoded, both - decoded, network, rows)
    return {name: 1000 * spent / len(pictures) for name, spent in zip(names, times, strict=True)}


def _spent(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _threads(pictures: Sequence[InputPicture], faces: Faces, cores: int) -> tuple[float, float]:
    torch.set_num_threads(cores)
    reader = Reader(device="cpu", threads=cores)
    reader.read(pictures[:FIRST], faces=faces)
    return _rate(reader.stream(pictures, faces=faces), 0, len(pictures))


def _processes(pictures: Sequence[InputPicture], faces: Faces, cores: int) -> tuple[float, float]:
    """Between the first chunks of every process and the last one."""
    options = ReadOptions(str(shipped_weights()), "cpu", faces, identity=False, crops=False)
    again = [*pictures[:FIRST], *pictures]
    chunks = (
        Chunk(tuple(again[at : at + CHUNK_PICTURES]), Mark(0, {"done": at}))
        for at in range(0, len(again), CHUNK_PICTURES)
    )
    read = (entry for _, some in Pool(options, cores).read(chunks) for one in some for entry in one)
    return _rate(read, FIRST, len(pictures))


def _rate(read: Iterator[LocalReading], before: int, count: int) -> tuple[float, float]:
    """Pictures a second, and ms of processor each, of `count` that follow the first `before`; each
    has one entry. The processes are still there when the last one comes.
    """
    for _ in islice(read, before):
        pass
    began, spent = time.monotonic(), _processor()
    assert sum(1 for _ in islice(read, count)) == count
    return count / (time.monotonic() - began), 1000 * (_processor() - spent) / count


def _processor() -> float:
    """Seconds of this process and those that it started."""
    processes = [psutil.Process(os.getpid())]
    processes += processes[0].children(recursive=True)
    return sum(sum(one.cpu_times()[:2]) for one in processes)


if __name__ == "__main__":
    main()
