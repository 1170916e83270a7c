"""The limit of realism below which a reading carries a warning, measured.

Realism ranks a picture among the faces that a model learnt from, renders and people alike; people
may stand far above the renders there. So the limit follows the faces that are given: it catches
out-of-distribution pictures (cats, things, faces upside down) while few faces are warned about.
`affectgan evaluate --photographs D` sets it with the rest of the card; the limit alone is set by

    python -m training.evaluation.recognition.warning_limits MODEL PHOTOGRAPHS

N faces, M pictures.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from affect.factory import load_model
from affect.model import AffectModel
from training.database.card import DataError
from training.database.reader import Database
from training.database.sample import VALIDATION
from training.evaluation.core.predictions import U8, Floats, in_batches
from training.evaluation.recognition.robustness import OUT_OF_DISTRIBUTION

ALARMS = 0.02  # share of faces that may be warned about; more are on those of other people
CAUGHT = 0.99  # share of each kind of out-of-distribution pictures to catch, where ALARMS allow it
PICTURES = 200  # of each kind of out-of-distribution pictures
NOTE_PREFIX = "warning"
STEP = 0.005  # realism comes in hundredths: the limit lies between two


@dataclass(frozen=True)
class RealismLimit:
    """A limit, and the shares below it."""

    limit: float
    alarms: float  # share of the faces below it
    caught: Mapping[str, float]  # share of each kind of out-of-distribution pictures below it

    def __str__(self) -> str:
        caught = ", ".join(f"{name} {share:.0%}" for name, share in self.caught.items())
        return f"realism below {self.limit:.3f}: {self.alarms:.1%} of faces; {caught}"


def choose_limit(faces: Floats, out_of_distribution: Mapping[str, Floats]) -> RealismLimit:
    """From the realism of faces (N,) and of each kind of out-of-distribution pictures (M,): the
    least limit that catches CAUGHT of every kind, or as much as ALARMS allow.
    """
    catching_limit = max(
        float(np.quantile(one, CAUGHT, method="higher")) for one in out_of_distribution.values()
    )
    allowed = float(np.quantile(faces, ALARMS, method="lower"))
    limit = round(min(max(min(catching_limit + STEP, allowed - STEP), STEP), 1.0), 4)
    caught_shares = {name: float((one < limit).mean()) for name, one in out_of_distribution.items()}
    return RealismLimit(limit, float((faces < limit).mean()), caught_shares)


def measure_limit(model: AffectModel, faces: U8, rng: Generator) -> RealismLimit:
    """Of a model whose reference quantiles are set, on aligned faces (N, S, S, 3) that it did not
    learn from.
    """
    out_of_distribution = {
        name: _realism(model, np.stack([make(faces[i % len(faces)], rng) for i in range(PICTURES)]))
        for name, make in OUT_OF_DISTRIBUTION.items()
    }
    return choose_limit(_realism(model, faces), out_of_distribution)


def with_limit(model: AffectModel, measured: RealismLimit, data: str) -> None:
    """The limit and how it was measured, into the model's card."""
    card = model.card
    limits = card.warning_limits.model_copy(update={"realism": measured.limit})
    other_notes = tuple(one for one in card.calibrated_on if not one.startswith(NOTE_PREFIX))
    changes = {
        "warning_limits": limits,
        "calibrated_on": (*other_notes, f"{NOTE_PREFIX}, on {data}: {measured}"),
    }
    model.replace_card(card.model_copy(update=changes))


@click.command()
@click.argument("model", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.argument("photographs", type=click.Path(path_type=Path, file_okay=False, exists=True))
def main(model: Path, photographs: Path) -> None:
    """Set the limit of realism in the card of MODEL, a folder of weights, by the validation split
    of the database PHOTOGRAPHS.
    """
    torch.set_num_threads(1)
    loaded, database = load_model(model), Database.open(photographs)
    if not database.count(VALIDATION):
        raise DataError(f"the validation split of {photographs} is empty: give faces to hold out")
    rows = np.arange(database.count(VALIDATION))
    faces = database.images(VALIDATION, rows, loaded.card.image_px)
    measured = measure_limit(loaded, faces, np.random.default_rng(0))
    with_limit(loaded, measured, "photographs")
    loaded.card.save(model)
    click.echo(str(measured))


def _realism(model: AffectModel, images: U8) -> Floats:
    def one(x: Tensor) -> tuple[Tensor, ...]:
        return (model.predict(x).realism,)

    with torch.inference_mode():
        return in_batches(model, one, images)[0]


if __name__ == "__main__":
    main()
