"""What the watermark costs and survives: on drawn faces and on pictures of databases.

python -m benchmarks.marking [--weights weights] [--data D ...] [--images 100] [--drawn 64]

Each change alone, the crop at a random place. Nothing of a picture is written.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import cv2
import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from affect.factory import load_model
from affect.marking import watermark
from affect.model import AffectModel
from training.database.reader import Database
from training.evaluation.core.predictions import decide
from training.evaluation.generation.drawing import draw_samples

U8 = NDArray[np.uint8]
PAYLOAD = 0xC0FFEE11
CROP = 0.8  # of each side
UNMARKED = 100  # pictures without a mark that are searched


def jpeg(image: U8, quality: int) -> U8:
    """As a JPEG file of that quality keeps it (4:2:0)."""
    _, code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR), np.uint8)


def resized(image: U8, factor: float) -> U8:
    """By area when smaller, else by cubics."""
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(
        cv2.resize(image, None, fx=factor, fy=factor, interpolation=interpolation), np.uint8
    )


def crop(image: U8, rng: Generator) -> U8:
    """A part with CROP of each side, anywhere."""
    side = round(len(image) * CROP)
    top, left = rng.integers(0, len(image) - side + 1, 2)
    return image[top : top + side, left : left + side]


def colour(image: U8) -> U8:
    """Red up by a tenth, blue down by a twentieth, a little brighter."""
    return np.asarray(np.clip(image * np.array([1.1, 1.0, 0.95]) + 6, 0, 255), np.uint8)


CHANGES: dict[str, Callable[[U8, Generator], U8]] = {
    "none": lambda image, _: image,
    "JPEG, quality 60": lambda image, _: jpeg(image, 60),
    "half the size and back": lambda image, _: resized(resized(image, 0.5), 2),
    "contrast, brightness, colour by 5 to 10 %": lambda image, _: colour(image),
    "a screenshot: 1.37 times the size, JPEG 80": lambda image, _: jpeg(resized(image, 1.37), 80),
    "a crop with 80 % of each side": crop,
    "the same as a JPEG, quality 80": lambda image, rng: jpeg(crop(image, rng), 80),
    "JPEG, quality 40": lambda image, _: jpeg(image, 40),
}


@dataclass(frozen=True)
class MarkFigures:
    """Of one set of pictures."""

    pictures: int
    detected: dict[str, float]  # change -> share with the right payload
    scores: dict[str, tuple[float, float]]  # change -> 5th and 50th percentile
    unmarked: float  # highest score of a picture without a mark, in the whole search
    psnr: float  # dB, mean
    shift: tuple[float, float]  # of AU intensities: mean, 99th percentile
    turned: float  # share of decisions about AUs that turn
    milliseconds: float  # of processor, to embed


def measure(model: AffectModel, images: U8, seed: int = 0) -> MarkFigures:
    """Figures of N pictures (N, S, S, 3)."""
    rng, start = np.random.default_rng(seed), time.process_time()
    marked = np.stack([watermark.embed(image, PAYLOAD) for image in images])
    elapsed = 1000 * (time.process_time() - start) / len(images)
    results = {
        name: [_detect(change(one, rng)) for one in marked] for name, change in CHANGES.items()
    }
    before, after = decide(model, images), decide(model, marked)
    shift = np.abs(after.intensity - before.intensity)
    return MarkFigures(
        pictures=len(images),
        detected={
            name: float(np.mean([is_right for is_right, _ in rows]))
            for name, rows in results.items()
        },
        scores={name: _percentiles([score for _, score in rows]) for name, rows in results.items()},
        unmarked=max((watermark.best(image).score for image in images[:UNMARKED]), default=0.0),
        psnr=float(np.mean([psnr(*pair) for pair in zip(images, marked, strict=True)])),
        shift=(float(shift.mean()), float(np.quantile(shift, 0.99))),
        turned=float((after.present != before.present).mean()),
        milliseconds=elapsed,
    )


def _detect(image: U8) -> tuple[bool, float]:
    best = watermark.best(image)
    return best.payload == PAYLOAD and best.score >= watermark.THRESHOLD, best.score


def _percentiles(scores: list[float]) -> tuple[float, float]:
    low, middle = np.quantile(scores, [0.05, 0.5])
    return float(low), float(middle)


def psnr(image: U8, marked: U8) -> float:
    """Peak signal to noise in dB; 99 where nothing differs."""
    error = float(np.mean((image.astype(np.float64) - marked) ** 2))
    return 10 * np.log10(255**2 / error) if error else 99.0


def drawn_faces(model: AffectModel, count: int) -> U8:
    """Faces that the model draws, in states of its training."""
    table = model.label_table[~torch.isnan(model.label_table).any(1)]
    generator = torch.Generator().manual_seed(0)
    some = torch.randperm(len(table), generator=generator)[:count]
    return draw_samples(model, table[some].double().numpy(), generator).images


def pictures(folder: Path, model: AffectModel, count: int) -> U8:
    """At most so many of a database's test split, at random."""
    database = Database.open(folder)
    order = np.random.default_rng(0).permutation(len(database.table("test")))[:count]
    return database.images("test", np.sort(order), model.card.image_px)


@click.command()
@click.option(
    "--weights", type=click.Path(path_type=Path), default=Path("weights"), show_default=True
)
@click.option("--data", type=click.Path(path_type=Path), multiple=True, help="database folder")
@click.option("--images", type=click.IntRange(min=1), default=100, show_default=True)
@click.option("--drawn", type=click.IntRange(min=0), default=64, show_default=True)
def main(weights: Path, data: tuple[Path, ...], images: int, drawn: int) -> None:
    """Print a table."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    model = load_model(weights)
    sets = {"drawn": drawn_faces(model, drawn)} if drawn else {}
    sets |= {folder.name: pictures(folder, model, images) for folder in data}
    figures = {name: measure(model, images) for name, images in sets.items()}
    click.echo(
        f"found from a score of {watermark.THRESHOLD:.3f} on; score at the 5th, 50th percentile\n"
    )
    click.echo(
        "| change | " + " | ".join(f"{one.pictures} {n}" for n, one in figures.items()) + " |"
    )
    click.echo("|---" * (len(figures) + 1) + "|")
    for change in CHANGES:
        cells = [
            f"{one.detected[change]:.3f} ({one.scores[change][0]:.2f}, {one.scores[change][1]:.2f})"
            for one in figures.values()
        ]
        click.echo(f"| {change} | {' | '.join(cells)} |")
    for name, one in figures.items():
        click.echo(
            f"\n{name}: {one.psnr:.1f} dB; AU intensities move by {one.shift[0]:.4f}, 99th "
            f"percentile {one.shift[1]:.3f}, decisions turned {one.turned:.4f}; unmarked at most "
            f"{one.unmarked:.3f}; {one.milliseconds:.0f} ms of processor to embed"
        )


if __name__ == "__main__":
    main()
