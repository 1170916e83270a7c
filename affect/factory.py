"""Models from cards and folders: the only file that knows every kind of network.

A model folder holds weights.safetensors and card.json; `AffectModel.save` writes it, `load_model`
reads it.
"""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from affect.card import CARD_FILE, WEIGHTS_FILE, CardError, ModelCard
from affect.model import AffectModel, weights_digest
from affect.ssgan2019 import Ssgan2019


def build_model(card: ModelCard) -> AffectModel:
    """The networks that the card names, with random weights."""
    return Ssgan2019(card) if card.network.kind == "ssgan2019" else AffectModel(card)


def initialise_model(card: ModelCard, *, seed: int) -> AffectModel:
    """Random weights, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_model(card)


def load_model(folder: Path, *, device: str = "cpu") -> AffectModel:
    """Card and weights of a model folder, ready to read and draw.

    Raises CardError when a file is missing, broken or does not fit.
    """
    card = ModelCard.load(_existing(folder / CARD_FILE).parent)
    path = _existing(folder / WEIGHTS_FILE)
    if card.digest and card.digest != weights_digest(path):
        raise CardError(
            f"{path} is not the file that {CARD_FILE} describes (digest differs): "
            "copy both from the same run"
        )
    model = build_model(card)
    try:
        model.load_state_dict(load_file(path, device=device))
    except (RuntimeError, SafetensorError) as error:
        raise CardError(f"{path} does not fit {CARD_FILE}: {error}") from error
    return model.to(device).eval()


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise CardError(f"{path} is missing: give a folder with {CARD_FILE} and {WEIGHTS_FILE}")
    return path
