"""How a judge learns: supervised, on one database, with mild augmentation.

The GAN takes no part.
"""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional as F
from tqdm import tqdm

from affect.judge import Judge, JudgeCard, JudgeKind
from affect.labels import DIMENSIONS
from affect.model import AffectModel
from affect.precision import mixed, round_to_bfloat16
from training.database.reader import Database
from training.database.stream import Batch, Stream
from training.evaluation.core import metrics
from training.gan.losses import ccc

VA_WEIGHT = 0.2  # of the VA losses beside the mean cross-entropy over AUs
# of the squared error of differences between twins: they differ in nothing but the state
TWIN_WEIGHT = 5.0
READ_IMAGES = 128  # a batch when only reading


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """One judge's training. Counts pictures seen."""

    images: int = 280_000
    batch_images: int = 64
    image_px: int = 64
    widths: tuple[int, ...] = (24, 48, 96, 160)  # 1.3 M parameters
    learning_rate: float = 2e-3  # at the top of the one-cycle schedule (AdamW)
    weight_decay: float = 0.05
    kind: JudgeKind = "inverted"
    photograph_share: float = 0.25  # of each batch, where photographs are given
    seed: int = 7919


def train_judge(
    data: Path, out: Path, config: JudgeConfig, photographs: Path | None = None
) -> Judge:
    """Train on the train split, measure on the validation split, write into `out`.

    Shows progress.
    """
    database = Database.open(data)
    card = JudgeCard(
        vocabulary=database.card.vocabulary,
        image_px=config.image_px,
        widths=config.widths,
        kind=config.kind,
        data=database.card.name,
        seed=config.seed,
    )
    torch.manual_seed(config.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    judge = Judge(card).to(device)
    judge.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    seen_images = _learn(
        judge, database, config, Database.open(photographs) if photographs else None
    )
    round_to_bfloat16(judge)
    judge.eval()
    judge.card = card.model_copy(
        update={"seen_images": seen_images, "held_out": held_out(judge, database, "validation")}
    )
    judge.save(out)
    return judge


def _learn(
    judge: Judge, database: Database, config: JudgeConfig, photographs: Database | None
) -> int:
    steps = max(config.images // config.batch_images, 1)
    optimiser = torch.optim.AdamW(
        judge.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, config.learning_rate, total_steps=steps, pct_start=0.15
    )
    generator = Generator().manual_seed(config.seed)
    device = next(judge.parameters()).device
    judge.train()
    recent, reported = 0.0, 0.0
    bar = tqdm(
        total=steps * config.batch_images,
        unit="img",
        unit_scale=True,
        mininterval=0.5,
        desc="judge",
    )
    with ExitStack() as stack:
        stack.enter_context(bar)
        streams = [stack.enter_context(s) for s in _streams(database, config, photographs)]
        for _, batches in zip(range(steps), zip(*streams, strict=True), strict=False):
            x, y, confidence = _both(batches, device)
            x = augment(x, generator).contiguous(memory_format=torch.channels_last)
            with _precision(config.kind, x.device.type):
                raw = judge(x)[0].float()
            loss = judge_loss(raw, y, confidence) + TWIN_WEIGHT * twin_loss(raw, y)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            bar.update(config.batch_images)
            if (
                time.monotonic() - reported > 1
            ):  # rarely: reading a loss synchronises with the device
                recent, reported = float(loss.detach()), time.monotonic()
                bar.set_postfix_str(f"loss={recent:.3f}")
    return steps * config.batch_images


def _precision(kind: str, device: str) -> AbstractContextManager[Any]:
    """On a processor depthwise convolutions take twice as long in bfloat16 (60 against 118 pictures
    a second of one core; residual blocks: 348 against 208).
    """
    return nullcontext() if kind == "inverted" and device == "cpu" else mixed(device)


def _streams(database: Database, config: JudgeConfig, photographs: Database | None) -> list[Stream]:
    """One stream, or one of renders and one of photographs, together half a batch of pairs."""
    half = config.batch_images // 2
    photograph_images = round(half * config.photograph_share) if photographs else 0
    shared: dict[str, Any] = {"split": "train", "size_px": config.image_px}
    streams = [Stream(database, batch_images=half - photograph_images, seed=config.seed, **shared)]
    if photographs:
        vocabulary = database.vocabulary
        streams.append(
            Stream(
                photographs,
                batch_images=photograph_images,
                seed=config.seed + 1,
                vocabulary=vocabulary,
                **shared,
            )
        )
    return streams


def judge_loss(raw: Tensor, y: Tensor, confidence: Tensor | None = None) -> Tensor:
    """Cross-entropy to the intensity of each AU, and squared error + (1 - CCC) of valence and
    arousal; NaN in y is not annotated.
    """
    known = torch.isfinite(y) * (1.0 if confidence is None else confidence)
    target = torch.nan_to_num(y)
    aus = F.binary_cross_entropy_with_logits(raw[:, :-2], target[:, :-2], reduction="none")
    va, va_target, va_known = torch.tanh(raw[:, -2:]), target[:, -2:], known[:, -2:]
    squared = _mean((va - va_target) ** 2, va_known)
    return _mean(aus, known[:, :-2]) + VA_WEIGHT * (
        squared + ((1 - ccc(va, va_target, va_known)) * (va_known.sum(0) > 1)).mean()
    )


def twin_loss(raw: Tensor, y: Tensor) -> Tensor:
    """Squared error of the difference between row i and its twin i + B / 2.

    It teaches the state apart from the person at once; a face without a twin stands beside another
    person, which adds little to the squared errors themselves.
    """
    read = torch.cat([torch.sigmoid(raw[:, :-2]), torch.tanh(raw[:, -2:])], dim=1)
    half = len(raw) // 2
    error = (read[:half] - read[half:]) - (y[:half] - y[half:])
    return _mean(torch.nan_to_num(error) ** 2, torch.isfinite(error))


def _mean(values: Tensor, known: Tensor) -> Tensor:
    return (values * known).sum() / known.sum().clamp_min(1e-6)


def augment(x: Tensor, generator: Generator) -> Tensor:
    """(B, 3, S, S) mirrored, moved, scaled, turned a little, recoloured, and one in three blurred,
    one in three noised.
    """
    rows = len(x)
    normals = torch.randn(rows, 9, generator=generator).to(x.device)
    chance = torch.rand(rows, 3, generator=generator).to(x.device)
    mirror = torch.where(chance[:, 0] < 0.5, -1.0, 1.0)
    scale, turn = torch.exp(0.04 * normals[:, 0]), 0.06 * normals[:, 1]
    cos, sin = scale * torch.cos(turn), scale * torch.sin(turn)
    rows_of = [
        torch.stack([mirror * cos, -sin, 0.05 * normals[:, 2]], 1),
        torch.stack([mirror * sin, cos, 0.05 * normals[:, 3]], 1),
    ]
    grid = F.affine_grid(torch.stack(rows_of, dim=1), list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    gain, lift = (
        torch.exp(0.15 * normals[:, 4:7, None, None]),
        0.1 * normals[:, 7, None, None, None],
    )
    x = (x * gain + lift).clamp(-1, 1)
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), 3, 1)
    x = torch.where((chance[:, 1] < 1 / 3)[:, None, None, None], blurred, x)
    noise = (
        torch.randn(x.shape, generator=generator).to(x.device)
        * 0.08
        * normals[:, 8, None, None, None].abs()
    )
    return torch.where((chance[:, 2] < 1 / 3)[:, None, None, None], (x + noise).clamp(-1, 1), x)


@torch.no_grad()
def held_out(judge: Judge, database: Database, split: str) -> dict[str, tuple[float, float, float]]:
    """Figure, low, high of each label on a split: AUC of an AU, CCC of valence and arousal. Labels
    without a figure are left out.
    """
    labels = database.labels(split).astype(np.float64)
    read = read_split(judge, database, split)
    weights = metrics.resamplings(database.column(split, "identity"), np.random.default_rng(0))
    scores = {}
    for column, name in enumerate(database.vocabulary.names):
        truth = labels[:, column]
        if name in DIMENSIONS:
            replicates = metrics.ccc(truth, read[:, column], weights)
        else:
            present = np.where(np.isnan(truth), np.nan, truth >= database.card.positive_intensity)
            replicates = metrics.auc(present, read[:, column], weights)
        interval = metrics.summary(replicates)
        if np.isfinite(interval.value):
            scores[name] = (interval.value, interval.low, interval.high)
    return scores


@torch.no_grad()
def read_split(judge: Judge, database: Database, split: str) -> np.ndarray:
    """(N, K + 2) the judge's label rows of a whole split."""
    device, parts = next(judge.parameters()).device, []
    for start in range(0, len(database.table(split)), READ_IMAGES):
        rows = np.arange(start, min(start + READ_IMAGES, len(database.table(split))))
        images = torch.from_numpy(database.images(split, rows, judge.card.image_px)).to(device)
        parts.append(judge.read(AffectModel.to_pixels(images)).cpu().numpy())
    return (
        np.concatenate(parts).astype(np.float64)
        if parts
        else np.zeros((0, len(judge.vocabulary.names)))
    )


def _both(batches: Sequence[Batch], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Faces, then twins, of all batches: (2 B, 3, S, S), labels and their confidence (2 B, K +
    2).
    """
    images = [*(batch.images for batch in batches), *(batch.twins for batch in batches)]
    labels = [*(batch.labels for batch in batches), *(batch.twin_labels for batch in batches)]
    sure = [
        *(batch.annotations.confidence for batch in batches),
        *(batch.twin_annotations.confidence for batch in batches),
    ]
    x, y, confidence = (torch.from_numpy(np.concatenate(part)) for part in (images, labels, sure))
    return AffectModel.to_pixels(x.to(device)), y.to(device), confidence.to(device)
