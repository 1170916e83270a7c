"""Trains the landmark network and writes it as ONNX for OpenCV, with the figures that say how good
it is.
"""

import json
import math
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from affect.landmarks import INPUT_PX, Landmarks, box_of_points
from training.alignment.network import LandmarkNet
from training.alignment.pictures import Boxes, HeadPictures, draw_boxes, moved

BATCH = 64
LEARNING_RATE = 2e-3
FINE_TUNING_SHARE = 0.5  # of it, for a network that continues from another
AVERAGE_STEPS = 200  # half-life of the averaged weights that are stored
EYES_WEIGHT = 2.0  # the eyes place the aligned crop; nose and mouth help to find them
CONFIDENCE_WEIGHT = 0.02  # against points in shares of the crop
DEFECTS_WEIGHT = 0.01
SMALL_PX = 16.0
PHOTOGRAPHS = 0.3  # share of a batch, where there are any


@dataclass(frozen=True)
class Accuracy:
    """Error of the pupils on held-out heads in inter-ocular distances, by the looks of serving, and
    confidence.
    """

    heads: int
    mean: float
    p50: float
    p99: float
    mean_of_small: float  # of heads with less than SMALL_PX between the eyes
    mean_of_others: float
    p99_of_others: float
    missed: float  # share of faces with confidence below one half
    down: float  # the part of the error that all heads share, downwards on the face


def train(
    heads: HeadPictures,
    *,
    steps: int,
    seed: int,
    photographs: HeadPictures | None = None,
    start: LandmarkNet | None = None,
) -> LandmarkNet:
    """Adam with a cosine from 2e-3 to 0; the average of the last weights is the result. `start`
    continues from a network, its normalisation as it is, at half the rate.
    """
    rendered = len(heads.images)
    if photographs is not None:
        heads = HeadPictures.joined([heads, photographs])
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = LandmarkNet() if start is None else start.eval()
    highest = LEARNING_RATE * (1.0 if start is None else FINE_TUNING_SHARE)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average_update = get_ema_multi_avg_fn(0.5 ** (1 / AVERAGE_STEPS))
    average = AveragedModel(network, multi_avg_fn=average_update, use_buffers=True)
    optimiser = torch.optim.AdamW(network.parameters(), lr=highest, weight_decay=1e-4)
    with tqdm(range(steps), desc="landmarks", unit="step") as bar:
        for step in bar:
            for group in optimiser.param_groups:
                group["lr"] = highest * 0.5 * (1 + math.cos(math.pi * step / steps))
            rows = _rows(rendered, len(heads.images), rng)
            boxes = draw_boxes(heads, rows, rng)
            loss = loss_of(network(to_input(boxes.crops)), boxes)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            average.update_parameters(network)
            if step % 50 == 0:
                bar.set_postfix(loss=f"{float(loss.detach()):.4f}")
    return cast(LandmarkNet, average.module.eval())


def _rows(rendered: int, all_of_them: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """One batch's rows: of the renders, which come first, and of the photographs behind them."""
    rows = rng.integers(0, rendered, BATCH)
    if all_of_them > rendered:
        count = round(PHOTOGRAPHS * BATCH)
        rows[:count] = rng.integers(rendered, all_of_them, count)
    return rows


def loss_of(out: Tensor, boxes: Boxes) -> Tensor:
    """Distance of the points where there is a face and they lie in the crop, and cross-entropy of
    "a face" and, on faces, of the defects.
    """
    points, face = torch.from_numpy(boxes.points), torch.from_numpy(boxes.face)
    inside = ((points > -0.1) & (points < 1.1)).all(2, keepdim=True) & (face > 0.5)[:, None, None]
    point_loss = F.smooth_l1_loss(out[:, :10].view(-1, 5, 2), points, beta=0.005, reduction="none")
    point_loss = point_loss * point_loss.new_tensor([EYES_WEIGHT, EYES_WEIGHT, 1, 1, 1])[:, None]
    placed = (point_loss * inside).sum() / inside.sum().clamp(min=1)
    sure = F.binary_cross_entropy_with_logits(out[:, 10], face)
    defects = F.binary_cross_entropy_with_logits(
        out[:, 11:], torch.from_numpy(boxes.defects), reduction="none"
    )
    defect_loss = (defects.sum(1) * face).sum() / face.sum().clamp(min=1)
    return placed + CONFIDENCE_WEIGHT * sure + DEFECTS_WEIGHT * defect_loss


def to_input(crops: np.ndarray) -> Tensor:
    """uint8 (B, 64, 64, 3) RGB -> (B, 3, 64, 64) in [-1, 1]."""
    # channels last in memory, as read
    return torch.from_numpy(np.ascontiguousarray(crops)).permute(0, 3, 1, 2).float() / 127.5 - 1


def export(network: LandmarkNet, path: Path) -> None:
    """As ONNX with a free batch size."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(1, 3, INPUT_PX, INPUT_PX),),
            str(path),
            input_names=["crop"],
            output_names=["points"],
            dynamic_axes={"crop": {0: "batch"}, "points": {0: "batch"}},
            opset_version=13,
            dynamo=False,
        )


def load(path: Path) -> LandmarkNet:
    """A network of an ONNX file that `export` wrote; batch normalisation lies in its convolutions.

    Raises ValueError for a file of anything else.
    """
    try:
        graph = onnx.load(path).graph
        weights = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
        network = LandmarkNet().eval()
        modules = dict(network.named_modules())
        with torch.no_grad():
            for node in (node for node in graph.node if node.op_type in ("Conv", "Gemm")):
                name = node.name.split("/")[-2]  # "/at16/at16.0/at16.0.0/Conv"
                weight, bias = (torch.tensor(weights[key]) for key in node.input[1:])
                _fill(modules, name, weight, bias)
    except (KeyError, IndexError, RuntimeError, DecodeError) as error:
        raise ValueError(f"{path} holds no landmark network: {error}") from error
    return network


def _fill(modules: dict[str, nn.Module], name: str, weight: Tensor, bias: Tensor) -> None:
    layer = cast(nn.Conv2d | nn.Linear, modules[name])
    layer.weight.copy_(weight)
    if layer.bias is not None:
        layer.bias.copy_(bias)
        return
    stem, _, index = name.rpartition(".")
    norm = cast(nn.BatchNorm2d, modules[f"{stem}.{int(index) + 1}"])
    assert norm.running_var is not None
    norm.running_var.fill_(1 - norm.eps)
    norm.bias.copy_(bias)


def measure(landmarks: Landmarks, heads: HeadPictures, *, seed: int) -> Accuracy:
    """Accuracy from boxes as rough as a finder's, by the code that serves."""
    rng = np.random.default_rng(seed)
    eye_distances = np.linalg.norm(heads.points[:, 1] - heads.points[:, 0], axis=1)
    errors, confidences = np.empty(len(eye_distances)), np.empty(len(eye_distances))
    downs = np.empty(len(eye_distances))
    for row, (image, points) in enumerate(zip(heads.images, heads.points, strict=True)):
        points_found, confidences[row], _ = landmarks.refine(
            image, moved(box_of_points(points), rng)
        )
        offset, across = points_found[:2] - points[:2], points[1] - points[0]
        errors[row] = np.linalg.norm(offset, axis=1).mean() / eye_distances[row]
        downs[row] = (offset @ [-across[1], across[0]]).mean() / eye_distances[row] ** 2
    small, large = errors[eye_distances < SMALL_PX], errors[eye_distances >= SMALL_PX]
    figures = (
        errors.mean(),
        np.median(errors),
        np.quantile(errors, 0.99),
        small.mean() if len(small) else np.nan,
        large.mean() if len(large) else np.nan,
        np.quantile(large, 0.99) if len(large) else np.nan,
        (confidences < 0.5).mean(),
        np.median(downs),
    )
    return Accuracy(len(errors), *(round(float(figure), 4) for figure in figures))


def write_report(
    path: Path, accuracy: Accuracy, command: str, photographs: Accuracy | None = None
) -> None:
    """Beside the network: how it was made and how good it is, on renders and on photographs."""
    report: dict[str, object] = {"command": command, "held_out": asdict(accuracy)}
    if photographs is not None:
        report["photographs"] = asdict(photographs)
    path.write_text(json.dumps(report, indent=2) + "\n")
