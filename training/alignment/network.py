"""A quarter of a million weights: box crop in, five points and a confidence out."""

import torch
from torch import Tensor, nn

from affect.faces import INPUT_PX


class LandmarkNet(nn.Module):
    """(B, 3, 64, 64) in [-1, 1] -> (B, 11): five points x, y in shares of the crop, and the logit of "a face"."""

    def __init__(self) -> None:
        super().__init__()
        steps = ((3, 16, 2), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 80, 2))
        layers: list[nn.Module] = []
        for before, after, stride in steps:
            layers += [nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(80 * (INPUT_PX // 16) ** 2, 96), nn.ReLU(inplace=True), nn.Linear(96, 11))

    def forward(self, x: Tensor) -> Tensor:
        """Points are predicted around the middle, so an untrained network points there."""
        out = self.head(self.features(x))
        return torch.cat([out[:, :10] * 0.25 + 0.5, out[:, 10:]], dim=1)
