"""Where the processor time of a request for faces goes, step by step in one process, on one thread.

python -m benchmarks.drawing [--weights weights] [--items 25] [--media-type image/png] [--rounds 5]

The steps are those of a request, in its order: the worker of generate draws and reads back, the
gateway marks, encodes, signs and writes JSON. HTTP and the sockets between them are left out.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import cv2
import numpy as np
import torch

from affect.allocator import keep_freed_memory
from affect.batches import generate
from affect.factory import load_model
from affect.images import encode
from affect.marking import Claim, Marker, watermark
from affect.marking.credentials import MarkingSettings
from affect.marking.marker import short_digest
from affect.model import AffectModel
from affect.protocol.messages import (
    NO_REFERENCE,
    GenerateRequest,
    GenerateResponse,
)
from affect.runtime import choose_local_decoder, choose_local_runtime
from service.api.json_answers import render_json
from service.inference.results import GenerationResult

AU = 8  # column of the Action Unit that every item asks for


@click.command()
@click.option(
    "--weights",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=Path("weights"),
    show_default=True,
)
@click.option("--items", type=click.IntRange(min=1), default=25, show_default=True)
@click.option("--media-type", default="image/png", show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
def main(weights: Path, items: int, media_type: str, rounds: int) -> None:
    """Print a table: the medians of the rounds after one that does not count."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    keep_freed_memory()
    model, marker = load_model(weights), Marker(MarkingSettings())
    choose_local_runtime(model)
    choose_local_decoder(model)
    taken = [request(model, marker, items, media_type) for _ in range(rounds + 1)][1:]
    click.echo(f"| {items} faces of {model.card.image_px} px, {media_type} | ms | share |")
    click.echo("|---|---|---|")
    medians = {name: statistics.median(one[name] for one in taken) for name in taken[0]}
    total = sum(medians.values())
    for name, ms in {**medians, "all": total}.items():
        click.echo(f"| {name} | {ms:.1f} | {ms / total:.2f} |")


def request(model: AffectModel, marker: Marker, items: int, media_type: str) -> dict[str, float]:
    """ms of processor of each step of one request, by its name."""
    taken: dict[str, float] = {}
    card = model.card
    labels = np.full((items, len(card.labels_of.names)), np.nan, np.float32)
    labels[:, AU], seeds = 1.0, np.arange(items)
    nobody = np.zeros((0, card.image_px, card.image_px, 3), np.uint8)
    asked = GenerateRequest(labels, seeds, nobody, np.full(items, NO_REFERENCE, np.int32))
    with step("messages between gateway and worker", taken):
        asked = GenerateRequest.from_bytes(asked.to_bytes(card), card)
    reading = counted(model)
    with step("drawing", taken):
        drawn = generate(model, asked.labels, asked.seeds, asked.references, asked.reference_of)
    taken["reading back"] = reading()
    taken["drawing"] -= taken["reading back"]
    with step("messages between gateway and worker", taken):
        content = GenerateResponse(*drawn).to_bytes(card)
        response = GenerateResponse.from_bytes(content, card)
    claims = [Claim.of(card, "drawn", int(seed)) for seed in seeds]
    with step("watermark", taken):
        payload = int(short_digest(card.digest), 16)
        marked = [watermark.embed(image, payload) for image in response.images]
    with step("file", taken):
        files = [
            encode(image, media_type, synthetic=claim.about)
            for image, claim in zip(marked, claims, strict=True)
        ]
    with step("signature", taken):
        signed = tuple(
            marker.signer.sign(file, media_type, claim)
            for file, claim in zip(files, claims, strict=True)
        )
    rows = tuple(range(index, index + 1) for index in range(items))
    with step("JSON", taken):
        result = GenerationResult(
            card, rows, response.measured, signed, media_type, seeds, response.requested
        )
        render_json(result)
    return taken


@contextmanager
def step(name: str, taken: dict[str, float]) -> Iterator[None]:
    """Adds the processor time of its block in ms."""
    start = time.process_time()
    yield
    taken[name] = taken.get(name, 0.0) + 1000 * (time.process_time() - start)


def counted(model: AffectModel) -> Callable[[], float]:
    """Let the model's readings be timed; gives their processor time in ms, and ends that."""
    taken: dict[str, float] = {"": 0.0}
    predict = model.predict

    def timed(x: torch.Tensor) -> object:
        with step("", taken):
            return predict(x)

    def end() -> float:
        del model.predict
        return taken[""]

    model.predict = timed  # type: ignore[assignment,method-assign]
    return end


if __name__ == "__main__":
    main()
