"""What an explanation costs: milliseconds a face and forward passes, by family and number of
answers, on one thread.

python -m benchmarks.explaining [--weights weights] [--faces 16] [--rounds 3]
"""

import statistics
import time
from pathlib import Path

import click
import cv2
import numpy as np
import torch

from affect.counterfactual import CounterfactualQuestion, Explanation, explain
from affect.factory import load_model
from affect.images import decode
from affect.judge import Judge
from affect.model import AffectModel
from affect.model_folders import JUDGE_FILE

EXAMPLES = Path(__file__).parents[1] / "service" / "cli" / "examples"


@click.command()
@click.option(
    "--weights",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("weights"),
    show_default=True,
)
@click.option(
    "--faces", type=click.IntRange(min=1), default=16, show_default=True, help="explained at once"
)
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
def main(weights: Path, faces: int, rounds: int) -> None:
    """Print a table."""
    torch.set_num_threads(1)
    model = load_model(weights)
    judge = Judge.load(weights / "judge") if (weights / "judge" / JUDGE_FILE).is_file() else None
    side = (model.card.image_px, model.card.image_px)
    examples = [decode(path.read_bytes()) for path in sorted(EXAMPLES.glob("*.png"))]
    crops = np.stack([cv2.resize(crop, side, interpolation=cv2.INTER_AREA) for crop in examples])
    crops = np.resize(crops, (faces, *crops.shape[1:]))
    questions = {
        "expression, one answer": CounterfactualQuestion(),
        "expression, three answers": CounterfactualQuestion(answers=3),
        "valence, one answer": CounterfactualQuestion("valence"),
        **(
            {"nuisance, one answer": CounterfactualQuestion(family="nuisance")}
            if model.card.nuisances
            else {}
        ),
    }
    click.echo(
        f"| question ({faces} faces at once, {model.card.image_px} px) | ms a face | "
        "readings a face | drawings a face | valid |"
    )
    click.echo("|---|---|---|---|---|")
    for name, question in questions.items():
        seconds, passes, valid = measured(model, judge, crops, question, rounds)
        click.echo(
            f"| {name} | {1000 * seconds / faces:.0f} | {passes['trunk']:.1f} | "
            f"{passes['decoder']:.1f} | {valid} of {faces} |"
        )


def measured(
    model: AffectModel,
    judge: Judge | None,
    crops: np.ndarray,
    question: CounterfactualQuestion,
    rounds: int,
) -> tuple[float, dict[str, float], int]:
    """Median seconds, rows through trunk and decoder a face, and how many answers are valid.

    The first round is not timed.
    """
    parts = {
        "trunk": model.trunk,
        "decoder": model.decoder.change,
    }  # the last step of every drawing
    passed = dict.fromkeys(parts, 0)
    hooks = [
        part.register_forward_hook(
            lambda part, given, out, name=name: passed.update({name: passed[name] + len(given[0])})
        )
        for name, part in parts.items()
    ]
    answers = explain(model, crops, [question] * len(crops), judge=judge)
    for hook in hooks:
        hook.remove()
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        explain(model, crops, [question] * len(crops), judge=judge)
        taken.append(time.perf_counter() - start)
    valid = sum(isinstance(answer, Explanation) and answer.valid for answer in answers)
    return (
        statistics.median(taken),
        {name: count / len(crops) for name, count in passed.items()},
        valid,
    )


if __name__ == "__main__":
    main()
