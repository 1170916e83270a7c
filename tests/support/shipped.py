"""The shipped weights and the example faces, which they never saw."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from affect.factory import load_model
from affect.images import decode
from affect.model import AffectModel

ROOT = Path(__file__).parents[2]
FACES = ("happiness", "surprise", "sadness", "anger", "disgust")


@cache
def model() -> AffectModel:
    torch.set_num_threads(1)
    return load_model(ROOT / "weights")


@cache
def face(name: str) -> NDArray[np.uint8]:
    return decode((ROOT / "service" / "cli" / "examples" / f"{name}.png").read_bytes())
