"""The two networks: a trunk that reads a face and a decoder that draws one.

Shape letters: B batch, S image side in px, K Action Units, C channels, Z latent, H features, E
identity. Neither network normalises (Huang et al., "The GAN is dead; long live the GAN!", R3GAN,
2024): residual branches start at zero instead, so both begin as near-linear maps and second
derivatives stay defined for the gradient penalties.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affect.card import NetworkSize

FEATURES = 256  # H: width of the vector that every head but the latent reads
IDENTITY = 32  # E: length of the identity embedding
SMALLEST_PX = 4
PATCH_CHANNELS = 64


def stages(image_px: int) -> int:
    """How many resolutions lie between image_px and 4 px, both counted.

    Raises ValueError unless image_px is 4 * 2**n.
    """
    count = (image_px // SMALLEST_PX).bit_length()
    if image_px != SMALLEST_PX << (count - 1):
        raise ValueError(f"image_px is {image_px}; choose a power of two of at least 8")
    return count


def activate(x: Tensor) -> Tensor:
    """Leaky ReLU, slope 0.2, as in both the seed's discriminator and R3GAN."""
    return F.leaky_relu(x, 0.2)


def double(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, C, 2 h, 2 w), bilinear, in x's own precision: autocast would leave every
    map after it in float32.
    """
    with torch.autocast(x.device.type, enabled=False):
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def modulated(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """(B, C, h, w) times 1 + scale (B, C), plus shift (B, C)."""
    factor, width = 1 + scale, x.shape[3]
    if not x.is_contiguous(memory_format=torch.channels_last):
        return x * factor[:, :, None, None] + shift[:, :, None, None]
    # Channels last, the axis that lies together in memory is short; with the numbers of a whole row
    # repeated the same takes an eighth of the time on a processor, and gives the same bits.
    rows = x.permute(0, 2, 3, 1).flatten(2)  # (B, h, w * C)
    changed: Tensor = rows * factor.repeat(1, width)[:, None] + shift.repeat(1, width)[:, None]
    return changed.view(*rows.shape[:2], width, -1).permute(0, 3, 1, 2)


class Residual(nn.Module):
    """x + conv(act(conv(act(x)))), the last convolution starting at zero.

    (B, C, h, w) -> the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(
        self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None
    ) -> Tensor:
        """`scale` and `shift` (B, C) modulate the input of the branch (FiLM, Perez et al. 2018)."""
        branch = x if scale is None or shift is None else modulated(x, scale, shift)
        change: Tensor = self.second(activate(self.first(activate(branch))))
        return x + change


class Trunk(nn.Module):
    """The shared body of critic, predictor and encoder. Channels from the picture down to 4 px."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels[0], 3, padding=1)
        self.down = nn.ModuleList(
            nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(channels)
        )
        self.blocks = nn.ModuleList(Residual(c) for c in channels[1:])

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, S, S) in [-1, 1] -> feature maps from S px down to 4 px."""
        maps = [self.stem(x)]  # (B, C0, S, S)
        for down, block in zip(self.down, self.blocks, strict=True):
            maps.append(block(down(activate(maps[-1]))))  # (B, Ci, S / 2**i, S / 2**i)
        return maps


class Condition(nn.Module):
    """Embeds a label row with its mask: 0 is a value, "not known" is another thing, so both are
    given.
    """

    def __init__(self, labels: int, width: int) -> None:
        super().__init__()
        self.labels = labels
        self.net = nn.Sequential(
            nn.Linear(3 * labels, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, width),
            nn.LeakyReLU(0.2),
        )

    def forward(self, y: Tensor, change: Tensor | None = None) -> Tensor:
        """(B, K + 2) labels, NaN = unknown, and the wanted change of state (B, K + 2) or none ->
        (B, width).
        """
        is_known = ~torch.isnan(y)
        move = torch.zeros_like(y) if change is None else torch.nan_to_num(change)
        embedded: Tensor = self.net(
            torch.cat([torch.nan_to_num(y), is_known.to(y.dtype), move], dim=1)
        )
        return embedded


class Decoder(nn.Module):
    """Draws a face from a latent and a condition; with a face's feature maps it changes that face
    instead.

    One set of weights serves generate (no maps), reference and explain (maps through gated skips),
    because a decoder without skips loses the detail of a given face and an editor without a latent
    cannot draw a new one.
    """

    def __init__(
        self, channels: Sequence[int], skips: Sequence[int], latent: int, condition: int
    ) -> None:
        super().__init__()
        style = 2 * condition
        self.start = nn.Linear(latent + condition, channels[0] * SMALLEST_PX**2)
        self.style = nn.Sequential(nn.Linear(latent + condition, style), nn.LeakyReLU(0.2))
        self.narrow = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in pairwise(channels))
        self.blocks = nn.ModuleList(Residual(c) for c in channels)
        self.modulate = nn.ModuleList(nn.Linear(style, 2 * c) for c in channels)
        self.skips = nn.ModuleList(nn.Conv2d(s, c, 1) for s, c in zip(skips, channels, strict=True))
        self.draw = nn.Conv2d(channels[-1], 3, 3, padding=1)
        self.change = nn.Conv2d(channels[-1], 3, 3, padding=1)
        nn.init.zeros_(self.change.weight)
        assert self.change.bias is not None
        nn.init.zeros_(self.change.bias)
        for parameter in self.modulate.parameters():
            nn.init.zeros_(parameter)

    def forward(
        self, z: Tensor, c: Tensor, maps: Sequence[Tensor] | None = None, gate: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """z (B, Z), c (B, condition), maps of the trunk from S px to 4 px, gate (B,) in {0, 1} that
        lets them in.

        Returns (drawn (B, 3, S, S) in [-1, 1], change (B, 3, S, S) to add to the face that the maps
        belong to).
        """
        additions: Iterable[Tensor] = () if maps is None else self.additions(maps)
        if gate is not None:
            additions = (skip * gate.to(skip.dtype)[:, None, None, None] for skip in additions)
        x = self._features(z, c, additions)
        return torch.tanh(self.draw(x)), self.change(x)

    def additions(self, maps: Sequence[Tensor]) -> Iterator[Tensor]:
        """What the maps of faces, from S px to 4 px, add at each level, from 4 px to S px. It is
        the same for every edit of a face.
        """
        for skip, level in zip(self.skips, reversed(maps), strict=True):
            yield skip(activate(level))

    def changes(self, z: Tensor, c: Tensor, additions: Iterable[Tensor]) -> Tensor:
        """The change (B, 3, S, S) alone, of faces whose `additions` are known."""
        change: Tensor = self.change(self._features(z, c, additions))
        return change

    def _features(self, z: Tensor, c: Tensor, additions: Iterable[Tensor]) -> Tensor:
        """(B, C, S, S); without a given face there are no additions."""
        code = torch.cat([z, c], dim=1)
        style = self.style(code)  # (B, 2 * condition)
        x = self.start(code).unflatten(1, (-1, SMALLEST_PX, SMALLEST_PX))  # (B, C0, 4, 4)
        of_level = iter(additions)
        for level, (block, modulate) in enumerate(zip(self.blocks, self.modulate, strict=True)):
            if level:
                x = double(self.narrow[level - 1](x))
            if (skip := next(of_level, None)) is not None:
                x = x + skip
            scale, shift = modulate(style).chunk(2, dim=1)
            x = block(x, scale, shift)  # (B, Ci, 4 * 2**i, 4 * 2**i)
        return activate(x)


class Heads(nn.Module):
    """What the trunk's last map says: AU logits, VA, latent, identity and the critic's score."""

    def __init__(self, channels: int, labels: int, size: NetworkSize) -> None:
        super().__init__()
        flat = channels * SMALLEST_PX**2
        self.features = nn.Linear(flat, FEATURES)
        self.aus = nn.Linear(FEATURES, labels - 2)
        self.va = nn.Linear(FEATURES, 2)
        self.latent = nn.Linear(flat, size.latent)
        self.identity = nn.Linear(flat, IDENTITY)
        self.critic = nn.Linear(FEATURES, 1)
        self.project = nn.Linear(size.condition, FEATURES)
        for head in (self.aus, self.va, self.critic):
            nn.init.normal_(head.weight, std=0.01)
            nn.init.zeros_(head.bias)

    def forward(self, last: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """(B, C, 4, 4) -> logits (B, K), va (B, 2) in [-1, 1], latent (B, Z), identity (B, E) of
        length 1, features (B, H).
        """
        flat = activate(last).flatten(1)
        h = activate(self.features(flat))
        return (
            self.aus(h),
            torch.tanh(self.va(h)),
            self.latent(flat),
            self._identity(flat),
            h,
        )

    def identify(self, last: Tensor) -> Tensor:
        """(B, C, 4, 4) -> the identity (B, E) alone."""
        return self._identity(activate(last).flatten(1))

    def _identity(self, flat: Tensor) -> Tensor:
        return F.normalize(self.identity(flat), dim=1)

    def score(self, h: Tensor, condition: Tensor) -> Tensor:
        """Projection critic (Miyato & Koyama, cGANs with Projection Discriminator, 2018): w.h +
        <psi(y), h> / sqrt(H). (B,)
        """
        score: Tensor = (
            self.critic(h).squeeze(1) + (self.project(condition) * h).sum(1) / FEATURES**0.5
        )
        return score


class PatchCritic(nn.Module):
    """Scores each place of one of the trunk's maps (Isola et al. 2017, arXiv 1611.07004): hair,
    teeth and lashes are judged where they are, which one score for the whole face is blind to.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(channels, PATCH_CHANNELS, 3, padding=1)
        self.score = nn.Conv2d(PATCH_CHANNELS, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, h * w)."""
        scores: Tensor = self.score(activate(self.mix(activate(x))))
        return scores.flatten(1)
