"""What the parts of the whole cost, in one table and one line of a history.

python -m benchmarks [--skip serving] [--weights weights] [--history benchmarks/history.jsonl]

Times are of a processor (user and system, of all processes of a server) and are told as multiples
of what Pillow takes to decode a 512 px JPEG in the same run too: that ratio is comparable between
machines, and between hours of a busy one. Pin it to a core: `taskset -c 0 python -m benchmarks`.
Servers of others, training and overload have verbs of their own (docs/speed.md).
"""

import base64
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click
import cv2
import numpy as np
import psutil
import torch
from PIL import Image
from skimage import data

from affect.allocator import keep_freed_memory
from affect.batches import generate, predict
from affect.counterfactual import CounterfactualQuestion, explain
from affect.faces import FaceFinder, Faces, crops
from affect.factory import load_model
from affect.images import checked_header, encode
from affect.model import AffectModel
from affect.runtime import READER_FILE, as_onnx, choose_runtime

START_SECONDS = 120.0
CLIENTS = 8
REQUESTS = 160  # of each kind, after as many as there are clients
MANY = 64  # pictures of one large request
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
    content = portrait(512)
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
        while (taken := time.process_time() - start) < least_seconds / repeats or not calls:
            work()
            calls += 1
        best = min(best, taken / calls)
    return 1000 * best


def portrait(side: int) -> bytes:
    """A public-domain portrait (scikit-image's), as a JPEG."""
    return _jpeg(Image.fromarray(data.astronaut()[:256, 96:352]).resize((side, side)))


def group() -> bytes:
    """Five of them, of different sizes, in 12 megapixels."""
    picture = Image.new("RGB", (4000, 3000), (120, 120, 110))
    for number, side in enumerate((1100, 900, 800, 700, 600)):
        one = Image.fromarray(data.astronaut()[:256, 96:352]).resize((side, side))
        picture.paste(one, (100 + number % 3 * 1250, 200 + number // 3 * 1400))
    return _jpeg(picture)


def pictures(_: Path) -> Iterator[Figure]:
    """Decoding, finding and aligning in this process."""
    finder = FaceFinder()

    def found(content: bytes, faces: Faces) -> float:
        return cpu_ms(lambda: crops(finder, checked_header(content), faces=faces, size_px=128))

    kinds: tuple[tuple[str, bytes, Faces], ...] = (
        ("a 512 px portrait", portrait(512), "largest"),
        ("a 3000 px portrait", portrait(3000), "largest"),
        ("a 12-megapixel group of five, the largest", group(), "largest"),
        ("the same, all five", group(), "all"),
        ("an aligned crop", portrait(128), "none"),
    )
    for name, content, faces in kinds:
        yield Figure("pictures", f"decode, find, align {name}", found(content, faces), "CPU ms")


def model(weights: Path) -> Iterator[Figure]:
    """Reading, explaining and drawing in this process."""
    network, rng = load_model(weights), np.random.default_rng(0)
    side = network.card.image_px
    faces = rng.integers(0, 256, (32, side, side, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        if network.reader is not None:
            Path(folder, READER_FILE).write_bytes(as_onnx(network))
        for runtime in ("torch", "openvino") if network.reader is not None else ("torch",):
            choose_runtime(network, Path(folder), runtime)
            for batch in (1, 8, 32):
                spent = cpu_ms(partial(predict, network, faces[:batch], SIZES)) / batch
                yield Figure("model", f"read a face, {runtime}, batch of {batch}", spent, "CPU ms")
    choose_runtime(network, Path(), "torch")
    yield from _drawn(network)


def _drawn(network: AffectModel) -> Iterator[Figure]:
    names, side = len(network.card.labels_of.names), network.card.image_px
    asked = np.full((25, names), np.nan, np.float32)
    nobody, none = np.zeros((0, side, side, 3), np.uint8), np.full(25, -1, np.int32)
    draw = partial(generate, network, asked, np.arange(25), nobody, none)
    people = draw()[0][:16]
    yield Figure("model", "draw 25 faces", cpu_ms(draw, repeats=3), "CPU ms")
    questions = [CounterfactualQuestion()] * len(people)
    spent = cpu_ms(lambda: explain(network, people, questions), repeats=2) / len(people)
    yield Figure("model", "explain a face (16 at once, no judge)", spent, "CPU ms")


def serving(weights: Path) -> Iterator[Figure]:
    """`affectgan serve` from outside: what it takes of the processor with all its processes."""
    start = time.monotonic()
    with _served(weights) as (url, process):
        yield Figure("serving", "ready after", time.monotonic() - start, "s")
        kinds = {
            "a 512 px portrait": (portrait(512), "largest"),
            "a 224 px portrait": (portrait(224), "largest"),
            "an aligned 128 px crop": (portrait(128), "none"),
        }
        for name, (content, faces) in kinds.items():
            body = json.dumps(_body([content], faces)).encode()
            _asked(url, body, CLIENTS)
            before, begun = _cpu_seconds(process), time.monotonic()
            _asked(url, body, REQUESTS)
            seconds, spent = time.monotonic() - begun, _cpu_seconds(process) - before
            yield Figure("serving", f"{name} over HTTP", 1000 * spent / REQUESTS, "CPU ms")
            yield Figure("serving", f"{name}, {CLIENTS} clients", REQUESTS / seconds, "answers/s")
        body = json.dumps(_body([portrait(512)] * MANY, "largest")).encode()
        before, begun = _cpu_seconds(process), time.monotonic()
        _asked(url, body, 1)
        spent = 1000 * (_cpu_seconds(process) - before) / MANY
        yield Figure("serving", f"a picture of {MANY} in one request", spent, "CPU ms")
        rate = MANY / (time.monotonic() - begun)
        yield Figure("serving", f"one request of {MANY} pictures", rate, "pictures/s")


PARTS: dict[str, Callable[[Path], Iterator[Figure]]] = {
    "pictures": pictures,
    "model": model,
    "serving": serving,
}


@contextmanager
def _served(weights: Path) -> Iterator[tuple[str, psutil.Process]]:
    """A gateway with its model server. Raises ClickException when it is not ready in time."""
    url = "http://127.0.0.1:8077"
    command = [sys.executable, "-m", "affect.cli", "serve", "--weights", str(weights)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            [*command, "--port", url.rpartition(":")[2]], env=environment, stdout=log, stderr=log
        )
        try:
            end = time.monotonic() + START_SECONDS
            while not _is_ready(url):
                if child.poll() is not None or time.monotonic() > end:
                    log.seek(0)
                    raise click.ClickException(f"no server: {log.read().decode()[-2000:]}")
                time.sleep(0.05)
            yield url, psutil.Process(child.pid)
        finally:
            child.terminate()
            child.wait(60)


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5):
            return True
    except (urllib.error.URLError, TimeoutError):
        return False


def _body(contents: list[bytes], faces: str) -> dict[str, object]:
    images = [{"content": base64.b64encode(content).decode()} for content in contents]
    return {"images": images, "options": {"faces": faces}}


def _asked(url: str, body: bytes, requests: int) -> None:
    """The same request again and again, from a few clients; none is answered from the cache."""
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}

    def ask(_: int) -> None:
        request = urllib.request.Request(f"{url}/v1/predict", body, headers)
        with urllib.request.urlopen(request, timeout=120) as answer:
            if b'"status":"ok"' not in answer.read():
                raise click.ClickException("a picture was not read")

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(ask, range(requests)))


def _cpu_seconds(process: psutil.Process) -> float:
    """Of a process and all that it started."""
    times = [member.cpu_times() for member in (process, *process.children(recursive=True))]
    return float(sum(used.user + used.system for used in times))


def _jpeg(picture: Image.Image) -> bytes:
    return encode(np.asarray(picture, np.uint8), "image/jpeg", quality=90)


def _machine() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    cores = len(psutil.Process().cpu_affinity() or ()) or psutil.cpu_count()
    return f"{name}, {cores} cores, load {os.getloadavg()[0]:.1f}"


def _last(history: Path) -> dict[str, float]:
    """Of the last line, each figure in decoded pictures."""
    lines = history.read_text().splitlines() if history.is_file() else []
    figures = json.loads(lines[-1])["figures"] if lines else []
    decode_ms = figures[0]["value"] if figures else 1.0
    return {f["name"]: f["value"] / decode_ms for f in figures if f["unit"] == "CPU ms"}


def _row(figure: Figure, decode_ms: float, before: dict[str, float]) -> str:
    ratio = f"{figure.value / decode_ms:.1f}" if figure.unit == "CPU ms" else ""
    old = f"{before[figure.name]:.1f}" if ratio and figure.name in before else ""
    return f"| {figure.part} | {figure.name} | {figure.value:.2f} {figure.unit} | {ratio} | {old} |"


if __name__ == "__main__":
    main()
