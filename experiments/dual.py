"""The paper's question: does training on both annotations beat training on one, and does the GAN
help the reader?

python -m experiments.dual --data DATABASE --out FOLDER [--seeds 5] [--images 24000] [--shares 1
--shares 0.25] [--labels both]

The labels are thinned as in a database merged from sets of different annotators: of the people of
the training split a third keep only their Action Units, a third only valence and arousal, a third
both; with `--shares 0.25` three quarters of the people keep no label at all. Every run sees equally
many pictures (those without a label too); the seed changes the first weights, the order and the
augmentation. `affectgan` and `multitask` see the same pictures in the same order and steps;
`ssgan2019` keeps the paper's own training: 64 pictures a step instead of 32, no augmentation, a
constant rate. Equal pictures are not equal work: the table has the processor time of a run.
Validation and test keep all labels; the test split is read once a run.

Intervals and tests are over seeds: they say what another run on these data would give, not what
other people or another third would. The p-values are those of paired t-tests, and Holm's over all
comparisons that answer one question (both or one, model, share). A stopped command goes on where it
stopped; runs that were begun with other settings or other data are refused.
"""

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import click
import numpy as np
import torch
from numpy.typing import NDArray

from affect.factory import load_model
from affect.labels import DIMENSIONS
from training.database.copying import copy_database
from training.database.reader import Database
from training.database.sample import SPLITS, TRAIN, Sample, place_of
from training.evaluation.core.paired_tests import Difference, difference, holm, mean_interval
from training.evaluation.core.predictions import load_faces, read
from training.evaluation.recognition import recognition
from training.gan import loop
from training.gan.config import Labels, TrainConfig, multitask, smoke, ssgan2019
from training.gan.run_folder import CONFIG_FILE, MODEL_FOLDER

ModelName = Literal["affectgan", "multitask", "ssgan2019"]
FIGURES = ("AU AUC", "AU F1", "valence CCC", "arousal CCC")
MODELS: dict[ModelName, Callable[[], TrainConfig]] = {
    "affectgan": smoke,
    "multitask": multitask,
    "ssgan2019": ssgan2019,
}
EVALUATED_FACES = 4_000
RESULT_FILE, DONE_FILE = "dual.json", "table"


@dataclass(frozen=True)
class Condition:
    """One row of the table."""

    model: ModelName
    labels: Labels
    share: float = 1.0  # of the people whose labels are kept

    @property
    def name(self) -> str:
        return f"{self.model}-{self.labels}-{self.share:g}"


Results = dict[Condition, dict[int, dict[str, float]]]  # by seed

# In the order of their worth: what a stopped experiment has is what matters most.
ROWS: tuple[tuple[ModelName, Labels], ...] = (
    ("affectgan", "both"),
    ("multitask", "both"),
    ("affectgan", "au"),
    ("affectgan", "va"),
    ("ssgan2019", "both"),
    ("multitask", "au"),
    ("multitask", "va"),
)


@dataclass(frozen=True)
class Comparison:
    """Two conditions that differ in one thing, in one figure."""

    question: str
    first: Condition
    second: Condition
    figure: str
    difference: Difference
    p_holm: float = float("nan")  # over all comparisons of the question


@click.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    required=True,
    help="rendered database, all labels",
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--seeds", type=click.IntRange(min=2), default=5, show_default=True)
@click.option(
    "--images",
    type=click.IntRange(min=64),
    default=24_000,
    show_default=True,
    help="pictures seen in a run",
)
@click.option(
    "--shares",
    type=click.FloatRange(0, 1, min_open=True),
    multiple=True,
    default=(1.0, 0.25),
    show_default=True,
)
@click.option(
    "--labels",
    "kinds",
    type=click.Choice(["both", "au", "va"]),
    multiple=True,
    default=("both", "au", "va"),
    show_default=True,
)
@click.option(
    "--models",
    type=click.Choice(list(MODELS)),
    multiple=True,
    default=tuple(MODELS),
    show_default=True,
)
def main(
    data: Path,
    out: Path,
    seeds: int,
    images: int,
    shares: Sequence[float],
    kinds: Sequence[str],
    models: Sequence[str],
) -> None:
    """Run what is missing, then write table.json and table.md."""
    torch.set_num_threads(1)
    conditions = [
        Condition(model, labels, share)
        for share in shares
        for model, labels in ROWS
        if model in models and labels in kinds
    ]
    for condition in conditions:
        for seed in range(seeds):
            refuse_another(config_of(condition, seed, images), run_of(condition, seed, out))
    for share in shares:
        thin(Database.open(data), out / f"data-{share:g}", share)
    for condition in conditions:
        for seed in range(seeds):
            measured(condition, seed, images, out)
        write_table(results(conditions, seeds, out), out)
    click.echo((out / f"{DONE_FILE}.md").read_text())


# -- data ------------------------------------------------------------------------------------------


def thin(database: Database, folder: Path, share: float) -> None:
    """A copy of the database whose training split has lost labels by person; done once.

    Refuses a copy of other pictures.
    """

    def less(sample: Sample) -> Sample:
        return (
            replace(sample, labels=thinned(sample.labels, sample.identity, share))
            if sample.split == TRAIN
            else sample
        )

    copy = Database.open(
        copy_database(database, folder, f"{database.card.name}-thinned-{share:g}", less)
    )
    # the sizes of the pictures, in bytes and in order, are as good as a digest
    for split in SPLITS:
        if not np.array_equal(copy.offsets(split).size, database.offsets(split).size):
            raise click.ClickException(
                f"{folder} was made from another database: give another --out"
            )


def thinned(labels: NDArray[np.float32], person: str, share: float) -> NDArray[np.float32]:
    """(K + 2,) labels of a picture after its person's fate: none, Action Units only, valence and
    arousal only, or both.
    """
    thinned_labels = labels.copy()
    fate = int(3 * place_of("kind", person))
    if place_of("share", person) >= share or fate == 0:
        thinned_labels[-len(DIMENSIONS) :] = np.nan
    if place_of("share", person) >= share or fate == 1:
        thinned_labels[: -len(DIMENSIONS)] = np.nan
    return thinned_labels


# -- runs ------------------------------------------------------------------------------------------


def config_of(condition: Condition, seed: int, images: int) -> TrainConfig:
    """The condition's preset at the common length."""
    config = replace(
        MODELS[condition.model](), labels=condition.labels, seed=seed, total_images=images
    )
    return replace(config, log_images=max(images // 8, 1), sample_images=images)


def run_of(condition: Condition, seed: int, out: Path) -> Path:
    return out / "runs" / f"{condition.name}-s{seed}"


def refuse_another(config: TrainConfig, run: Path) -> None:
    """A folder that was begun with other settings, finished or not, is no run of this
    experiment.
    """
    path = run / CONFIG_FILE
    if path.is_file():
        started = json.loads(path.read_text())
        if {name: started.get(name) for name in started if name != "data"} != config.as_json():
            raise click.ClickException(f"{run} was begun with other settings: give another --out")


def measured(condition: Condition, seed: int, images: int, out: Path) -> None:
    """Figures on the test split into the run's folder; trained now if need be."""
    run, data = run_of(condition, seed, out), out / f"data-{condition.share:g}"
    if (run / RESULT_FILE).is_file():
        return
    started, begin = (run / CONFIG_FILE).is_file(), time.process_time()
    if started:
        loop.resume(run)
    else:
        loop.start(config_of(condition, seed, images), data, run)
    if not (run / MODEL_FOLDER).is_dir():
        raise click.Abort  # stopped by a signal; its state is saved
    # of a run in two parts only the second is known
    cpu_seconds = {} if started else {"cpu_seconds": round(time.process_time() - begin, 1)}
    (run / f"{RESULT_FILE}.new").write_text(
        json.dumps(figures_of(run, data) | cpu_seconds, indent=2) + "\n"
    )
    os.replace(run / f"{RESULT_FILE}.new", run / RESULT_FILE)


def figures_of(run: Path, data: Path) -> dict[str, float]:
    """Thresholds from validation, figures from test; what the run did not learn is absent."""
    model, database = load_model(run / MODEL_FOLDER), Database.open(data)
    rng = np.random.default_rng(0)
    held = load_faces(database, model, "validation", EVALUATED_FACES, rng)
    model.replace_card(
        model.card.model_copy(
            update={
                "calibration": recognition.fit_calibrations(
                    model.card, held, read(model, held.images)
                )
            }
        )
    )
    faces = load_faces(database, model, "test", EVALUATED_FACES, rng)
    readings = read(model, faces.images)
    recognised = recognition.recognise(model.card, faces, readings, np.ones((1, len(faces))))
    figures: dict[str, float] = {"faces": len(faces)}
    if model.card.learns_aus:
        figures |= {"AU AUC": recognised.mean_auc.value, "AU F1": recognised.mean_f1.value}
    figures |= {f"{dimension.name} CCC": dimension.ccc.value for dimension in recognised.va}
    return figures


# -- table -----------------------------------------------------------------------------------------


def results(conditions: Sequence[Condition], seeds: int, out: Path) -> Results:
    """Figures by condition and seed, of the runs that are there."""
    files = {
        condition: {seed: run_of(condition, seed, out) / RESULT_FILE for seed in range(seeds)}
        for condition in conditions
    }
    measured_runs = {
        c: {seed: json.loads(file.read_text()) for seed, file in runs.items() if file.is_file()}
        for c, runs in files.items()
    }
    return {condition: runs for condition, runs in measured_runs.items() if runs}


def write_table(by_condition: Results, out: Path) -> None:
    """table.json and table.md."""
    compared = comparisons(by_condition)
    runs = {condition.name: runs for condition, runs in by_condition.items()}
    record = {"runs": runs, "comparisons": [asdict(comparison) for comparison in compared]}
    (out / f"{DONE_FILE}.json").write_text(json.dumps(record, indent=2) + "\n")
    (out / f"{DONE_FILE}.md").write_text(markdown(by_condition, compared))


def question(first: Condition, second: Condition) -> str | None:
    """What the comparison of two conditions that differ in one thing asks; None for a pair nobody
    asks about (or the other way round).
    """
    if first.labels != "both":
        return None
    alike = {
        field: getattr(first, field) == getattr(second, field)
        for field in ("model", "labels", "share")
    }
    if alike == {"model": True, "labels": False, "share": True}:
        return "both or one"
    if alike == {"model": False, "labels": True, "share": True}:
        return (
            "model" if list(MODELS).index(first.model) < list(MODELS).index(second.model) else None
        )
    if alike == {"model": True, "labels": True, "share": False}:
        return "share" if first.share > second.share else None
    return None


def comparisons(by_condition: Results) -> list[Comparison]:
    """Every pair that answers a question, in every figure that both learn, with Holm's p-value over
    all that answer the same one.
    """
    pairs = [(name, a, b) for a in by_condition for b in by_condition if (name := question(a, b))]
    each = [
        Comparison(name, a, b, figure, gap)
        for name, a, b in pairs
        for figure in FIGURES
        if (gap := difference(by_seed(by_condition[a], figure), by_seed(by_condition[b], figure)))
    ]
    families = [
        [c for c in each if c.question == name] for name in dict.fromkeys(c.question for c in each)
    ]
    corrected = [
        zip(family, holm([c.difference.p for c in family]), strict=True) for family in families
    ]
    return [replace(c, p_holm=float(p)) for family in corrected for c, p in family]


def by_seed(runs: dict[int, dict[str, float]], figure: str) -> dict[int, float]:
    """One figure of every run that learnt it."""
    return {seed: figures[figure] for seed, figures in runs.items() if figure in figures}


def markdown(by_condition: Results, compared: Sequence[Comparison]) -> str:
    """Two tables: means with 95 % intervals over seeds, and paired differences."""
    lines = [f"| run | seeds | {' | '.join(FIGURES)} | CPU s |", "|---" * (len(FIGURES) + 3) + "|"]
    for condition, runs in by_condition.items():
        cells = [_cell(list(by_seed(runs, figure).values())) for figure in FIGURES]
        cpu_seconds = list(by_seed(runs, "cpu_seconds").values())
        lines.append(
            f"| {condition.name} | {len(runs)} | {' | '.join(cells)} | "
            f"{f'{np.median(cpu_seconds):.0f}' if cpu_seconds else ''} |"
        )
    lines += [
        "",
        "| question | first - second | seeds | figure | difference | p, paired t | p, Holm |",
        "|---" * 7 + "|",
    ]
    for c in compared:
        d, names = c.difference, f"{c.first.name} - {c.second.name}"
        interval = f"{d.mean:+.3f} [{d.low:+.3f}, {d.high:+.3f}]"
        lines.append(
            f"| {c.question} | {names} | {d.seeds} | {c.figure} | {interval} | {d.p:.3f} | "
            f"{c.p_holm:.3f} |"
        )
    return "\n".join(lines) + "\n"


def _cell(sample: Sequence[float]) -> str:
    if len(sample) < 2:
        return "".join(f"{value:.3f}" for value in sample)
    return "{:.3f} [{:.3f}, {:.3f}]".format(*mean_interval(sample))


if __name__ == "__main__":
    main()
