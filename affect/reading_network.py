"""The reading network: Action Units, valence, arousal, expression, pose and sides off a face.

It shares no weights with the trunk, so adversarial training never changes it: from the same
pictures a trunk that also encodes and criticises read worse than a plain network. A plain residual
network with batch norm: measured on a processor, depthwise convolutions took two to three times as
long. Shape letters: B faces, S side in px, K Action Units, D one-sided Action Units, H features.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affect.card import NetworkSize
from affect.networks import FEATURES, SMALLEST_PX, Trunk, activate
from affect.rows import take_rows

SQUEEZED = 32  # channels of the last map that are flattened, not averaged
DEPTH = (1, 1, 2, 1)  # residual blocks after each halving but the first
DROPOUT = 0.1
POSE_UNIT = 30.0  # degrees that one unit of the pose output stands for


@dataclass(frozen=True)
class ReadingOutput:
    """What is read off B faces. Tensors whose first axis is B; widths of 0 where not learnt."""

    logits: Tensor  # (B, K); sigmoid is the intensity
    va: Tensor  # (B, 2) in [-1, 1]
    expression: Tensor  # (B, E) logits of `affect.labels.EXPRESSIONS`
    pose: Tensor  # (B, 3) degrees: yaw, pitch, roll
    sides: Tensor  # (B, 2, D) logits of the person's left, then right; sigmoid is the intensity
    features: Tensor  # (B, H)

    @property
    def labels(self) -> Tensor:
        """(B, K + 2) intensities in [0, 1] and VA in [-1, 1] as a label row."""
        return torch.cat([torch.sigmoid(self.logits), self.va], dim=1)

    def map(self, change: Callable[[Tensor], Tensor]) -> "ReadingOutput":
        """The same function of every tensor."""
        return ReadingOutput(*(change(getattr(self, field.name)) for field in fields(self)))


class _Block(nn.Module):
    """Basic residual block (He et al. 2016, arXiv 1512.03385) with batch norm. (B, C, h, w) -> the
    same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.second_norm.weight)  # begins as the identity

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.first_norm(self.first(x)))
        return F.relu(x + self.second_norm(self.second(y)))


def _halving(inputs: int, outputs: int) -> list[nn.Module]:
    """(B, inputs, h, w) -> (B, outputs, h / 2, w / 2)."""
    convolution = nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]


class _ResidualBody(nn.Module):
    """Batch norm throughout; the last map is used both flattened and averaged."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        blocks = _halving(3, channels[0])
        for level, (a, b) in enumerate(pairwise(channels)):
            blocks += _halving(a, b)
            blocks += [_Block(b) for _ in range(DEPTH[min(level, len(DEPTH) - 1)])]
        self.blocks = nn.Sequential(*blocks)
        self.squeeze = nn.Sequential(
            nn.Conv2d(channels[-1], SQUEEZED, 1, bias=False), nn.BatchNorm2d(SQUEEZED), nn.ReLU()
        )
        self.features = nn.Sequential(
            nn.Linear(16 * SQUEEZED + channels[-1], FEATURES, bias=False),
            nn.BatchNorm1d(FEATURES),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) in [-1, 1] -> (B, H)."""
        maps = self.blocks(even_light(x))  # (B, C, 4, 4)
        placed = self.squeeze(maps).flatten(1)  # (B, 16 * SQUEEZED)
        features: Tensor = self.features(torch.cat([placed, maps.mean((2, 3))], dim=1))
        return features


class _TrunkBody(nn.Module):
    """The architecture of the trunk, so that a trained trunk can start a reading network."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.trunk = Trunk(channels)
        self.features = nn.Linear(channels[-1] * SMALLEST_PX**2, FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) in [-1, 1] -> (B, H)."""
        last = activate(self.trunk(x)[-1]).flatten(1)
        return activate(self.features(last))


BODIES: dict[str, type[nn.Module]] = {"residual": _ResidualBody, "trunk": _TrunkBody}


class ReadingNetwork(nn.Module):
    """A body that gives features, and one linear map of them that gives every output."""

    def __init__(
        self,
        size: NetworkSize,
        *,
        aus: int,
        one_sided: int,
        expressions: int,
        pose: bool,
    ) -> None:
        super().__init__()
        self.sizes = (aus, 2, expressions, 3 if pose else 0, 2 * one_sided)
        self.body = BODIES[size.reader_kind](size.reader)
        self.answer = nn.Linear(FEATURES, sum(self.sizes))
        nn.init.normal_(self.answer.weight, std=0.01)
        nn.init.zeros_(self.answer.bias)

    def forward(self, x: Tensor) -> ReadingOutput:
        """Faces (B, 3, S, S) in [-1, 1]."""
        return self.output(*self.compute(x))

    def compute(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """All that has weights: faces (B, 3, S, S) to answers (B, sum of sizes) and
        features (B, H).
        """
        features = self.body(x)
        answers = self.answer(F.dropout(features, DROPOUT, self.training))
        return answers.float(), features.float()

    def output(self, answers: Tensor, features: Tensor) -> ReadingOutput:
        """What `compute` gave, by name and in units."""
        logits, va, expression, pose, sides = torch.split(answers, list(self.sizes), dim=1)
        return ReadingOutput(
            logits,
            torch.tanh(va),
            expression,
            POSE_UNIT * pose,
            sides.unflatten(1, (2, self.sizes[-1] // 2)),
            features,
        )


def even_light(x: Tensor) -> Tensor:
    """Every picture with mean 0 and deviation about 1: a dark picture is read like a light one."""
    return (x - x.mean((1, 2, 3), keepdim=True)) / (x.std((1, 2, 3), keepdim=True) + 0.05)


def with_mirrored(output: ReadingOutput, rows: int) -> ReadingOutput:
    """The first `rows` faces, each averaged with its mirror image, which are the other rows."""
    return averaged(take_rows(output, slice(rows)), take_rows(output, slice(rows, None)))


def averaged(face: ReadingOutput, mirror: ReadingOutput) -> ReadingOutput:
    """The average of the readings of faces and of their mirror images.

    A mirror image shows the same state with left and right exchanged, and yaw and roll negated.
    """
    mirrored_pose = mirror.pose * mirror.pose.new_tensor([-1.0, 1.0, -1.0])[: mirror.pose.shape[1]]
    mirrored = ReadingOutput(
        mirror.logits,
        mirror.va,
        mirror.expression,
        mirrored_pose,
        mirror.sides.flip(1),
        mirror.features,
    )
    names = [field.name for field in fields(face) if field.name != "features"]
    means = {name: (getattr(face, name) + getattr(mirrored, name)) / 2 for name in names}
    return ReadingOutput(features=face.features, **means)
