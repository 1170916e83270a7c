"""The seed paper's own networks (Richer & Kollias, arXiv 1910.05877; code of the first author,
2018-2020), as a baseline.

An unconditional generator of 32 px faces and a discriminator with one output a label and one for
"drawn". They read and draw behind the same interface as `AffectModel`, so the same commands train,
evaluate and archive them. Unsupported operations are explicit: nothing is encoded (the latent of
every face is 0), the wanted state is ignored, and an edit leaves a face as it is.

Shape letters: B batch, K Action Units, Z latent.
"""

from collections.abc import Iterable
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from affect.card import CardError, ModelCard, NetworkSize
from affect.model import AffectModel, ModelOutput

IMAGE_PX = 32
DROPOUT = 0.5


class Ssgan2019(AffectModel):
    """Generator and discriminator of 2019.

    Train with `train()` mode on: only then do dropout and batch statistics act.
    """

    reader = None

    def _networks(self, card: ModelCard) -> None:
        if card.image_px != IMAGE_PX:
            raise CardError(
                f"image_px is {card.image_px}; the networks of ssgan2019 are made for {IMAGE_PX}"
            )
        self.generator = _Generator(card.network)
        self.discriminator = _Discriminator(card.network, len(card.vocabulary) + 3)

    def outputs(self, x: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Faces (B, 3, 32, 32) -> label outputs (B, K + 2) before any squashing, the logit of
        "drawn" (B,), and the feature maps.
        """
        out, maps = self.discriminator(x)
        return out[:, :-1], out[:, -1], maps

    def read(self, x: Tensor, y: Tensor | None = None) -> ModelOutput:
        """As `AffectModel.read`.

        VA is clamped: it is fitted without the tanh that the first author's code puts on at the
        end.
        """
        labels, images, maps = self.outputs(x)
        features = maps[-1].float().mean((2, 3))
        latent = features.new_zeros(len(x), self.card.network.latent)
        va = labels[:, -2:].float().clamp(-1, 1)
        return ModelOutput(
            labels[:, :-2].float(),
            va,
            latent,
            F.normalize(features, dim=1),
            -images.float(),
            features,
            tuple(maps),
            *_nothing_more(features),
        )

    def identify(self, x: Tensor) -> Tensor:
        """As `AffectModel.identify`."""
        return self.read(x).identity

    def generate(self, z: Tensor, y: Tensor) -> Tensor:
        """Faces (B, 3, 32, 32) of z (B, Z); the state y changes nothing."""
        images: Tensor = self.generator(z)
        return images

    def edit(
        self,
        x: Tensor,
        y_to: Tensor,
        y_from: Tensor | None = None,
        output: ModelOutput | None = None,
        additions: Iterable[Tensor] | None = None,
    ) -> Tensor:
        """The faces as they are."""
        return x.clone()

    def additions(self, output: ModelOutput) -> Iterable[Tensor]:
        """Nothing."""
        return ()

    def sample_latents(self, count: int, generator: Generator) -> Tensor:
        """(count, Z) uniform in (-1, 1)."""
        noise = torch.rand(
            count, self.card.network.latent, generator=generator, device=generator.device
        )
        return (2 * noise - 1).to(self.latent_mean.device)


def _nothing_more(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Expression, pose and sides, which the paper's model does not read."""
    none = features.new_zeros(len(features), 0)
    return none, none, features.new_zeros(len(features), 2, 0)


class _Generator(nn.Module):
    """Transposed convolutions without padding, 1 -> 2 -> 6 -> 14 -> 32 px; ReLU and batch norm
    between, tanh at the end.
    """

    def __init__(self, size: NetworkSize) -> None:
        super().__init__()
        first, second, third = size.decoder
        self.net = nn.Sequential(
            *(nn.ConvTranspose2d(size.latent, first, 2), nn.BatchNorm2d(first), nn.ReLU()),
            *(nn.ConvTranspose2d(first, second, 4, stride=2), nn.BatchNorm2d(second), nn.ReLU()),
            *(nn.ConvTranspose2d(second, third, 4, stride=2), nn.BatchNorm2d(third), nn.ReLU()),
            nn.ConvTranspose2d(third, 3, 6, stride=2),
            nn.Tanh(),
        )

    def forward(self, z: Tensor) -> Tensor:
        """(B, Z) -> (B, 3, 32, 32) in [-1, 1]."""
        images: Tensor = self.net(z[:, :, None, None])
        return images


class _Discriminator(nn.Module):
    """Convolutions 5 x 5 of stride 2, leaky ReLU, batch norm and dropout, 32 -> 4 px, then one
    linear layer.
    """

    def __init__(self, size: NetworkSize, outputs: int) -> None:
        super().__init__()
        widths = (3, *size.trunk)
        self.levels = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(a, b, 5, stride=2, padding=2),
                nn.BatchNorm2d(b),
                nn.LeakyReLU(0.2),
                nn.Dropout(DROPOUT),
            )
            for a, b in pairwise(widths)
        )
        self.out = nn.Linear(size.trunk[-1] * (IMAGE_PX >> len(size.trunk)) ** 2, outputs)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, 3, 32, 32) -> outputs (B, K + 3) and the maps of every level."""
        maps: list[Tensor] = []
        for level in self.levels:
            x = level(x)
            maps.append(x)
        return self.out(x.flatten(1)), maps
