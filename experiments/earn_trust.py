"""The levels of trust of a model fitted anew, without the rest of an evaluation: after another
second judge, or another search.

python -m experiments.earn_trust --second-judge J --data D --photographs P [--answers 240]
[--tested 120] [--write]

Levels are fitted on the validation splits and measured on the test splits, on renders and on
photographs apart (docs/decisions/0025-earned-trust.md), by the functions of `affectgan evaluate`:
as many questions about photographs as about renders, about no face more than twice. --write puts
them into the card. With --answers 0 the levels of the card are measured, with --tested 0 they are
only fitted: two commands for one. A question takes half a second of processor.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from affect.card import ModelCard
from affect.factory import load_model
from affect.judge import Judge
from affect.model import AffectModel
from affect.model_folders import judge_folder
from training.database.reader import Database
from training.database.sample import TEST, VALIDATION
from training.evaluation.core.metrics import Interval
from training.evaluation.explanation.domains import (
    LEVELS,
    DomainFigures,
    Judges,
    ask_about,
    fit_trust,
    measure_domain,
    name_of,
)


def earn(
    model: AffectModel,
    judges: Judges,
    databases: tuple[Database, Database],
    counts: tuple[int, int],
) -> tuple[ModelCard, list[str]]:
    """The card with the levels that are earned, and what they are worth on the test splits;
    `databases` are of renders and of photographs, `counts` of questions about each, to fit and to
    measure: 0 leaves that out.
    """
    rng, (fitted, measured) = np.random.default_rng(0), counts
    if fitted:
        levels = fit_trust(model, judges, databases, VALIDATION, fitted, rng)
        model.replace_card(model.card.model_copy(update={"trust_levels": levels}))
    lines = [  # of a level that is not earned: what all answers with a score did
        f"{name} {'not earned' if one.least is None else f'from {one.least}'}: "
        + "; ".join(
            f"{e.confirmed:.3f} [{e.low:.3f}, {e.high:.3f}] of {e.answers}" for e in one.earned
        )
        for name, one in model.card.trust_levels.items()
    ]
    for database in databases if measured else ():
        questions = ask_about(model, judges.served, database, TEST, measured, rng)
        on = name_of(database, TEST)
        lines += _lines(measure_domain(model, judges.second, questions, on, rng))
    return model.card, lines


def _lines(domain: DomainFigures) -> list[str]:
    figures = {
        "valid": domain.validity,
        "confirmed": domain.confirmed,
        "high among the confirmed": domain.high_of_confirmed,
        "identity": domain.identity,
        "other AUs changed": domain.labels_changed,
        "steady under noise": domain.steady_in_noise,
        "steady when the crop moves": domain.steady_in_crop,
    }
    levels = ((level, *domain.levels[level]) for level in LEVELS)
    return [
        f"{domain.on}: {domain.questions} questions about {domain.people} people",
        *(f"  {name}: {_figure(one)}" for name, one in figures.items()),
        *(
            f"  {one}: {n}, confirmed {_figure(share) if share else '-'}"
            for one, n, share in levels
        ),
    ]


def _figure(one: Interval) -> str:
    return f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", type=Path, default=Path("weights"))
    parser.add_argument("--second-judge", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="renders")
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--answers", type=int, default=240, help="about each kind, to fit")
    parser.add_argument("--tested", type=int, default=120, help="the same, to measure")
    parser.add_argument("--write", action="store_true", help="into the card of --weights")
    options = parser.parse_args(arguments)
    served = judge_folder(options.weights)
    if served is None:
        parser.error(f"{options.weights} has no judge beside it, by whom trust is given")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    judges = Judges(Judge.load(served), Judge.load(options.second_judge))
    databases = Database.open(options.data), Database.open(options.photographs)
    model, counts = load_model(options.weights), (options.answers, options.tested)
    card, lines = earn(model, judges, databases, counts)
    print("\n".join(lines))
    if options.write:
        card.save(options.weights)


if __name__ == "__main__":
    main()
