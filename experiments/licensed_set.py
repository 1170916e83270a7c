"""What a user with a licensed set gets: a small foreign set, read after the same processor time by
the preset for such sets and by a plain network.

python -m experiments.licensed_set --out FOLDER [--images 60000] [--weights weights]

No licensed set ships, so the set is made foreign: rendered people that no weights have seen, in
another picture and under another rule. Edges are kept and skin is smoothed, which takes creases
away; faces are narrower and the colours are other; valence and arousal follow other weights. It has
4,000 faces to learn from, 500 for thresholds and about 850 faces of other people to be measured on.
It stands in for another head model only in part: the geometry is the renderer's own.

Conditions: `shipped` (the weights as they are), `begun` (`--preset reader128 --init weights`),
`nothing` (`--preset reader128` alone), `plain` (a convolutional network with batch normalisation,
for the processor time that `begun` took). One run each; intervals are not shown.
"""

import argparse
import io
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.special import expit
from torch import Tensor, nn

from affect.factory import load_model
from affect.labels import DIMENSIONS
from training.database.copying import copy_database
from training.database.reader import Database
from training.database.sample import TEST, TRAIN, VALIDATION, Sample
from training.evaluation.core.metrics import auc, ccc, f1
from training.evaluation.core.predictions import in_batches
from training.evaluation.recognition.calibration import best_threshold
from training.gan import loop
from training.gan.config import TrainConfig, preset
from training.gan.losses import au_loss
from training.gan.losses import ccc as ccc_of_columns
from training.gan.run_folder import CONFIG_FILE, MODEL_FOLDER
from training.sources.rendering import render_database

Floats = NDArray[np.float64]
MOST = {TRAIN: 4_000, VALIDATION: 500, TEST: 1_000}
RENDERED, SEED, SIZE_PX = 7_168, 5_001, 128
NARROW, GAMMA = 0.90, 1.3
COLOURS = np.array([[0.80, 0.15, 0.05], [0.10, 0.70, 0.20], [0.05, 0.25, 0.85]])
# valence, arousal of another annotator: other weights, no interactions
RULE = {
    "AU1": (-0.2, 0.3), "AU2": (0.0, 0.3), "AU4": (-0.4, 0.2), "AU5": (0.0, 0.5),
    "AU6": (0.4, 0.1), "AU9": (-0.4, 0.2), "AU12": (0.8, 0.2), "AU15": (-0.5, -0.3),
    "AU25": (0.1, 0.3), "AU26": (0.0, 0.4), "AU43": (-0.1, -0.5),
}  # fmt: skip
PLAIN = (24, 48, 96, 160, 224)
BATCH, RATE = 64, 2e-3


def foreign_picture(image: bytes) -> bytes:
    """The picture as another renderer might have made it, PNG."""
    pixels = np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))
    smooth = pixels
    for _ in range(2):
        smooth = cv2.bilateralFilter(smooth, d=7, sigmaColor=40, sigmaSpace=4)
    coloured = 255 * np.clip((smooth / 255.0) @ COLOURS.T, 0, 1) ** GAMMA
    side = len(pixels)
    narrow = cv2.resize(coloured.astype(np.uint8), (round(NARROW * side), side))
    left = (side - narrow.shape[1]) // 2
    right = side - narrow.shape[1] - left
    whole = cv2.copyMakeBorder(narrow, 0, 0, left, right, cv2.BORDER_REFLECT)
    written = io.BytesIO()
    Image.fromarray(whole).save(written, "PNG")
    return written.getvalue()


def foreign_set(out: Path) -> Path:
    """The set, made once."""
    rendered = out / "rendered"
    if not (out / "set").is_dir():
        render_database(rendered, images=RENDERED, size_px=SIZE_PX, twins=1, seed=SEED, workers=1)
    left = dict(MOST)
    names = Database.open(rendered).card.vocabulary
    weights = np.array([RULE.get(name, (0.0, 0.0)) for name in names])

    def change(sample: Sample) -> Sample | None:
        if not left[sample.split]:
            return None
        left[sample.split] -= 1
        labels = sample.labels.copy()
        labels[len(names) :] = np.tanh(labels[: len(names)] @ weights)
        image = foreign_picture(sample.image)
        return replace(
            sample, image=image, labels=labels, twin_group="", groups={}, truth={}, source="foreign"
        )

    return copy_database(Database.open(rendered), out / "set", "foreign", change)


@dataclass(frozen=True)
class Split:
    """Pictures (N, S, S, 3) and labels (N, K + 2), NaN = not annotated."""

    images: NDArray[np.uint8]
    labels: Floats


def split_of(database: Database, name: str) -> Split:
    """All of a split."""
    rows = np.arange(database.count(name))
    labels = database.labels(name).astype(np.float64)
    return Split(database.images(name, rows, SIZE_PX), labels)


def figures(
    held: Split, held_read: Floats, test: Split, read: Floats, aus: int
) -> dict[str, float]:
    """Mean AUC and F1 of the AUs that both splits show, and CCC; thresholds from `held`."""
    areas, scores = [], []
    for place in range(aus):
        present = (test.labels[:, place] >= 0.3).astype(float)
        known = (held.labels[:, place] >= 0.3).astype(float)
        if min(known.sum(), present.sum()) < 5:
            continue
        threshold = best_threshold(held_read[:, place], known)
        areas.append(float(auc(present, read[:, place])[0]))
        scores.append(float(f1(present, (read[:, place] >= threshold).astype(float))[0]))
    agreement = {
        f"{name} CCC": float(ccc(test.labels[:, aus + place], read[:, aus + place])[0])
        for place, name in enumerate(DIMENSIONS)
    }
    return {"AU AUC": float(np.mean(areas)), "AU F1": float(np.mean(scores)), **agreement}


def read_by_model(folder: Path, names: tuple[str, ...], split: Split) -> Floats:
    """Labels (N, K + 2) as a model reads them, in the order of `names`; 0 for what it has not."""
    model = load_model(folder)

    def one(x: Tensor) -> tuple[Tensor, ...]:
        output = model.read(x)
        return output.logits.sigmoid(), output.va

    aus, va = in_batches(model, one, split.images)
    places = {name: place for place, name in enumerate(model.card.vocabulary)}
    columns = [aus[:, places[name]] if name in places else 0 * va[:, 0] for name in names]
    return np.concatenate([np.stack(columns, axis=1), va], axis=1)


def trained(config: TrainConfig, data: Path, run: Path, init: Path | None) -> float:
    """Train a run, or go on with it; its processor time in seconds."""
    start = time.process_time()
    if (run / CONFIG_FILE).is_file():
        loop.resume(run)
    else:
        loop.start(config, data, run, init=init)
    return time.process_time() - start


class PlainNetwork(nn.Sequential):
    """Five strided convolutions with batch normalisation, global pooling, one linear layer."""

    def __init__(self, outputs: int) -> None:
        layers: list[nn.Module] = []
        for before, after in zip((3, *PLAIN[:-1]), PLAIN, strict=True):
            layers += [
                nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2))
        self.append(nn.Linear(PLAIN[-1], outputs))


def plain_network(train: Split, aus: int, seconds: float) -> PlainNetwork:
    """Trained for so much processor time; mirrored pictures are its augmentation."""
    network = PlainNetwork(train.labels.shape[1])
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    adam = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.05)
    labels = torch.from_numpy(train.labels).float()
    start = time.process_time()
    for rows in _batches(len(train.labels)):
        spent = (time.process_time() - start) / seconds
        if spent >= 1:
            break
        adam.param_groups[0]["lr"] = RATE * 0.5 * (1 + np.cos(np.pi * spent))
        x = _pixels(train.images[rows])
        x = torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x, x.flip(3))
        with torch.autocast("cpu", torch.bfloat16):
            out = network(x)
        loss = _loss(out.float(), labels[rows], aus)
        adam.zero_grad()
        loss.backward()
        adam.step()
    network.eval()
    return network


def _batches(count: int) -> Iterator[NDArray[np.intp]]:
    rng = np.random.default_rng(0)
    while True:
        order = rng.permutation(count)
        yield from (order[at : at + BATCH] for at in range(0, count - BATCH + 1, BATCH))


def _pixels(images: NDArray[np.uint8]) -> Tensor:
    scaled = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    return scaled.to(memory_format=torch.channels_last)


def _loss(out: Tensor, labels: Tensor, aus: int) -> Tensor:
    """Cross-entropy of the intensities, and 1 - CCC of both dimensions."""
    dimensions = 1 - ccc_of_columns(out[:, aus:].tanh(), labels[:, aus:])
    return au_loss(out[:, :aus], labels[:, :aus]) + dimensions.mean()


@torch.inference_mode()
def read_by_plain(network: PlainNetwork, split: Split, aus: int) -> Floats:
    """Labels (N, K + 2)."""
    parts = [
        network(_pixels(split.images[at : at + 128])) for at in range(0, len(split.images), 128)
    ]
    out = torch.cat(parts).numpy().astype(np.float64)
    return np.concatenate([expit(out[:, :aus]), np.tanh(out[:, aus:])], axis=1)


def main() -> None:
    """The whole comparison; stages that are there are not made again."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--weights", type=Path, default=Path("weights"))
    parser.add_argument("--images", type=int, default=60_000, help="seen by the preset's runs")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    data = foreign_set(options.out)
    database = Database.open(data)
    names = tuple(database.card.vocabulary)
    train, held, test = (split_of(database, name) for name in (TRAIN, VALIDATION, TEST))
    config = replace(preset("reader128"), total_images=options.images)

    def figures_of(folder: Path) -> dict[str, float]:
        held_read, test_read = (read_by_model(folder, names, split) for split in (held, test))
        return figures(held, held_read, test, test_read, len(names))

    table: dict[str, dict[str, float]] = {"shipped": figures_of(options.weights)}
    seconds = 0.0
    for condition, init in (("begun", options.weights), ("nothing", None)):
        run = options.out / condition
        spent = trained(config, data, run, init)
        seconds = seconds or spent
        table[condition] = figures_of(run / MODEL_FOLDER) | {"cpu_seconds": spent}
        print(condition, json.dumps(table[condition]), flush=True)
    network = plain_network(train, len(names), seconds)
    read = [read_by_plain(network, split, len(names)) for split in (held, test)]
    table["plain"] = figures(held, read[0], test, read[1], len(names)) | {"cpu_seconds": seconds}
    (options.out / "table.json").write_text(json.dumps(table, indent=2) + "\n")
    print(json.dumps(table, indent=2))


if __name__ == "__main__":
    main()
