"""The judge: a plain network of another kind than the model, trained apart from it, that grades
what it draws.

In evaluation it grades; in an explanation archive it checks whether the change is visible to it
too.

Shape letters: B faces, S the judge's image side in px, K Action Units, F features.
"""

from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from affect.labels import Vocabulary
from affect.model_folders import JUDGE_FILE, JUDGE_WEIGHTS_FILE
from affect.precision import shortest

SQUEEZED, FEATURES = 32, 160
WIDENED = 4  # times the channels, inside an inverted block

JudgeKind = Literal["residual", "inverted", "plain"]


class JudgeError(ValueError):
    """A judge that cannot be read: says which file and what to do."""


class JudgeCard(BaseModel):
    """What judge.json says beside the weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vocabulary: tuple[str, ...]
    image_px: int = Field(ge=16)
    widths: tuple[int, ...]
    kind: JudgeKind = Field(
        default="residual", description="of its blocks; another than the reading network's"
    )
    data: str = Field(description="name of the database it learnt from")
    seed: int
    seen_images: int = 0
    held_out: dict[str, tuple[float, float, float]] = Field(
        default={},
        description="figure, low, high of each label on the validation split: AUC of an "
        "AU, CCC of valence and arousal",
    )
    sha256: str = ""


@dataclass(frozen=True)
class JudgeOutput:
    """What the judge reads off B faces."""

    labels: Tensor  # (B, K + 2) intensities in [0, 1], valence and arousal in [-1, 1]
    features: Tensor  # (B, F)


class _JudgeBlock(nn.Module):
    """Basic residual block (He et al. 2016) with batch norm; halves the side when the width
    changes.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        stride = 1 if inputs == outputs else 2
        self.first, self.first_norm = (
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.second, self.second_norm = (
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.skip = (
            nn.Identity()
            if stride == 1
            else nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(inputs, outputs, 1, bias=False))
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.second_norm(self.second(y)) + self.skip(x))


class _InvertedBlock(nn.Module):
    """Widen, filter each channel, narrow (MobileNetV2, Sandler et al. 2018, arXiv 1801.04381);
    halves the side when the width changes. (B, a, h, w) -> (B, b, h / 1 or 2, w / 1 or 2).
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        wide, stride = WIDENED * inputs, 1 if inputs == outputs else 2
        self.skips = stride == 1
        self.body = nn.Sequential(
            *(nn.Conv2d(inputs, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU()),
            *(nn.Conv2d(wide, wide, 5, stride, 2, groups=wide, bias=False), nn.BatchNorm2d(wide)),
            *(nn.ReLU(), nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs)),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.skips else y


class _PlainBlock(nn.Sequential):
    """Two convolutions without a shortcut (VGG, Simonyan and Zisserman 2015, arXiv 1409.1556) with
    batch norm; halves the side when the width changes. (B, a, h, w) -> (B, b, h / 1 or 2, w / 1 or
    2).
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        stride = 1 if inputs == outputs else 2
        super().__init__(
            *(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)),
            *(nn.ReLU(), nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)),
            *(nn.BatchNorm2d(outputs), nn.ReLU()),
        )


BLOCKS = {"residual": _JudgeBlock, "inverted": _InvertedBlock, "plain": _PlainBlock}


class Judge(nn.Module):
    """A small convolutional network. Build with a card, or `load`."""

    def __init__(self, card: JudgeCard) -> None:
        super().__init__()
        self.card = card
        stem, last = card.widths[0], card.widths[-1]
        self.stem = nn.Sequential(
            nn.Conv2d(3, stem, 5, 2, 2, bias=False), nn.BatchNorm2d(stem), nn.ReLU()
        )
        block = BLOCKS[card.kind]
        blocks: list[nn.Module] = [block(stem, stem)]
        for inputs, outputs in pairwise(card.widths):
            blocks += [block(inputs, outputs), block(outputs, outputs)]
        self.blocks = nn.Sequential(*blocks)
        # Position on the face matters: the last 4 x 4 map is flattened, not averaged.
        self.squeeze = nn.Sequential(
            nn.Conv2d(last, SQUEEZED, 1, bias=False), nn.BatchNorm2d(SQUEEZED), nn.ReLU()
        )
        self.features_of = nn.Sequential(
            nn.Linear(SQUEEZED * 16, FEATURES, bias=False), nn.BatchNorm1d(FEATURES), nn.ReLU()
        )
        self.answer = nn.Linear(FEATURES, len(card.vocabulary) + 2)

    @property
    def vocabulary(self) -> Vocabulary:
        """The AUs of its label rows, in order."""
        return Vocabulary(self.card.vocabulary)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Raw answers (B, K + 2) and features (B, F) of faces (B, 3, any, any) in [-1, 1]."""
        maps = self.blocks(self.stem(_even_light(_sized(x, self.card.image_px))))
        squeezed = self.squeeze(F.adaptive_avg_pool2d(maps, 4))
        features = self.features_of(F.dropout(squeezed.flatten(1), 0.1, self.training))
        return self.answer(features), features

    @torch.no_grad()
    def predict(self, x: Tensor) -> JudgeOutput:
        """Labels and features of faces (B, 3, any, any) in [-1, 1].

        Labels are read off the face and its mirror image, and averaged.
        """
        raw, features = self(torch.cat([x, x.flip(3)]))
        raw, features = raw.unflatten(0, (2, len(x))).mean(0), features[: len(x)]
        labels = torch.cat([torch.sigmoid(raw[:, :-2]), torch.tanh(raw[:, -2:])], dim=1)
        return JudgeOutput(labels.float(), features.float())

    def read(self, x: Tensor) -> Tensor:
        """(B, K + 2) label rows of faces (B, 3, any, any) in [-1, 1]."""
        return self.predict(x).labels

    def features(self, x: Tensor) -> Tensor:
        """(B, F) features of faces (B, 3, any, any) in [-1, 1]."""
        return self.predict(x).features

    @classmethod
    def load(cls, folder: Path, *, device: str = "cpu") -> Self:
        """Raises JudgeError when a file is missing, broken, or does not match its digest."""
        try:
            card = JudgeCard.model_validate_json((folder / JUDGE_FILE).read_bytes())
            weights = (folder / JUDGE_WEIGHTS_FILE).read_bytes()
        except (OSError, ValueError) as error:
            raise JudgeError(
                f"{folder} holds no judge: {error}; make one with `affectgan judge --data "
                f"D --out {folder}`"
            ) from error
        if card.sha256 != sha256(weights).hexdigest():
            raise JudgeError(
                f"{folder / JUDGE_WEIGHTS_FILE} is not the file that {JUDGE_FILE} "
                "describes: copy both again"
            )
        judge = cls(card)
        try:
            judge.load_state_dict(load_file(folder / JUDGE_WEIGHTS_FILE))
        except (RuntimeError, SafetensorError) as error:
            raise JudgeError(
                f"{folder / JUDGE_WEIGHTS_FILE} does not fit {JUDGE_FILE}: {error}"
            ) from error
        judge.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return judge.eval()

    def save(self, folder: Path) -> None:
        """Write judge.safetensors, and judge.json with its hash, into the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(
            {name: shortest(tensor) for name, tensor in self.state_dict().items()},
            folder / JUDGE_WEIGHTS_FILE,
        )
        digest = sha256((folder / JUDGE_WEIGHTS_FILE).read_bytes()).hexdigest()
        self.card = self.card.model_copy(update={"sha256": digest})
        (folder / JUDGE_FILE).write_text(self.card.model_dump_json(indent=2) + "\n")


def _even_light(x: Tensor) -> Tensor:
    """Every picture with mean 0 and deviation about 1: light and skin say nothing about a state."""
    return (x - x.mean((1, 2, 3), keepdim=True)) / (x.std((1, 2, 3), keepdim=True) + 0.05)


def _sized(x: Tensor, side: int) -> Tensor:
    """Faces of another size than the judge's, resampled to it as the database does it: larger ones
    area-averaged, smaller ones enlarged.
    """
    if x.shape[-1] == side:
        return x
    return (
        F.interpolate(x, (side, side), mode="area")
        if x.shape[-1] > side
        else F.interpolate(x, (side, side), mode="bilinear")
    )
