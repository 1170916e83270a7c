"""One training step: every loss of a batch of pairs, in one sum with one backward pass.

L = L_aux(x) + L_id + L_rec(G(E(x), y*), x*) + L_read(x~)
    + [ D: softplus(c(x~) - c(x)) + gamma/2 (R1 + R2) | G: softplus(c(x) - c(x~)) ]

and for faces without a twin x*, which have no L_rec when they move, a way back instead
(training/gan/cycle.py).

The step only returns values; who logs or applies them is the loop's business. On several processes
every value is that of the whole batch (training/gan/distributed.py), and nothing here waits for the
device. Shape letters: B pairs, S side in px, K Action Units, Z latent.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from affect.model import AffectModel, ModelOutput
from affect.reading_network import ReadingOutput
from affect.rows import take_rows
from training.gan import losses
from training.gan.augmentation import augment_pairs, corrupt
from training.gan.config import TrainConfig
from training.gan.cycle import add_noise, cycle_loss, moving
from training.gan.distributed import Ranks, StepRandom
from training.gan.reading_augmentation import augment_strongly
from training.gan.reading_losses import (
    ReadingTargets,
    consistency_loss,
    reading_loss,
    twin_loss,
)


@dataclass(frozen=True)
class Pairs:
    """Faces x and their twins as the networks see them. The twin of a face that has none is
    somebody else, in the state it may move to.
    """

    x: Tensor  # (B, 3, S, S) in [-1, 1]
    y: Tensor  # (B, K + 2), NaN = unknown
    twin: Tensor  # (B, 3, S, S)
    twin_y: Tensor  # (B, K + 2)
    paired: Tensor  # (B,) bool: the twin is the same person in the same scene
    targets: ReadingTargets | None = (
        None  # of the B faces, then of their twins, for a reading network
    )
    photographs: int = 0  # so many last rows show people: read and edited, never drawn anew
    # whether any face of the data has no twin; a fact of the data and not of the batch, so that
    # ranks agree
    twinless: bool = False


@dataclass(frozen=True)
class GeneratorOutput:
    """What the decoder drew this step, and what each picture should have been."""

    x: Tensor  # (R, 3, S, S)
    y: Tensor  # (R, K + 2) its condition
    z: Tensor  # (R, Z) its latent
    real: Tensor  # (R,) index of the pair whose twin is its relativistic opponent
    edited: Tensor  # (R,) bool: through the skips of its pair's face, not from the latent alone
    # the first `copies` rows should equal their pair's twin, unless they moved; the others are new
    # people
    copies: int


def step_losses(
    model: AffectModel,
    pairs: Pairs,
    config: TrainConfig,
    *,
    progress: float,
    step: int,
    rng: StepRandom,
) -> dict[str, Tensor]:
    """Weighted losses by name (scalars); their sum is what to minimise. `progress` in [0, 1] opens
    reader and critic.
    """
    ranks = rng.ranks
    values = {} if model.reader is None else _reading(model, pairs, config, rng)
    if not config.draws and model.reader is not None:
        return values
    x, twin = augment_pairs(pairs.x, pairs.twin, config, rng)
    photograph = torch.arange(len(x), device=x.device) >= len(x) - pairs.photographs
    edits = (rng.rand(len(x)) < config.edited) | photograph
    still = edits & (rng.rand(len(x)) < config.still)
    spoilt = ~edits & (rng.rand(len(x)) < config.corrupted)
    seen = torch.where(spoilt[:, None, None, None], corrupt(x, rng), x)
    twin_y, moved = pairs.twin_y, None
    if pairs.twinless and config.draws:
        moved = moving(pairs.paired, edits, still, config, rng) & (progress >= config.reader_from)
        own = ~pairs.paired & ~moved  # its own twin: to be drawn as it is
        twin, twin_y = _either(own, x, twin), torch.where(own[:, None], pairs.y, twin_y)

    both = torch.cat([pairs.y, twin_y])
    output = model.encode(torch.cat([seen, twin]), both, None)
    face, other = take_rows(output, slice(0, len(x))), take_rows(output, slice(len(x), None))
    values |= {
        "label": _label_loss(output, both, config, ranks),
        "identity": config.identity_weight
        * losses.identity_loss(
            ranks.gather(face.identity), ranks.gather(other.identity), ranks.gather(pairs.paired)
        ),
    }
    if model.reader is not None:
        face = _as_read(model, face, seen)
    if not config.draws:
        return values
    adversarial = progress >= config.adversary_from
    newcomers = (len(x) - pairs.photographs) // 2
    y = torch.where(still[:, None], face.labels.detach(), _jitter(twin_y, config.label_jitter, rng))
    drawn = _draw(model, seen, face, y, edits, newcomers=newcomers if adversarial else 0, rng=rng)
    copy = drawn.x[: drawn.copies]

    def goal(own: Tensor, others: Tensor, found: Tensor) -> Tensor:
        """What a drawn row should equal; what moved should equal nothing that is known, so it is
        held against itself.
        """
        wanted = _either(still, own, others)
        return wanted if moved is None else _either(moved, found.detach(), wanted)

    pixels = torch.where(edits, 1.0, config.latent_reconstruction)
    values["reconstruction"] = config.reconstruction_weight * ranks.mean(
        losses.reconstruction_loss(copy, goal(x, twin, copy), x, pixels)
    )
    if progress >= config.reader_from:
        with frozen(model.trunk, model.heads, model.condition, *_more(model)):
            read = model.read(
                drawn.x if moved is None else add_noise(drawn.x, moved, config, rng), drawn.y
            )
        copied = take_rows(read, slice(0, drawn.copies))
        values["drawn_label"] = config.drawn_label_weight * _label_loss(
            read, drawn.y, config, ranks
        )
        values["features"] = (
            config.feature_weight
            * losses.feature_loss(
                copied.maps[
                    1:
                ],  # the first is hardly more than the pixels, and the dearest to compare
                [
                    goal(*maps).detach()
                    for maps in zip(face.maps[1:], other.maps[1:], copied.maps[1:], strict=True)
                ],
                ranks.mean,
            )
        )
        values["latent"] = config.latent_weight * losses.latent_loss(
            ranks.gather(read.latent), ranks.gather(drawn.z.detach())
        )
        if moved is not None:
            values |= _unpaired(model, x, pairs.y, face, copy, copied, edits, moved, config, ranks)
        if adversarial:
            values |= _adversary(model, twin, other, drawn, read, config, step, ranks)
    return values


def _reading(
    model: AffectModel, pairs: Pairs, config: TrainConfig, rng: StepRandom
) -> dict[str, Tensor]:
    """What the reading network learns from: both faces of each pair, photographs in two views."""
    assert model.reader is not None and pairs.targets is not None
    count, people, ranks = len(pairs.x), pairs.photographs, rng.ranks
    again = torch.arange(count - people, count, device=pairs.x.device)
    rows = torch.cat([torch.arange(2 * count, device=pairs.x.device), again, again + count])
    faces = torch.cat([pairs.x, pairs.twin])[rows]
    seen, turned = augment_strongly(faces, rng, config.reader_augmentation)
    targets = pairs.targets.map(lambda column: column[rows])
    targets = targets.turned(turned.mirrored, turned.degrees).map(ranks.gather)
    with learning(model.reader):
        output = model.reader(seen.contiguous(memory_format=torch.channels_last)).map(ranks.gather)
    paired, count = ranks.gather(pairs.paired), count * ranks.world
    values = {
        "reading": reading_loss(output, targets, config.au_weight, config.va_weight),
        "twins": config.twin_weight * twin_loss(output, targets.labels, paired),
    }
    if people:
        people *= ranks.world
        first = torch.cat(
            [torch.arange(count - people, count), torch.arange(2 * count - people, 2 * count)]
        )
        first = first.to(seen.device)
        views = (_cut(output, first), _cut(output, slice(2 * count, None)))
        values["consistency"] = config.consistency_weight * consistency_loss(*views)
    return values


def _cut(output: ReadingOutput, rows: Tensor | slice) -> ReadingOutput:
    return output.map(lambda column: column[rows])


@torch.no_grad()
def _as_read(model: AffectModel, face: ModelOutput, x: Tensor) -> ModelOutput:
    """The faces with the state that the reading network sees, as when they are edited in
    service.
    """
    state = model.read_state(x)
    return replace(face, logits=state.logits, va=state.va)


def _more(model: AffectModel) -> list[nn.Module]:
    """The networks that not every model has."""
    return [network for network in (model.reader, model.patch_critic) if network is not None]


@contextmanager
def learning(network: nn.Module) -> Iterator[None]:
    """Within, batch statistics are of the batch and are gathered; elsewhere the network only
    reads.
    """
    network.train()
    try:
        yield
    finally:
        network.eval()


def _draw(
    model: AffectModel,
    seen: Tensor,
    face: ModelOutput,
    y: Tensor,
    edits: Tensor,
    *,
    newcomers: int,
    rng: StepRandom,
) -> GeneratorOutput:
    """Each face moved to its state y (through the skips where `edits`), then `newcomers` people in
    the same states.
    """
    count = len(seen)
    move = (y - face.labels.detach()) * edits[:, None]
    z = face.latent
    real = torch.arange(count, device=seen.device)
    if newcomers:
        people = model.latents_of(rng.randn(newcomers, len(model.latent_mean)))
        z, y, real = (
            torch.cat([z, people]),
            torch.cat([y, y[:newcomers]]),
            torch.cat([real, real[:newcomers]]),
        )
        move = torch.cat([move, torch.zeros_like(move[:newcomers])])
    edited = torch.cat([edits, edits.new_zeros(newcomers)])
    maps = [
        torch.cat([level, level.new_zeros(newcomers, *level.shape[1:])]) if newcomers else level
        for level in face.maps
    ]
    condition = model.decoder_condition(model.mask(y), model.mask(move))
    new, change = model.decoder(z, condition, maps, edited.to(seen.dtype))
    copies = _either(edits, (seen + change[:count].float()).clamp(-1, 1), new[:count].float())
    return GeneratorOutput(torch.cat([copies, new[count:].float()]), y, z, real, edited, count)


def _unpaired(
    model: AffectModel,
    x: Tensor,
    y: Tensor,
    face: ModelOutput,
    copy: Tensor,
    copied: ModelOutput,
    edits: Tensor,
    moved: Tensor,
    config: TrainConfig,
    ranks: Ranks,
) -> dict[str, Tensor]:
    """What moved without a twin to compare with must come back, and be known for the same person:
    its picture stands in for the twin.
    """
    back = cycle_loss(model, x, y, face, copy, copied, edits=edits, moved=moved)
    known = losses.identity_loss(
        ranks.gather(face.identity), ranks.gather(copied.identity), ranks.gather(moved)
    )
    return {"cycle": config.cycle_weight * ranks.mean(back), "kept": config.identity_weight * known}


def _adversary(
    model: AffectModel,
    twin: Tensor,
    other: ModelOutput,
    drawn: GeneratorOutput,
    read: ModelOutput,
    config: TrainConfig,
    step: int,
    ranks: Ranks,
) -> dict[str, Tensor]:
    """The game: the critic on real twins against drawn faces in the same state, and the decoder
    against the frozen critic.
    """
    fake = drawn.x.detach()
    found = model.encode(fake, drawn.y, None)
    weight = torch.where(drawn.edited, config.adversary_weight, config.latent_adversary_weight)
    real, places = other.critic[drawn.real], model.patches(other)[drawn.real]
    with frozen(*_more(model)):
        wanted = model.patches(read)
    values = {
        "critic": ranks.mean(
            losses.relativistic(real, found.critic)
            + losses.relativistic(places, model.patches(found))
        ),
        "encoder": config.latent_weight
        * losses.latent_loss(ranks.gather(found.latent), ranks.gather(drawn.z.detach())),
        "generator": ranks.mean(
            losses.relativistic(read.critic, real.detach(), weight)
            + losses.relativistic(wanted, places.detach(), weight)
        ),
    }
    if step % config.penalty_every == 0:
        rows = min(ranks.share(config.penalty_rows, "penalty_rows"), len(twin))
        with torch.autocast(fake.device.type, enabled=False):
            penalty = _penalty(model, twin[:rows], drawn.y[:rows]) + _penalty(
                model, fake[-rows:], drawn.y[-rows:]
            )
        values["penalty"] = config.penalty_every * config.gamma / 2 * ranks.mean(penalty)
    return values


def _label_loss(output: ModelOutput, y: Tensor, config: TrainConfig, ranks: Ranks) -> Tensor:
    logits, va, y = (ranks.gather(rows) for rows in (output.logits, output.va, y))
    return losses.label_loss(logits, va, y, config.au_weight, config.va_weight)


def _penalty(model: AffectModel, x: Tensor, y: Tensor) -> Tensor:
    def score(images: Tensor) -> Tensor:
        output = model.encode(images, y, None)
        places = model.patches(output)
        # Over the root of their number, so that each place is held as steady as the whole.
        steady: Tensor = places.sum(1) / max(places.shape[1], 1) ** 0.5
        return output.critic + steady

    return losses.gradient_penalty(score, x)


def _jitter(y: Tensor, sd: float, rng: StepRandom) -> Tensor:
    noisy = y + sd * rng.randn(*y.shape)
    return torch.cat([noisy[:, :-2].clamp(0, 1), noisy[:, -2:].clamp(-1, 1)], dim=1)


def _either(rows: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Rows (B, C, h, w) of a where `rows` (B,), else of b."""
    return torch.where(rows[:, None, None, None], a, b)


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Within, these modules pass gradients through but gather none: the decoder learns from the
    reader, not the reverse.
    """
    parameters = [parameter for module in modules for parameter in module.parameters()]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
