"""The categorical GAN as one object: read, predict, generate, edit, reconstruct, and save.

Shape letters: B batch, S image side in px, K Action Units, Z latent, M rows of the label table.
After Richer & Kollias (arXiv 1910.05877): one discriminator tells real from fake and predicts AU
and VA, one generator draws faces. Ours conditions the generator on AU and VA and lets the
discriminator's trunk encode the latent too.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from affect.card import (
    WEIGHTS_FILE,
    Calibration,
    CardError,
    DataSummary,
    ModelCard,
    NetworkSize,
)
from affect.catalogue import LABEL_SETS, ONE_SIDED
from affect.labels import EXPRESSIONS
from affect.networks import FEATURES, Condition, Decoder, Heads, PatchCritic, Trunk, stages
from affect.precision import shortest
from affect.reading_network import ReadingNetwork, ReadingOutput, with_mirrored

TABLE_ROWS = 4096  # M: label rows of real faces that stand for the training distribution
# how near, per asked label, a real row must lie to be drawn for it (standard deviation)
NEIGHBOURHOOD = 0.15


@dataclass(frozen=True)
class ModelOutput:
    """What the trunk reads off B faces. Every field is a tensor whose first axis is B."""

    logits: Tensor  # (B, K); sigmoid is the intensity
    va: Tensor  # (B, 2) in [-1, 1]
    latent: Tensor  # (B, Z) person and scene, not state
    identity: Tensor  # (B, E) of length 1
    critic: Tensor  # (B,) higher is more like a real face in that state
    features: Tensor  # (B, H) what realism is judged by
    maps: tuple[Tensor, ...]  # trunk's feature maps, from S px to 4 px
    expression: Tensor  # (B, E) logits of the card's expressions
    pose: Tensor  # (B, 3) degrees: yaw, pitch, roll; (B, 0) where not learnt
    sides: Tensor  # (B, 2, D) logits of left, then right, of the card's one-sided AUs

    @property
    def labels(self) -> Tensor:
        """(B, K + 2) intensities in [0, 1] and VA in [-1, 1] as a label row."""
        return torch.cat([torch.sigmoid(self.logits), self.va], dim=1)


@dataclass(frozen=True)
class Prediction:
    """A reading in the terms of the API. Tensors, first axis B."""

    intensity: Tensor  # (B, K) in [0, 1]
    probability: Tensor  # (B, K) calibrated probability that the AU is present
    present: Tensor  # (B, K) bool
    va: Tensor  # (B, 2) in [-1, 1]
    # (B,) in [0, 1]: share of real faces at least as far from the training distribution
    realism: Tensor
    expression: Tensor  # (B, E) probabilities of the card's expressions
    pose: Tensor  # (B, 3) degrees: yaw, pitch, roll; (B, 0) where not learnt
    sides: Tensor  # (B, 2, D) intensities of left, then right, of the card's one-sided AUs


class AffectModel(nn.Module):
    """Trunk, heads and decoder of one card. Build with `affect.factory`."""

    label_table: Tensor
    latent_mean: Tensor
    latent_factor: Tensor
    feature_mean: Tensor
    feature_whitener: Tensor
    nuisance_directions: Tensor
    nuisance_probes: Tensor

    def __init__(self, card: ModelCard) -> None:
        super().__init__()
        size, labels = card.network, len(card.vocabulary) + 2
        self.card = card
        self._networks(card)
        # Used in place of the networks where no gradients are needed (affect.runtime).
        self.forward_reader: Callable[[Tensor], ReadingOutput] | None = None
        self.forward_identity: Callable[[Tensor], Tensor] | None = None
        self.forward_decoder: Callable[[Tensor, Tensor], Tensor] | None = None
        self.register_buffer("label_table", torch.full((TABLE_ROWS, labels), float("nan")))
        self.register_buffer("latent_mean", torch.zeros(size.latent))
        self.register_buffer("latent_factor", torch.eye(size.latent))
        self.register_buffer("feature_mean", torch.zeros(FEATURES))
        self.register_buffer("feature_whitener", torch.eye(FEATURES))
        self.register_buffer("nuisance_directions", torch.zeros(len(card.nuisances), size.latent))
        self.register_buffer("nuisance_probes", torch.zeros(len(card.nuisances), size.latent + 1))
        self.register_load_state_dict_pre_hook(_as_written_before)  # type: ignore[no-untyped-call]
        # Absent in a run on one kind of label: given to both conditions as unknown, so that half is
        # never invented.
        known = torch.ones(labels, dtype=torch.bool)
        known[:-2] = card.learns_aus
        known[-2:] = card.learns_va
        self.register_buffer("known", known, persistent=False)
        self._calibrate(card)

    known: Tensor

    def _networks(self, card: ModelCard) -> None:
        """The parts with weights, as large as the card says."""
        size, labels = card.network, len(card.vocabulary) + 2
        if not len(size.trunk) == len(size.decoder) == stages(card.image_px):
            raise CardError(
                f"network has {len(size.trunk)} and {len(size.decoder)} stages; image_px "
                f"{card.image_px} needs {stages(card.image_px)}"
            )
        self.trunk = Trunk(size.trunk)
        self.heads = Heads(size.trunk[-1], labels, size)
        self.condition = Condition(labels, size.condition)  # psi of the critic
        self.decoder_condition = Condition(labels, size.condition)
        self.decoder = Decoder(size.decoder, size.trunk[::-1], size.latent, size.condition)
        self.patch_critic = (
            PatchCritic(size.trunk[self._patch_level(card)]) if size.patch_px else None
        )
        if size.reader:
            needed = stages(card.image_px) - (size.reader_kind == "residual")
            if len(size.reader) != needed:
                raise CardError(
                    f"network.reader has {len(size.reader)} stages; image_px {card.image_px} needs "
                    f"{needed}"
                )
            self.reader: ReadingNetwork | None = ReadingNetwork(
                size,
                aus=labels - 2,
                one_sided=len(card.one_sided),
                expressions=len(card.expressions),
                pose=card.pose,
            )
        else:
            self.reader = None

    @staticmethod
    def _patch_level(card: ModelCard) -> int:
        """Which of the trunk's maps has `patch_px`."""
        level = stages(card.image_px) - stages(card.network.patch_px)
        if level < 0:
            raise CardError(
                f"network.patch_px is {card.network.patch_px}; choose at most {card.image_px}"
            )
        return level

    def patches(self, output: ModelOutput) -> Tensor:
        """(B, P) the critic's score of each place, higher is more like a real face; P is 0
        without.
        """
        if self.patch_critic is None:
            return output.critic.new_zeros(len(output.critic), 0)
        scores: Tensor = self.patch_critic(output.maps[self._patch_level(self.card)]).float()
        return scores

    def _calibrate(self, card: ModelCard) -> None:
        table = [card.calibration[code] for code in card.vocabulary]
        values = torch.tensor([[c.scale, c.shift, c.threshold] for c in table]).view(-1, 3)
        self.register_buffer("platt", values, persistent=False)
        for name in ("critic", "strangeness"):
            quantiles = torch.tensor(card.reference.get(name, [0.0, 1.0]), dtype=torch.float32)
            self.register_buffer(f"{name}_quantiles", quantiles, persistent=False)

    platt: Tensor
    critic_quantiles: Tensor
    strangeness_quantiles: Tensor

    # -- files -------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write weights.safetensors and card.json (with the digest of the weights) into the folder.

        A tensor whose numbers all fit into two bytes (`affect.precision.round_to_bfloat16`) is
        stored so; `load` gives the same bits.
        """
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / WEIGHTS_FILE
        save_file({name: shortest(tensor) for name, tensor in self.state_dict().items()}, path)
        self.replace_card(self.card.model_copy(update={"digest": weights_digest(path)}))
        self.card.save(folder)

    def replace_card(self, card: ModelCard) -> None:
        """Replace the card by another of the same networks, with new calibration or reference."""
        self.card = card
        device = self.platt.device
        self._calibrate(card)
        self.to(device)

    @torch.no_grad()
    def learn_nuisances(self, names: Sequence[str], directions: Tensor, probes: Tensor) -> None:
        """Store the nuisances: for each of A names the direction in latent space from its first end
        to its second (A, Z), and the linear probe that maps a latent code to the position (0, 1)
        between them (A, Z + 1, the offset last).
        """
        assert directions.shape == (len(names), len(self.latent_mean)) and probes.shape == (
            len(names),
            len(self.latent_mean) + 1,
        )
        self.nuisance_directions, self.nuisance_probes = (
            rows.to(self.latent_mean) for rows in (directions, probes)
        )
        self.card = self.card.model_copy(update={"nuisances": tuple(names)})

    # -- pixels ------------------------------------------------------------------------------------

    @staticmethod
    def to_pixels(images: Tensor) -> Tensor:
        """uint8 (B, S, S, 3) -> float (B, 3, S, S) in [-1, 1], channels last in memory."""
        assert images.dtype == torch.uint8 and images.ndim == 4 and images.shape[-1] == 3, (
            images.shape
        )
        return images.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)

    @staticmethod
    def to_images(x: Tensor) -> Tensor:
        """float (B, 3, S, S) in [-1, 1] -> uint8 (B, S, S, 3)."""
        return (
            x.detach()
            .float()
            .add(1)
            .mul(127.5)
            .round()
            .clamp(0, 255)
            .to(torch.uint8)
            .permute(0, 2, 3, 1)
            .contiguous()
        )

    # -- reading -----------------------------------------------------------------------------------

    def read(self, x: Tensor, y: Tensor | None = None) -> ModelOutput:
        """Read B faces (B, 3, S, S).

        The critic scores them given state y (B, K + 2), or given the state it reads. What the
        card's reading network learnt is read off by it, else by the trunk.

        A card that says `mirrored` has the state read off each face and its mirror image, which
        show the same: the mean is nearer to the truth (docs/decisions/0015-mirrored.md).
        """
        if self.reader is not None:
            return self.encode(x, y, self.read_state(x))
        rows = len(x)
        maps = self.trunk(torch.cat([x, x.flip(3)]) if self.card.mirrored else x)
        logits, va, latent, identity, features = (part.float() for part in self.heads(maps[-1]))
        if self.card.mirrored:
            logits, va = (part.unflatten(0, (2, rows)).mean(0) for part in (logits, va))
            latent, identity, features, *maps = (
                part[:rows] for part in (latent, identity, features, *maps)
            )
        state = _state_of_trunk(logits, va, features)
        return self._output(state, latent, identity, features, maps, y)

    def read_state(self, x: Tensor) -> ReadingOutput:
        """What the reading network, or else the trunk, reads off B faces (B, 3, S, S); no latent,
        no maps.
        """
        if self.reader is None:
            r = self.read(x)
            return ReadingOutput(r.logits, r.va, r.expression, r.pose, r.sides, r.features)
        reader = self.forward_reader if not torch.is_grad_enabled() else None
        reader = reader or self.reader
        if not self.card.mirrored:
            return reader(x)
        return with_mirrored(reader(torch.cat([x, x.flip(3)])), len(x))

    def identify(self, x: Tensor) -> Tensor:
        """(B, E) of length 1: faces (B, 3, S, S) of one person lie near each other. The state is
        not read.
        """
        if self.forward_identity is not None and not torch.is_grad_enabled():
            return self.forward_identity(x)
        identity: Tensor = self.heads.identify(self.trunk(x)[-1]).float()
        return identity

    def encode(self, x: Tensor, y: Tensor | None, state: ReadingOutput | None) -> ModelOutput:
        """Trunk and heads of B faces, with the state as read elsewhere, or as the trunk's heads
        read it.
        """
        maps = self.trunk(x)
        logits, va, latent, identity, features = (part.float() for part in self.heads(maps[-1]))
        state = state or _state_of_trunk(logits, va, features)
        return self._output(state, latent, identity, features, maps, y)

    def _output(
        self,
        state: ReadingOutput,
        latent: Tensor,
        identity: Tensor,
        features: Tensor,
        maps: Sequence[Tensor],
        y: Tensor | None,
    ) -> ModelOutput:
        if y is None:
            y = state.labels.detach()
        critic = self.heads.score(features, self.condition(self.mask(y))).float()
        return ModelOutput(
            state.logits,
            state.va,
            latent,
            identity,
            critic,
            state.features,
            tuple(maps),
            state.expression,
            state.pose,
            state.sides,
        )

    def predict(self, x: Tensor) -> Prediction:
        """AU probabilities, VA, realism and more of B faces (B, 3, S, S).

        A reading network needs no trunk.
        """
        return self.calibrate(self.read(x) if self.reader is None else self.read_state(x))

    def calibrate(self, output: ModelOutput | ReadingOutput) -> Prediction:
        """A reading in the terms of the API: calibrated per AU (Platt 1999), realism as a
        percentile among real faces.
        """
        scale, shift, threshold = self.platt.unbind(1)
        probability = torch.sigmoid(output.logits * scale + shift)
        return Prediction(
            intensity=torch.sigmoid(output.logits),
            probability=probability,
            present=probability >= threshold,
            va=output.va,
            realism=self.realism(output),
            expression=output.expression.softmax(1),
            pose=output.pose,
            sides=torch.sigmoid(output.sides),
        )

    def realism(self, output: ModelOutput | ReadingOutput) -> Tensor:
        """(B,) share of the real faces in the card's reference that are at least as strange.

        By the critic in models of before strangeness was known to their card: it is trained to tell
        drawn faces from real ones and, unlike the distance, takes noise and empty scenes for faces
        (docs/decisions/0010-realism.md).
        """
        if isinstance(output, ReadingOutput) or "strangeness" in self.card.reference:
            quantiles = self.strangeness_quantiles
            strangeness = self.strangeness(output.features).contiguous()
            rank = len(quantiles) - torch.searchsorted(quantiles, strangeness)
        else:
            quantiles = self.critic_quantiles
            rank = torch.searchsorted(quantiles, output.critic.float().contiguous(), right=True)
        return rank.float() / len(quantiles)

    def strangeness(self, features: Tensor) -> Tensor:
        """(B,) Mahalanobis distance of features (B, H) from those of the faces it learnt from (Lee
        et al. 2018, one class), all of length 1 (Mueller & Hein 2025, arXiv 2505.18032): noise and
        empty scenes have short features, which lie near the mean of all faces.
        """
        centred = self.comparable(features) - self.feature_mean
        distance: Tensor = (centred @ self.feature_whitener.T).norm(dim=1)
        return distance

    def comparable(self, features: Tensor) -> Tensor:
        """Features (B, H) as `strangeness` compares them."""
        rows = features.float()
        return F.normalize(rows) if self.card.unit_features else rows

    def labels(self, x: Tensor) -> Tensor:
        """The state of B faces as label rows (B, K + 2)."""
        return self.read_state(x).labels

    def nuisance_positions(self, latent: Tensor) -> Tensor:
        """(B, A) where faces of latent codes (B, Z) stand between the two ends of each nuisance: 0
        the first, 1 the second, or beyond.
        """
        places: Tensor = latent @ self.nuisance_probes[:, :-1].T + self.nuisance_probes[:, -1]
        return places

    # -- drawing -----------------------------------------------------------------------------------

    def generate(self, z: Tensor, y: Tensor) -> Tensor:
        """Faces (B, 3, S, S) of persons z (B, Z) in states y (B, K + 2; NaN = unknown)."""
        condition = self.decoder_condition(self.mask(y))
        if self.forward_decoder is not None and not torch.is_grad_enabled():
            return self.forward_decoder(z, condition)
        images: Tensor = self.decoder(z, condition)[0]
        return images

    def edit(
        self,
        x: Tensor,
        y_to: Tensor,
        y_from: Tensor | None = None,
        output: ModelOutput | None = None,
        additions: Iterable[Tensor] | None = None,
    ) -> Tensor:
        """These faces (B, 3, S, S) moved to states y_to from y_from (default: as read).

        No move, nearly no change. `additions` are those of these faces, for who edits them several
        times.
        """
        output = output or self.read(x)
        start = output.labels if y_from is None else y_from
        condition = self.decoder_condition(self.mask(y_to), self.mask(y_to - start))
        additions = self.additions(output) if additions is None else additions
        change = self.decoder.changes(output.latent, condition, additions)
        return (x + change).clamp(-1, 1)

    def additions(self, output: ModelOutput) -> Iterable[Tensor]:
        """What the faces' own feature maps add to every edit of them (`Decoder.additions`)."""
        return self.decoder.additions(output.maps)

    def reconstruct(self, x: Tensor) -> Tensor:
        """The faces as the generator alone would draw them, from their latent and read state."""
        output = self.read(x)
        return self.generate(output.latent, output.labels)

    # -- the training distribution -----------------------------------------------------------------

    def sample_latents(self, count: int, generator: Generator) -> Tensor:
        """(count, Z) from the Gaussian fitted to the latents of real faces after training ("ex
        post", Ghosh et al. 2020).
        """
        noise = torch.randn(
            count, len(self.latent_mean), generator=generator, device=generator.device
        )
        return self.latents_of(noise.to(self.latent_mean.device))

    def latents_of(self, noise: Tensor) -> Tensor:
        """Standard normal (B, Z) in the place and shape of that Gaussian."""
        latents: Tensor = self.latent_mean + noise @ self.latent_factor.T
        return latents

    def sample_labels(self, requested: Tensor, generator: Generator) -> Tensor:
        """Complete (B, K + 2) requested labels: NaN is filled from a real face's row, likelier the
        nearer that row is to the request.
        """
        table = self.label_table[~torch.isnan(self.label_table[:, self.known]).any(1)]
        if not len(table):
            raise CardError("label_table is empty: the run that wrote these weights did not finish")
        is_requested = ~torch.isnan(requested)
        distance: Tensor = (
            is_requested[:, None]
            * (torch.nan_to_num(requested)[:, None] - torch.nan_to_num(table)[None]) ** 2
        ).sum(2)  # (B, M)
        weights = torch.softmax(-distance / (2 * NEIGHBOURHOOD**2), dim=1)
        rows = torch.multinomial(weights.to(generator.device), 1, generator=generator).squeeze(1)
        return torch.where(is_requested, requested, table[rows.to(table.device)])

    def target_labels(self, read: Tensor, requested: Tensor, generator: Generator) -> Tensor:
        """The state a given face should move to.

        Shapes (B, K + 2); `requested` is NaN where nothing is requested.

        What is requested is set. Other AUs stay as read, unless valence or arousal is requested:
        then they follow a real face of that valence and arousal. Valence and arousal that are not
        requested follow the AUs in the same way.
        """
        va_requested = ~torch.isnan(requested[:, -2:]).all(1, keepdim=True)
        target = requested.clone()
        target[:, :-2] = torch.where(
            torch.isnan(requested[:, :-2]) & ~va_requested, read[:, :-2], requested[:, :-2]
        )
        unconstrained = torch.isnan(requested).all(1, keepdim=True)
        return torch.where(unconstrained, read, self.sample_labels(target, generator))

    def mask(self, y: Tensor) -> Tensor:
        """(B, K + 2) rows with NaN in place of the kind of label that this model was not trained
        on.
        """
        return torch.where(self.known, y, torch.full_like(y, float("nan")))


def _state_of_trunk(logits: Tensor, va: Tensor, features: Tensor) -> ReadingOutput:
    """What the trunk's heads read, with nothing where they have no output."""
    none = logits.new_zeros(len(logits), 0)
    return ReadingOutput(logits, va, none, none, logits.new_zeros(len(logits), 2, 0), features)


def smoke_card(
    *,
    image_px: int = 32,
    vocabulary: tuple[str, ...] = LABEL_SETS["seed"],
    labels: Literal["au", "va", "both"] = "both",
    reader: bool = False,
) -> ModelCard:
    """The card of a tiny untrained model, for tests and for the `smoke` preset."""
    count = stages(image_px)
    return ModelCard(
        version="0.0",
        labels=labels,
        vocabulary=vocabulary,
        image_px=image_px,
        network=NetworkSize(
            trunk=(8,) * 1 + (16,) * (count - 1),
            decoder=(16,) * (count - 1) + (8,),
            latent=16,
            condition=16,
            reader=(8,) + (16,) * (count - 2) if reader else (),
        ),
        expressions=EXPRESSIONS if reader else (),
        pose=reader,
        one_sided=tuple(code for code in vocabulary if code in ONE_SIDED) if reader else (),
        calibration={code: Calibration() for code in vocabulary},
        data=DataSummary(
            name="none", images=0, sources=(), licence="Apache-2.0", positive_intensity=0.3
        ),
    )


def _as_written_before(model: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Weights of before these were kept load all the same; their card holds no strangeness, and no
    nuisances.
    """
    for name in ("feature_mean", "feature_whitener", "nuisance_directions", "nuisance_probes"):
        state.setdefault(prefix + name, model.get_buffer(name))


def weights_digest(path: Path) -> str:
    """SHA-256 of a weights file, as its card carries it."""
    return sha256(path.read_bytes()).hexdigest()
