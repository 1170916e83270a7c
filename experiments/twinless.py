"""What do twins give? The same pictures, labels, steps and seeds, with twins and without them.

python -m experiments.twinless --data DATABASE --out FOLDER [--judge weights/judge] [--seeds 3]
[--images 24000] [--preset smoke]

Without twins the training split keeps all its pictures but forgets which show one person in one
scene, as a set of photographs would. Validation and test keep their twins, so that an edit can be
held against the true picture. A stopped command goes on where it stopped.
"""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch
from scipy import stats

from affect.factory import load_model
from affect.judge import Judge
from affect.model import AffectModel
from training.database.copying import copy_database
from training.database.reader import Database
from training.database.sample import TRAIN, Sample
from training.evaluation.core.predictions import load_faces, read
from training.evaluation.generation import drawing, fidelity
from training.evaluation.judge.evaluator import JudgeEvaluator
from training.evaluation.recognition import recognition
from training.gan import loop
from training.gan.config import PRESETS, preset
from training.gan.run_folder import MODEL_FOLDER

KINDS = ("without", "with")
RESULT_FILE = "twinless.json"
EVALUATED_FACES, JUDGED_FACES = 2_000, 600


@click.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    required=True,
    help="rendered database with twins",
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option(
    "--judge",
    "judge_folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=Path("weights/judge"),
)
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option(
    "--images",
    type=click.IntRange(min=64),
    default=24_000,
    show_default=True,
    help="pictures seen in a run",
)
@click.option(
    "--preset", "preset_name", type=click.Choice(list(PRESETS)), default="smoke", show_default=True
)
def main(
    data: Path, out: Path, judge_folder: Path, seeds: int, images: int, preset_name: str
) -> None:
    """Run what is missing, then write table.md."""
    torch.set_num_threads(1)
    database = Database.open(data)
    without_twins = copy_database(
        database, out / "data", f"{database.card.name}-twinless", stripped
    )
    figures_by_kind: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    for seed in range(seeds):
        for kind in KINDS:
            place = without_twins if kind == "without" else data
            figures_by_kind[kind].append(
                measured(
                    out / f"{kind}-s{seed}",
                    place,
                    Judge.load(judge_folder),
                    preset_name,
                    seed,
                    images,
                )
            )
        (out / "table.md").write_text(table(figures_by_kind))
    click.echo(table(figures_by_kind))


def stripped(sample: Sample) -> Sample:
    """The sample, of the training split without its twins."""
    return replace(sample, twin_group="") if sample.split == TRAIN else sample


def measured(
    run: Path, data: Path, judge: Judge, preset_name: str, seed: int, images: int
) -> dict[str, float]:
    """The run's figures on the test split; trained now if need be."""
    if not (run / RESULT_FILE).is_file():
        config = replace(
            preset(preset_name),
            seed=seed,
            total_images=images,
            log_images=max(images // 8, 1),
            sample_images=images,
        )
        begin = time.process_time()
        if (run / "config.json").is_file():
            loop.resume(run)
        else:
            loop.start(config, data, run)
        if not (run / MODEL_FOLDER).is_dir():
            raise click.Abort  # stopped by a signal; its state is saved
        spent = round(time.process_time() - begin, 1)
        figures = figures_of(load_model(run / MODEL_FOLDER), Database.open(data), judge) | {
            "training CPU seconds": spent
        }
        (run / f"{RESULT_FILE}.new").write_text(json.dumps(figures, indent=2) + "\n")
        os.replace(run / f"{RESULT_FILE}.new", run / RESULT_FILE)
    stored: dict[str, float] = json.loads((run / RESULT_FILE).read_text())
    return stored


def figures_of(model: AffectModel, database: Database, judge: Judge) -> dict[str, float]:
    """Reading by the labels; control of new faces, edits and reconstructions by the judge; pixels
    by the face itself and by its twin.
    """
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    faces = load_faces(database, model, "test", EVALUATED_FACES, rng)
    readings = read(model, faces.images)
    recognised = recognition.recognise(model.card, faces, readings, np.ones((1, len(faces))))
    evaluator, some = JudgeEvaluator(judge, model), rng.permutation(len(faces))[:JUDGED_FACES]
    labels = faces.truth[rng.permutation(len(faces))[:JUDGED_FACES]]
    images = faces.images[some]
    drawn = {
        "new faces": (labels, drawing.draw_samples(model, labels, generator).images),
        "edits": (labels, drawing.edit_to(model, images, labels, generator).images),
        "reconstructions": (faces.truth[some], drawing.reconstruct(model, images)),
        "real faces": (faces.truth[some], images),
    }
    figures: dict[str, float] = {"faces": len(faces), "read: AU AUC": recognised.mean_auc.value}
    figures |= {f"read: {dimension.name} CCC": dimension.ccc.value for dimension in recognised.va}
    for name, (requested, pictures) in drawn.items():
        control = evaluator.control(requested, evaluator.read(pictures)[0], faces.identity[some])
        figures |= {
            f"judge, {name}: AU AUC": control.mean_auc.value,
            f"judge, {name}: VA CCC": control.mean_ccc.value,
        }
    figures["reconstruction error"] = float(readings.reconstruction_error.mean())
    if edited := fidelity.twin_edits(model, faces, JUDGED_FACES, generator):
        figures |= {
            "null edit error": edited.null_edit.value,
            "edit against the true twin": edited.edited.value,
        }
        figures["untouched face against the true twin"] = edited.untouched.value
    return figures


def table(figures_by_kind: dict[str, list[dict[str, float]]]) -> str:
    """Means over the seeds that both have, their difference, and its 95 % interval and p-value
    (paired t) from two seeds on.
    """
    count = min(len(runs) for runs in figures_by_kind.values())
    without, with_ = (figures_by_kind[kind][:count] for kind in KINDS)
    lines = [
        f"{count} seed(s)",
        "",
        "| figure | without twins | with twins | without - with |",
        "|---|---|---|---|",
    ]
    for name in without[0] if count else ():
        a, b = (np.array([figures[name] for figures in runs]) for runs in (without, with_))
        lines.append(f"| {name} | {a.mean():.4f} | {b.mean():.4f} | {_difference(a, b)} |")
    return "\n".join(lines) + "\n"


def _difference(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> str:
    mean = float(np.mean(np.subtract(a, b)))
    if len(a) < 2:
        return f"{mean:+.4f}"
    test = stats.ttest_rel(a, b)
    low, high = test.confidence_interval(0.95)
    return f"{mean:+.4f} [{low:+.4f}, {high:+.4f}], p {test.pvalue:.3f}"


if __name__ == "__main__":
    main()
