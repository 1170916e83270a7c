"""What the parts of the whole cost, in one table and one line of a history.

python -m benchmarks [--skip serving] [--weights weights] [--history benchmarks/history.jsonl]

Times are of a processor (user and system, of all processes of a server) and are told as multiples
of what Pillow takes to decode a 512 px JPEG in the same run too: that ratio is comparable between
machines, and between hours of a busy one. Pin it to a core: `taskset -c 0 python -m benchmarks`.
Servers of others and training have verbs of their own (docs/speed.md).
"""

import io
import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import psutil
import torch
from PIL import Image

from affect.allocator import keep_freed_memory
from affect.batches import generate, predict
from affect.counterfactual import CounterfactualQuestion, explain
from affect.faces import FaceFinder, Faces, crops
from affect.factory import load_model
from affect.images import checked_header
from affect.model import AffectModel
from affect.runtime import (
    DECODER_FILE,
    READER_FILE,
    as_onnx,
    choose_runtime,
    decoder_as_onnx,
)
from benchmarks.portraits import jpeg_group, jpeg_portrait
from benchmarks.serving import (
    CROP,
    MANY,
    PORT,
    PORTRAIT,
    ROOT,
    Answers,
    Kind,
    MeasuredServer,
    archive,
    closed_loop,
    large_request,
    loaded,
    served,
    unserved,
)

CLIENTS = 32
ROUND_SECONDS = 5.0
SIZES = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Figure:
    """One row of the table."""

    part: str
    name: str
    value: float
    unit: str  # "CPU ms" is told as a multiple of a decoded picture too


@click.command()
@click.option(
    "--weights",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=Path("weights"),
    show_default=True,
)
@click.option("--skip", multiple=True, type=click.Choice(("pictures", "model", "serving")))
@click.option(
    "--history",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path(__file__).with_name("history.jsonl"),
    show_default=True,
    help="a line is added to it",
)
def main(weights: Path, skip: tuple[str, ...], history: Path) -> None:
    """Print the table, beside the figures of the last line of the history."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    keep_freed_memory()
    content = jpeg_portrait(512)
    decode_ms = cpu_ms(lambda: Image.open(io.BytesIO(content)).load())
    figures = [Figure("pictures", "Pillow decodes a 512 px JPEG", decode_ms, "CPU ms")]
    before = _last(history)
    click.echo(f"{_machine()}\n\n| part | figure | value | decodes | before: decodes |")
    click.echo("|---|---|---|---|---|")
    for name, part in PARTS.items():
        if name not in skip:
            for figure in part(weights.resolve()):
                figures.append(figure)
                click.echo(_row(figure, decode_ms, before))
    line = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "machine": _machine()}
    line["commit"] = _commit()
    with history.open("a") as out:
        out.write(json.dumps(line | {"figures": [asdict(figure) for figure in figures]}) + "\n")


def cpu_ms(work: Callable[[], object], *, repeats: int = 5, least_seconds: float = 0.2) -> float:
    """Processor time of a call in ms, the best of repeats, each of as many calls as fill the
    time.
    """
    work()
    best = float("inf")
    for _ in range(repeats):
        calls, start = 0, time.process_time()
        while (elapsed := time.process_time() - start) < least_seconds / repeats or not calls:
            work()
            calls += 1
        best = min(best, elapsed / calls)
    return 1000 * best


def pictures(_: Path) -> Iterator[Figure]:
    """Decoding, finding and aligning in this process."""
    finder = FaceFinder()

    def cpu_ms_of_crops(content: bytes, faces: Faces) -> float:
        return cpu_ms(lambda: crops(finder, checked_header(content), faces=faces, size_px=128))

    kinds: tuple[tuple[str, bytes, Faces], ...] = (
        ("a 512 px portrait", jpeg_portrait(512), "largest"),
        ("a 3000 px portrait", jpeg_portrait(3000), "largest"),
        ("a 12-megapixel group of five, the largest", jpeg_group(), "largest"),
        ("the same, all five", jpeg_group(), "all"),
        ("an aligned crop", jpeg_portrait(128), "none"),
    )
    for name, content, faces in kinds:
        yield Figure(
            "pictures", f"decode, find, align {name}", cpu_ms_of_crops(content, faces), "CPU ms"
        )


def model(weights: Path) -> Iterator[Figure]:
    """Reading, explaining and drawing in this process."""
    network, rng = load_model(weights), np.random.default_rng(0)
    side = network.card.image_px
    faces = rng.integers(0, 256, (32, side, side, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        if network.reader is not None:
            Path(folder, READER_FILE).write_bytes(as_onnx(network))
            Path(folder, DECODER_FILE).write_bytes(decoder_as_onnx(network))
        for runtime in ("torch", "openvino") if network.reader is not None else ("torch",):
            choose_runtime(network, Path(folder), runtime)
            for batch in (1, 8, 32):
                spent = cpu_ms(partial(predict, network, faces[:batch], SIZES)) / batch
                yield Figure("model", f"read a face, {runtime}, batch of {batch}", spent, "CPU ms")
            spent = cpu_ms(_draw_25(network), repeats=3)
            yield Figure("model", f"draw 25 faces and read them, {runtime}", spent, "CPU ms")
    choose_runtime(network, Path(), "torch")
    people = _draw_25(network)()[0][:16]
    questions = [CounterfactualQuestion()] * len(people)
    spent = cpu_ms(lambda: explain(network, people, questions), repeats=2) / len(people)
    yield Figure("model", "explain a face (16 at once, no judge)", spent, "CPU ms")


def _draw_25(network: AffectModel) -> Callable[[], tuple[Any, ...]]:
    names, side = len(network.card.labels_of.names), network.card.image_px
    requested = np.full((25, names), np.nan, np.float32)
    nobody, none = np.zeros((0, side, side, 3), np.uint8), np.full(25, -1, np.int32)
    return partial(generate, network, requested, np.arange(25), nobody, none)


def serving(weights: Path) -> Iterator[Figure]:
    """`affectgan serve` from outside: what it takes of the processor with all its processes."""
    with ExitStack() as stack:
        models = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "models"
        archive(ROOT, weights, models)
        server = stack.enter_context(served("now", ROOT, models, PORT))
        yield Figure("serving", "ready after", server.ready_seconds, "s")
        for kind in (PORTRAIT, CROP):
            yield from _answered(server, weights, kind)
        one = loaded(server, clients=CLIENTS, seconds=ROUND_SECONDS)
        yield Figure("serving", "p99 to p50 at four fifths", one.p99_ms / one.p50_ms, "times")
        yield Figure("serving", "goodput to capacity at three times", one.goodput, "times")
        yield Figure("serving", "refusal, median", one.refusal_p50_ms, "ms")


def _answered(server: MeasuredServer, weights: Path, kind: Kind) -> Iterator[Figure]:
    answers, name = Answers(), kind.name
    for taken in (Answers(), answers):
        closed_loop(server, kind, taken, clients=CLIENTS, seconds=ROUND_SECONDS)
    rate, cpu = answers.rates[0], float(answers.cpu_ms[0].sum())
    most, _ = unserved(weights, kind, ROUND_SECONDS)
    large_request(server, kind)
    many, _ = large_request(server, kind)
    yield Figure("serving", f"{name} over HTTP", cpu, "CPU ms")
    yield Figure("serving", f"{name}, {CLIENTS} clients", rate, "answers/s")
    yield Figure("serving", f"{name}, share of the rate without a server", rate / most, "")
    yield Figure("serving", f"{name}, {MANY} in one request, share of it", many / most, "")


PARTS: dict[str, Callable[[Path], Iterator[Figure]]] = {
    "pictures": pictures,
    "model": model,
    "serving": serving,
}


def _machine() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    cores = len(psutil.Process().cpu_affinity() or ()) or psutil.cpu_count()
    return f"{name}, {cores} cores, load {os.getloadavg()[0]:.1f}"


def _commit() -> str:
    """What is measured; "+" where files differ from the commit."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    completed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return completed.stdout.strip() or "no checkout"


def _last(history: Path) -> dict[str, float]:
    """Of the last line, each figure in decoded pictures."""
    lines = history.read_text().splitlines() if history.is_file() else []
    figures = json.loads(lines[-1])["figures"] if lines else []
    decode_ms = figures[0]["value"] if figures else 1.0
    return {f["name"]: f["value"] / decode_ms for f in figures if f["unit"] == "CPU ms"}


def _row(figure: Figure, decode_ms: float, previous: dict[str, float]) -> str:
    ratio = f"{figure.value / decode_ms:.1f}" if figure.unit == "CPU ms" else ""
    old = f"{previous[figure.name]:.1f}" if ratio and figure.name in previous else ""
    return f"| {figure.part} | {figure.name} | {figure.value:.2f} {figure.unit} | {ratio} | {old} |"


if __name__ == "__main__":
    main()
