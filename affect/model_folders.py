"""Where models lie: of a run, and the shipped one (named by AFFECTGAN_WEIGHTS, in the installed
wheel, or in the checkout).
"""

import os
from pathlib import Path

from affect.card import CARD_FILE, CardError

VARIABLE = "AFFECTGAN_WEIGHTS"
MODEL_FOLDER = "model"  # in the folder of a run
JUDGE_FOLDER = "judge"  # in a model folder: the independent network that explanations ask
JUDGE_FILE, JUDGE_WEIGHTS_FILE = "judge.json", "judge.safetensors"  # in the folder of a judge
PACKAGE = "affectgan_weights"  # setup.py puts the folder `weights` into the wheel under this name


def shipped_weights() -> Path:
    """The folder of the shipped model. Raises CardError when there is none."""
    if configured := os.environ.get(VARIABLE):
        return model_folder(Path(configured))
    repository = Path(__file__).parents[1]
    for folder in (repository / PACKAGE, repository / "weights"):
        if (folder / CARD_FILE).is_file():
            return folder
    raise CardError(
        f"no weights beside {Path(__file__).parent}: set {VARIABLE} to a folder with {CARD_FILE}, "
        "or name one"
    )


def model_folder(run: Path) -> Path:
    """The folder with card and weights: `run` itself or the `model` in it.

    Raises CardError when there is neither.
    """
    for folder in (run / MODEL_FOLDER, run):
        if (folder / CARD_FILE).is_file():
            return folder
    raise CardError(
        f"{run} holds no {CARD_FILE}, nor does {run / MODEL_FOLDER}: "
        "give the folder that `affectgan train --out` wrote"
    )


def judge_folder(folder: Path) -> Path | None:
    """The judge that lies beside a model."""
    judge = folder / JUDGE_FOLDER
    return judge if judge.is_dir() else None
