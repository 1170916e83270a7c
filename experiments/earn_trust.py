"""The levels of trust of a model fitted anew, without the rest of an evaluation: after another
second judge, or another search.

python -m experiments.earn_trust --second-judge J --data D --photographs P [--answers 110] [--write]

Levels are fitted on the validation splits and measured on the test splits, on renders and on
photographs apart (docs/decisions/0025-earned-trust.md). --write puts them into the card.
"""

import argparse
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
from training.evaluation.core.metrics import Interval
from training.evaluation.explanation.domains import LEVELS, Judges, fit_trust, measure_domain


def earn(
    model: AffectModel, judges: Judges, databases: list[Database], answers: int
) -> tuple[ModelCard, list[str]]:
    """The card with the levels that are earned, and what they are worth on the test splits."""
    rng = np.random.default_rng(0)
    levels = fit_trust(model, judges, databases, "validation", answers, rng)
    model.replace_card(model.card.model_copy(update={"trust_levels": levels}))
    lines = [
        f"{name} from {one.least}: "
        + "; ".join(
            f"{e.confirmed:.3f} [{e.low:.3f}, {e.high:.3f}] of {e.answers}" for e in one.earned
        )
        for name, one in levels.items()
    ]
    for database in databases:
        found = measure_domain(model, judges, database, "test", answers, rng)
        lines.append(
            f"{found.on}: {found.questions} questions, valid {_figure(found.validity)}, confirmed "
            f"{_figure(found.confirmed)}, high among the confirmed "
            f"{_figure(found.high_of_confirmed)}"
        )
        lines += [
            f"  {level}: {count}, confirmed {_figure(share) if share else '-'}"
            for level, (count, share) in ((one, found.levels[one]) for one in LEVELS)
        ]
    return model.card, lines


def _figure(one: Interval) -> str:
    return f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", type=Path, default=Path("weights"))
    parser.add_argument("--second-judge", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="renders")
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--answers", type=int, default=110, help="of each split")
    parser.add_argument("--write", action="store_true", help="into the card of --weights")
    options = parser.parse_args()
    served = judge_folder(options.weights)
    if served is None:
        parser.error(f"{options.weights} has no judge beside it, by whom trust is given")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    judges = Judges(Judge.load(served), Judge.load(options.second_judge))
    databases = [Database.open(folder) for folder in (options.data, options.photographs)]
    card, lines = earn(load_model(options.weights), judges, databases, options.answers)
    print("\n".join(lines))
    if options.write:
        card.save(options.weights)


if __name__ == "__main__":
    main()
