"""Begins a run from the weights of another: after more data, at another size, or with another set
of Action Units.

Levels are matched from 4 px up, so a network of twice the side takes over all but its top level;
what a head or a condition knows of an Action Unit goes to that Action Unit's place in the new
vocabulary. A wider network computes at first what the narrow one did (Net2Net, Chen et al. 2016,
with zeros where new channels lead into old ones). What has no match starts as usual.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from affect.card import CARD_FILE, ModelCard, NetworkSize
from affect.factory import load_model
from affect.labels import DIMENSIONS, POSE
from affect.model import AffectModel

TRUNK_LEVELS = (
    "trunk.down.",
    "trunk.blocks.",
)  # counted from the picture down, so shifted between sizes
# After training, from its data or its latent code.
FITTED = (
    "label_table",
    "latent_mean",
    "latent_factor",
    "feature_mean",
    "feature_whitener",
    "nuisance_directions",
    "nuisance_probes",
)
CONDITIONS = (
    "condition.net.0.weight",
    "decoder_condition.net.0.weight",
)  # (width, 3 L): labels, their mask, their change


def check(folder: Path, network: NetworkSize) -> None:
    """Raises ValueError unless the model in `folder` can begin such networks: the seed paper's have
    no counterpart in ours.
    """
    if not (folder / CARD_FILE).is_file():
        raise ValueError(
            f"--init {folder} holds no {CARD_FILE}: give a model's folder, such as RUN/model"
        )
    kinds = (ModelCard.load(folder).network.kind, network.kind)
    if kinds != ("affectgan", "affectgan"):
        raise ValueError(
            f"--init {folder} is a model of the kind {kinds[0]} and the preset's is "
            f"{kinds[1]}: only affectgan begins affectgan; "
            "choose another --init or --preset, or leave --init out"
        )


def network_begun(network: NetworkSize, image_px: int, folder: Path) -> NetworkSize:
    """The network of a run that only reads and begins from the model in `folder`: that model's own,
    so that its reader goes on and its generator stays as it is; `network` where the model is of
    another size of picture. A model whose trunk reads gets the reading network of `network`.
    """
    card = ModelCard.load(folder)
    if card.image_px != image_px:
        return network
    if card.network.reader:
        return card.network
    reader = {"reader": network.reader, "reader_kind": network.reader_kind}
    return card.network.model_copy(update=reader)


@torch.no_grad()
def transfer_weights(model: AffectModel, folder: Path, *, fitted: bool = False) -> tuple[int, int]:
    """Take over what fits from the model in `folder`; returns (tensors taken over, tensors in all).

    With `fitted`, also what was fitted after training: for a run that trains no generator.

    Raises ValueError when the folder holds no model, one of another kind, or one of whose trunk
    nothing fits.
    """
    check(folder, model.card.network)
    source = load_model(folder)
    source_weights = dict(_placed(model, source))
    transferred: list[str] = []
    for name, tensor in model.state_dict().items():
        weight = source_weights.get(name)
        if weight is None or (name in FITTED and not fitted):
            continue
        fitting = _by_label(name, weight, tensor, model, source)
        if fitting is not None:
            tensor.copy_(fitting)
            transferred.append(name)
    if not any(name.startswith("trunk.") for name in transferred):
        raise ValueError(
            f"the trunk in {folder} fits no level of this preset's: choose the preset that "
            "made it, or leave --init out"
        )
    return len(transferred), len(model.state_dict())


def _placed(model: AffectModel, source: AffectModel) -> Iterator[tuple[str, Tensor]]:
    """The source's tensors under the names of their counterparts."""
    if model.reader is not None and source.reader is None:
        yield from _as_reader(model, source)
    shift = len(model.trunk.down) - len(source.trunk.down)
    for name, tensor in source.state_dict().items():
        prefix = next((p for p in TRUNK_LEVELS if name.startswith(p)), None)
        if prefix is not None:
            level, rest = name.removeprefix(prefix).split(".", 1)
            yield f"{prefix}{int(level) + shift}.{rest}", tensor
        # made for another size of pixel
        elif not (shift and name.startswith(("trunk.stem.", "decoder.draw.", "decoder.change."))):
            yield name, tensor


def _as_reader(model: AffectModel, source: AffectModel) -> Iterator[tuple[str, Tensor]]:
    """A trunk that read becomes the reading network, where that is as large: its state's rows are
    those of the heads, and what the heads did not read begins as it is.
    """
    if model.card.network.reader != source.card.network.trunk:
        return
    if model.card.network.reader_kind != "trunk":
        return
    for name, tensor in source.trunk.state_dict().items():
        yield f"reader.body.trunk.{name}", tensor
    heads, own_state = source.heads, model.state_dict()
    yield "reader.body.features.weight", heads.features.weight
    yield "reader.body.features.bias", heads.features.bias
    outputs, source_names = reader_outputs(model.card), source.card.labels_of.names
    for kind in ("weight", "bias"):
        rows = torch.cat([getattr(heads.aus, kind), getattr(heads.va, kind)])
        answer = own_state[f"reader.answer.{kind}"].clone()
        for row, name in enumerate(outputs):
            if name in source_names:
                answer[row] = rows[source_names.index(name)]
        yield f"reader.answer.{kind}", answer


def _by_label(
    name: str, source_weight: Tensor, own_weight: Tensor, model: AffectModel, source: AffectModel
) -> Tensor | None:
    """`given` in the shape of `own`, its label rows or columns at the new vocabulary's places; None
    where it does not fit.
    """
    own_names, source_names = model.card.labels_of.names, source.card.labels_of.names
    if name.startswith("reader.answer.") and source.reader is not None:
        outputs, source_outputs = reader_outputs(model.card), reader_outputs(source.card)
        places = [
            (outputs.index(label), source_outputs.index(label))
            for label in outputs
            if label in source_outputs
        ]
        return _moved(own_weight, source_weight, places, axis=0)
    if name.startswith(("reader.", *FITTED)):
        return source_weight if source_weight.shape == own_weight.shape else None
    if own_names != source_names and (name.startswith("heads.aus.") or name in CONDITIONS):
        shared = [
            (own_names.index(label), source_names.index(label))
            for label in own_names
            if label in source_names
        ]
        if name.startswith("heads.aus."):
            pairs = [(a, b) for a, b in shared if a < len(own_names) - 2]
            return _moved(own_weight, source_weight, pairs, axis=0)
        columns = [
            (a + k * len(own_names), b + k * len(source_names)) for k in range(3) for a, b in shared
        ]
        return _moved(own_weight, source_weight, columns, axis=1)
    return (
        source_weight
        if source_weight.shape == own_weight.shape
        else _widened(name, source_weight, own_weight)
    )


def reader_outputs(card: ModelCard) -> tuple[str, ...]:
    """Names of the reading network's outputs in order, as `ReadingNetwork` splits them."""
    sides = [f"{side} {code}" for side in ("left", "right") for code in card.one_sided]
    pose = POSE if card.pose else ()
    return (*card.vocabulary, *DIMENSIONS, *card.expressions, *pose, *sides)


def _widened(name: str, source_weight: Tensor, own_weight: Tensor) -> Tensor | None:
    """`given` in the first channels of `own`: old outputs are deaf to new inputs, new outputs are
    fresh. None where it is too large.
    """
    if source_weight.ndim != own_weight.ndim or any(
        small > large for small, large in zip(source_weight.shape, own_weight.shape, strict=True)
    ):
        return None
    if name.startswith("decoder.modulate."):  # scales, then shifts, one of each per channel
        halves = [
            _widened("", small, large)
            for small, large in zip(source_weight.chunk(2), own_weight.chunk(2), strict=True)
        ]
        return torch.cat([half for half in halves if half is not None])
    wide = own_weight.clone()
    wide[: len(source_weight)] = 0
    wide[tuple(slice(size) for size in source_weight.shape)] = source_weight
    return wide


def _moved(
    own_weight: Tensor, source_weight: Tensor, pairs: list[tuple[int, int]], *, axis: int
) -> Tensor | None:
    if (
        own_weight.ndim != source_weight.ndim
        or any(
            own_weight.shape[d] != source_weight.shape[d]
            for d in range(own_weight.ndim)
            if d != axis
        )
        or not pairs
    ):
        return None
    filled = own_weight.clone()
    to, source = torch.tensor(pairs).unbind(1)
    return filled.index_copy(axis, to, source_weight.index_select(axis, source))
