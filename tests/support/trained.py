"""A tiny model that learnt to read and change cartoon faces: trained once a test run, in seconds.

Tests that need a model which knows something use this one, so that none leans on the values of the
weights that are shipped.
"""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from affect.factory import load_model
from affect.model import AffectModel
from tests.support import cartoons
from tests.support.once import made_once
from training.database.reader import Database
from training.evaluation.recognition.card_calibration import CalibrationData, calibrate
from training.gan import loop
from training.gan.config import smoke
from training.gan.run_folder import MODEL_FOLDER

FACES = tuple(cartoons.STATES)
IMAGES = 14_000
STRANGER = 10_001  # a person whom training never saw


@cache
def run() -> Path:
    """The run folder, calibrated, beside its database `faces`."""
    return made_once("trained", _train) / "run"


def _train(folder: Path) -> None:
    data = cartoons.write(folder / "faces")
    config = replace(
        smoke(),
        total_images=IMAGES,
        adversary_from=1.0,  # sharpness is not asked for
        edited=0.8,
        drawn_label_weight=1.0,
        corrupted=0.0,
        still=0.3,
        shift=0.01,
        turn=0.0,
        zoom=0.0,
        colour=0.03,
        sample_images=10**9,
    )
    loop.start(config, data, folder / "run")
    model = load_model(folder / "run" / MODEL_FOLDER)
    calibrate(model, CalibrationData(Database.open(data), (), 1_000), np.random.default_rng(0))
    model.save(folder / "run" / MODEL_FOLDER)


@cache
def model() -> AffectModel:
    torch.set_num_threads(1)
    return load_model(run() / MODEL_FOLDER)


@cache
def face(name: str) -> NDArray[np.uint8]:
    """(S, S, 3) a person unknown to the model in one of FACES' states."""
    return cartoons.draw(cartoons.STATES[name], STRANGER)
