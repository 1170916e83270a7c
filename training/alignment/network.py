"""The landmark network: from the crop of a box to five points, a confidence and defects; a quarter
of a million weights.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affect.landmarks import INPUT_PX

DEFECTS = 3  # eyes hidden, mouth hidden, drawn

MAP_PX = INPUT_PX // 2  # side of the maps that say where each point is


class LandmarkNet(nn.Module):
    """(B, 3, 64, 64) in [-1, 1] -> (B, 14): five points x, y in shares of the crop, the logit of
    "a face", and those of eyes hidden, mouth hidden and "drawn, not photographed".

    Down to 4 px for the whole face, up again to 32 px for the place; a point is the mean of its
    map's distribution (soft-argmax: Nibali et al., 2018), exact far below a pixel of the map.
    """

    def __init__(self) -> None:
        super().__init__()
        self.at32 = _layer(3, 24, stride=2)
        self.at16 = nn.Sequential(_layer(24, 32, stride=2), _layer(32, 32))
        self.at8 = nn.Sequential(_layer(32, 64, stride=2), _layer(64, 64))
        self.at4 = nn.Sequential(_layer(64, 72, stride=2), _layer(72, 72))
        self.from4, self.from8, self.from16, self.from32 = (
            nn.Conv2d(n, m, 1) for n, m in ((72, 64), (64, 32), (32, 20), (24, 20))
        )
        self.up8, self.up16, self.up32 = (_layer(n, n) for n in (64, 32, 20))
        self.maps = nn.Conv2d(20, 5, 1)
        self.face = nn.Linear(72 * 16, 1)
        self.doubts = nn.Linear(72 * 16, DEFECTS)
        middles = (torch.arange(MAP_PX) + 0.5) / MAP_PX
        self.grid: Tensor
        self.register_buffer(
            "grid",
            torch.stack(torch.meshgrid(middles, middles, indexing="xy"), -1).reshape(-1, 2),
            persistent=False,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Before training the maps are flat, so every point lies in the middle."""
        at32 = self.at32(x)  # (B, 24, 32, 32)
        at16 = self.at16(at32)  # (B, 32, 16, 16)
        at8 = self.at8(at16)  # (B, 64, 8, 8)
        at4 = self.at4(at8)  # (B, 72, 4, 4)
        up8 = self.up8(at8 + _twice(self.from4(at4)))
        up16 = self.up16(at16 + _twice(self.from8(up8)))
        up32 = self.up32(self.from32(at32) + _twice(self.from16(up16)))
        weights = self.maps(up32).flatten(2).softmax(2)  # (B, 5, 1024)
        points = torch.matmul(weights, self.grid).flatten(1)  # (B, 10)
        flat = at4.flatten(1)  # (B, 1152)
        return torch.cat([points, self.face(flat), self.doubts(flat)], dim=1)


def _layer(in_channels: int, out_channels: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def _twice(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
