"""One training step: every loss of a batch of pairs, in one sum with one backward pass.

L = L_aux(x) + L_id + L_rec(G(E(x), y*), x*) + L_read(x~)
    + [ D: softplus(c(x~) - c(x)) + gamma/2 (R1 + R2) | G: softplus(c(x) - c(x~)) ]

and for faces without a twin x*, which have no L_rec when they move, a cycle loss instead
(training/gan/cycle.py).

The step only returns values; the loop logs and applies them. On several processes every value is
that of the whole batch (training/gan/distributed.py), and nothing here waits for the device. Shape
letters: B pairs, S side in px, K Action Units, Z latent.
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
from training.gan.cycle import MovedFaces, add_noise, cycle_loss, moving
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
    # of the B faces, then of their twins, for a reading network
    targets: ReadingTargets | None = None
    # so many last rows are photographs: read and edited, never drawn from the latent alone
    photographs: int = 0
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
    # (B, 3, S, S) the first rows of x: each should equal its pair's twin, unless it moved; the
    # others are new people
    copy: Tensor


@dataclass(frozen=True)
class _Step:
    """The context of one step."""

    model: AffectModel
    config: TrainConfig
    rng: StepRandom
    progress: float  # in [0, 1]
    number: int

    @property
    def ranks(self) -> Ranks:
        return self.rng.ranks

    @property
    def adversarial(self) -> bool:
        return self.progress >= self.config.adversary_from


@dataclass(frozen=True)
class _Views:
    """The pairs as augmented for this step, and the task of each face."""

    x: Tensor  # (B, 3, S, S) augmented
    corrupted: Tensor  # (B, 3, S, S) x, some of them corrupted
    y: Tensor  # (B, K + 2)
    twin: Tensor  # (B, 3, S, S)
    twin_y: Tensor  # (B, K + 2)
    edits: Tensor  # (B,) bool: drawn through the skips of the face
    still: Tensor  # (B,) bool: edits that ask for no change
    moved: Tensor | None  # (B,) bool: without a twin, to another state; None where all have one
    rendered: int  # so many first rows may be drawn anew

    def goal(self, face: Tensor, twin: Tensor, copied: Tensor) -> Tensor:
        """The target of a drawn row; moved rows have no known target, so they are compared with
        themselves.
        """
        target = _either(self.still, face, twin)
        return target if self.moved is None else _either(self.moved, copied.detach(), target)


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
    this = _Step(model, config, rng, progress, step)
    values = {} if model.reader is None or not config.reads else _reading(this, pairs)
    if not config.draws and model.reader is not None:
        return values
    views = _views(this, pairs)
    face, other, read_off = _encode(this, pairs, views)
    values |= read_off
    if not config.draws:
        return values
    if model.reader is not None:
        face = _as_read(model, face, views.corrupted)
    drawn = _draw(this, views, face)
    values["reconstruction"] = _reconstruction(this, views, drawn)
    if progress >= config.reader_from:
        values |= _read_back(this, views, face, other, drawn)
    return values


# -- reading ---------------------------------------------------------------------------------------


def _reading(step: _Step, pairs: Pairs) -> dict[str, Tensor]:
    """What the reading network learns from: both faces of each pair, photographs in two views."""
    reader, config, ranks = step.model.reader, step.config, step.ranks
    assert reader is not None and pairs.targets is not None
    count, photographs = len(pairs.x), pairs.photographs
    photograph_rows = torch.arange(count - photographs, count, device=pairs.x.device)
    rows = torch.cat(
        [torch.arange(2 * count, device=pairs.x.device), photograph_rows, photograph_rows + count]
    )
    faces = torch.cat([pairs.x, pairs.twin])[rows]
    augmented, transform = augment_strongly(faces, step.rng, config.reader_augmentation)
    targets = pairs.targets.map(lambda column: column[rows])
    targets = targets.turned(transform.mirrored, transform.degrees).map(ranks.gather)
    with learning(reader):
        output = reader(augmented.contiguous(memory_format=torch.channels_last)).map(ranks.gather)
    values = {
        "reading": reading_loss(output, targets, config.au_weight, config.va_weight),
        "twins": config.twin_weight * twin_loss(output, targets.labels, ranks.gather(pairs.paired)),
    }
    if photographs:
        views = _two_views(output, count * ranks.world, photographs * ranks.world)
        values["consistency"] = config.consistency_weight * consistency_loss(*views)
    return values


def _two_views(
    output: ReadingOutput, count: int, photographs: int
) -> tuple[ReadingOutput, ReadingOutput]:
    """The last `photographs` of `count` faces and of their twins: as seen first, and again."""
    first = torch.cat(
        [torch.arange(count - photographs, count), torch.arange(2 * count - photographs, 2 * count)]
    )
    return _cut(output, first.to(output.logits.device)), _cut(output, slice(2 * count, None))


@contextmanager
def learning(network: nn.Module) -> Iterator[None]:
    """Inside, batch statistics are of the batch and are gathered; elsewhere it only reads."""
    network.train()
    try:
        yield
    finally:
        network.eval()


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


def _views(step: _Step, pairs: Pairs) -> _Views:
    """Augment the pairs, and choose by chance what becomes of each face."""
    config, rng = step.config, step.rng
    x, twin = augment_pairs(pairs.x, pairs.twin, config, rng)
    rendered = len(x) - pairs.photographs
    photograph = torch.arange(len(x), device=x.device) >= rendered
    edits = (rng.rand(len(x)) < config.edited) | photograph
    still = edits & (rng.rand(len(x)) < config.still)
    is_corrupted = ~edits & (rng.rand(len(x)) < config.corrupted)
    corrupted = torch.where(is_corrupted[:, None, None, None], corrupt(x, rng), x)
    twin_y, moved = pairs.twin_y, None
    if pairs.twinless and config.draws:
        moved = moving(pairs.paired, edits, still, config, rng)
        moved = moved & (step.progress >= config.reader_from)
        without_twin = ~pairs.paired & ~moved  # its own twin: to be drawn as it is
        twin, twin_y = (
            _either(without_twin, x, twin),
            torch.where(without_twin[:, None], pairs.y, twin_y),
        )
    return _Views(x, corrupted, pairs.y, twin, twin_y, edits, still, moved, rendered)


def _encode(
    step: _Step, pairs: Pairs, views: _Views
) -> tuple[ModelOutput, ModelOutput, dict[str, Tensor]]:
    """Faces and twins as the trunk encodes them, and the losses of their labels and persons."""
    config, ranks, count = step.config, step.ranks, len(views.x)
    both_labels = torch.cat([views.y, views.twin_y])
    output = step.model.encode(torch.cat([views.corrupted, views.twin]), both_labels, None)
    face, other = take_rows(output, slice(0, count)), take_rows(output, slice(count, None))
    values = {
        "label": _label_loss(step, output, both_labels),
        "identity": config.identity_weight
        * losses.identity_loss(
            ranks.gather(face.identity), ranks.gather(other.identity), ranks.gather(pairs.paired)
        ),
    }
    return face, other, values


# -- drawing ---------------------------------------------------------------------------------------


def _draw(step: _Step, views: _Views, face: ModelOutput) -> GeneratorOutput:
    """Each face moved to its twin's state (through the skips where it is an edit), then new people
    in the same states.
    """
    model, rng, count = step.model, step.rng, len(views.x)
    jittered = _jitter(views.twin_y, step.config.label_jitter, rng)
    y = torch.where(views.still[:, None], face.labels.detach(), jittered)
    new_faces = views.rendered // 2 if step.adversarial else 0
    move = (y - face.labels.detach()) * views.edits[:, None]
    z, maps = face.latent, list(face.maps)
    real, edited = torch.arange(count, device=y.device), views.edits
    if new_faces:
        new_latents = model.latents_of(rng.randn(new_faces, len(model.latent_mean)))
        z, y, real = (
            torch.cat([z, new_latents]),
            torch.cat([y, y[:new_faces]]),
            torch.cat([real, real[:new_faces]]),
        )
        move, edited = (
            torch.cat([rows, torch.zeros_like(rows[:new_faces])]) for rows in (move, edited)
        )
        maps = [torch.cat([level, level.new_zeros(new_faces, *level.shape[1:])]) for level in maps]
    condition = model.decoder_condition(model.mask(y), model.mask(move))
    new, change = model.decoder(z, condition, maps, edited.to(views.corrupted.dtype))
    edit = (views.corrupted + change[:count].float()).clamp(-1, 1)
    copies = _either(views.edits, edit, new[:count].float())
    x = torch.cat([copies, new[count:].float()])
    return GeneratorOutput(x, y, z, real, edited, x[:count])


def _reconstruction(step: _Step, views: _Views, drawn: GeneratorOutput) -> Tensor:
    """How far each copy is from its pair's twin, in pixels."""
    config = step.config
    weight = torch.where(views.edits, 1.0, config.latent_reconstruction)
    target = views.goal(views.x, views.twin, drawn.copy)
    pixel_loss = losses.reconstruction_loss(drawn.copy, target, views.x, weight)
    return config.reconstruction_weight * step.ranks.mean(pixel_loss)


# -- reading what was drawn ------------------------------------------------------------------------


def _read_back(
    step: _Step, views: _Views, face: ModelOutput, other: ModelOutput, drawn: GeneratorOutput
) -> dict[str, Tensor]:
    """What the decoder learns from the networks that read its pictures and are held still."""
    model, config, ranks = step.model, step.config, step.ranks
    with frozen(model.trunk, model.heads, model.condition, *_more(model)):
        inputs = (
            drawn.x if views.moved is None else add_noise(drawn.x, views.moved, config, step.rng)
        )
        read = model.read(inputs, drawn.y)
    copied = take_rows(read, slice(0, len(drawn.copy)))
    values = {
        "drawn_label": config.drawn_label_weight * _label_loss(step, read, drawn.y),
        "features": config.feature_weight * _features(step, views, face, other, copied),
        "latent": config.latent_weight
        * losses.latent_loss(ranks.gather(read.latent), ranks.gather(drawn.z.detach())),
    }
    if views.moved is not None:
        start = MovedFaces(views.x, views.y, face, views.edits, views.moved)
        values |= _unpaired(step, start, drawn.copy, copied)
    if step.adversarial:
        values |= _adversary(step, views.twin, other, drawn, read)
    return values


def _features(
    step: _Step, views: _Views, face: ModelOutput, other: ModelOutput, copied: ModelOutput
) -> Tensor:
    """How far the copies' feature maps are from those of what they should equal."""
    # the first is hardly more than the pixels, and the dearest to compare
    face_maps, other_maps, copied_maps = (output.maps[1:] for output in (face, other, copied))
    targets = [
        views.goal(*maps).detach() for maps in zip(face_maps, other_maps, copied_maps, strict=True)
    ]
    return losses.feature_loss(copied_maps, targets, step.ranks.mean)


def _unpaired(
    step: _Step, start: MovedFaces, copy: Tensor, copied: ModelOutput
) -> dict[str, Tensor]:
    """What moved without a twin to compare with must come back, and be known for the same person:
    its picture stands in for the twin.
    """
    ranks, config = step.ranks, step.config
    cycle = cycle_loss(step.model, start, copy, copied)
    identity_loss = losses.identity_loss(
        ranks.gather(start.face.identity), ranks.gather(copied.identity), ranks.gather(start.moved)
    )
    return {
        "cycle": config.cycle_weight * ranks.mean(cycle),
        "cycle_identity": config.identity_weight * identity_loss,
    }


def _adversary(
    step: _Step, twin: Tensor, other: ModelOutput, drawn: GeneratorOutput, read: ModelOutput
) -> dict[str, Tensor]:
    """The game: the critic on real twins against drawn faces in the same state, and the decoder
    against the frozen critic.
    """
    model, config, ranks = step.model, step.config, step.ranks
    fake = drawn.x.detach()
    fake_output = model.encode(fake, drawn.y, None)
    weight = torch.where(drawn.edited, config.adversary_weight, config.latent_adversary_weight)
    real, places = other.critic[drawn.real], model.patches(other)[drawn.real]
    with frozen(*_more(model)):
        real_patches = model.patches(read)
    values = {
        "critic": ranks.mean(
            losses.relativistic(real, fake_output.critic)
            + losses.relativistic(places, model.patches(fake_output))
        ),
        "encoder": config.latent_weight
        * losses.latent_loss(ranks.gather(fake_output.latent), ranks.gather(drawn.z.detach())),
        "generator": ranks.mean(
            losses.relativistic(read.critic, real.detach(), weight)
            + losses.relativistic(real_patches, places.detach(), weight)
        ),
    }
    if step.number % config.penalty_every == 0:
        rows = min(ranks.share(config.penalty_rows, "penalty_rows"), len(twin))
        with torch.autocast(fake.device.type, enabled=False):
            penalty = _penalty(model, twin[:rows], drawn.y[:rows]) + _penalty(
                model, fake[-rows:], drawn.y[-rows:]
            )
        values["penalty"] = config.penalty_every * config.gamma / 2 * ranks.mean(penalty)
    return values


def _label_loss(step: _Step, output: ModelOutput, y: Tensor) -> Tensor:
    config, gather = step.config, step.ranks.gather
    logits, va, y = (gather(rows) for rows in (output.logits, output.va, y))
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
