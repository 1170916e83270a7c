"""The paper's question: does training on both annotations beat training on one, and does the GAN help the reader?

python experiments/dual.py --data DATABASE --out FOLDER [--seeds 5] [--images 24000] [--shares 1 --shares 0.25]

The labels are thinned as in a database merged from sets of different annotators: of the people of the training split a third keep only
their Action Units, a third only valence and arousal, a third both; with `--shares 0.25` three quarters of the people keep no label at all.
Every run sees the same pictures in the same order (those without a label too), equally many of them, in the same kind of step; the seed
changes the first weights, the order and the augmentation. Validation and test keep all labels; the test split is read once a run.
A stopped command goes on where it stopped; runs that were begun with other settings are refused.
"""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import click
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from affect.labels import DIMENSIONS
from affect.model import AffectModel
from training.database.copying import copy_database
from training.database.reader import Database
from training.database.sample import TRAIN, Sample, place_of
from training.evaluation import recognition
from training.evaluation.reading import load_faces, read
from training.gan import loop
from training.gan.config import Labels, TrainConfig, multitask, smoke, ssgan2019

FIGURES = ("AU AUC", "AU F1", "valence CCC", "arousal CCC")
MODELS = {"affectgan": smoke, "multitask": multitask, "ssgan2019": ssgan2019}
EVALUATED_FACES = 4_000
RESULT_FILE, DONE_FILE = "dual.json", "table"


@dataclass(frozen=True)
class Condition:
    """One row of the table."""

    model: Literal["affectgan", "multitask", "ssgan2019"]
    labels: Labels
    share: float = 1.0  # of the people whose labels are kept

    @property
    def name(self) -> str:
        return f"{self.model}-{self.labels}-{self.share:g}"


# In the order of their worth: what a stopped experiment has is what matters most.
ROWS: tuple[tuple[str, Labels], ...] = (
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
    """The mean over seeds of (first - second) in one figure, its 95 % interval, and the p-value of the paired t-test."""

    first: str
    second: str
    figure: str
    difference: float
    low: float
    high: float
    p: float
    seeds: int


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True, help="rendered database, all labels")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--seeds", type=click.IntRange(min=2), default=5, show_default=True)
@click.option("--images", type=click.IntRange(min=64), default=24_000, show_default=True, help="pictures seen in a run")
@click.option("--shares", type=click.FloatRange(0, 1, min_open=True), multiple=True, default=(1.0, 0.25), show_default=True)
@click.option("--models", type=click.Choice(list(MODELS)), multiple=True, default=tuple(MODELS), show_default=True)
def main(data: Path, out: Path, seeds: int, images: int, shares: Sequence[float], models: Sequence[str]) -> None:
    """Run what is missing, then write table.json and table.md."""
    torch.set_num_threads(1)
    for share in shares:
        thin(Database.open(data), out / f"data-{share:g}", share)
    conditions = [Condition(model, labels, share) for share in shares for model, labels in ROWS if model in models]  # type: ignore[arg-type]
    for condition in conditions:
        for seed in range(seeds):
            measured(condition, seed, images, out)
        write_table(conditions, out)
    click.echo((out / f"{DONE_FILE}.md").read_text())


# -- data ---------------------------------------------------------------------------------------------------------------------


def thin(database: Database, folder: Path, share: float) -> None:
    """A copy of the database whose training split has lost labels by person; done once."""

    def less(sample: Sample) -> Sample:
        return replace(sample, labels=thinned(sample.labels, sample.identity, share)) if sample.split == TRAIN else sample

    copy_database(database, folder, f"{database.card.name}-thinned-{share:g}", less)


def thinned(labels: NDArray[np.float32], person: str, share: float) -> NDArray[np.float32]:
    """(K + 2,) labels of a picture after its person's fate: none, Action Units only, valence and arousal only, or both."""
    kept = labels.copy()
    fate = int(3 * place_of("kind", person))
    if place_of("share", person) >= share or fate == 0:
        kept[-len(DIMENSIONS) :] = np.nan
    if place_of("share", person) >= share or fate == 1:
        kept[: -len(DIMENSIONS)] = np.nan
    return kept


# -- runs ---------------------------------------------------------------------------------------------------------------------


def config_of(condition: Condition, seed: int, images: int) -> TrainConfig:
    """The condition's preset at the common length."""
    config = replace(MODELS[condition.model](), labels=condition.labels, seed=seed, total_images=images)
    return replace(config, log_images=max(images // 8, 1), sample_images=images)


def measured(condition: Condition, seed: int, images: int, out: Path) -> dict[str, float]:
    """The run's figures on the test split; trained now if need be."""
    run = out / "runs" / f"{condition.name}-s{seed}"
    config, data = config_of(condition, seed, images), out / f"data-{condition.share:g}"
    if (run / RESULT_FILE).is_file():
        if json.loads((run / "config.json").read_text())["total_images"] != images:
            raise click.ClickException(f"{run} was trained with other --images: give another --out")
    else:
        begin = time.process_time()
        if (run / "config.json").is_file():
            loop.resume(run)
        else:
            loop.start(config, data, run)
        if not (run / "model").is_dir():
            raise click.Abort  # stopped by a signal; its state is saved
        figures = figures_of(run, data) | {"cpu_seconds": round(time.process_time() - begin, 1)}
        (run / f"{RESULT_FILE}.new").write_text(json.dumps(figures, indent=2) + "\n")
        os.replace(run / f"{RESULT_FILE}.new", run / RESULT_FILE)
    result: dict[str, float] = json.loads((run / RESULT_FILE).read_text())
    return result


def figures_of(run: Path, data: Path) -> dict[str, float]:
    """Thresholds from validation, figures from test; what the run did not learn is absent."""
    model, database = AffectModel.load(run / "model"), Database.open(data)
    rng = np.random.default_rng(0)
    held = load_faces(database, model, "validation", EVALUATED_FACES, rng)
    model.recard(model.card.model_copy(update={"calibration": recognition.fit_calibrations(model.card, held, read(model, held.images))}))
    faces = load_faces(database, model, "test", EVALUATED_FACES, rng)
    seen = read(model, faces.images)
    found = recognition.recognise(model.card, faces, seen, np.ones((1, len(faces))))
    figures: dict[str, float] = {"faces": len(faces)}
    if recognition.learns_aus(model.card):
        figures |= {"AU AUC": found.mean_auc.value, "AU F1": found.mean_f1.value}
    figures |= {f"{dimension.name} CCC": dimension.ccc.value for dimension in found.va}
    return figures


# -- table --------------------------------------------------------------------------------------------------------------------


def write_table(conditions: Sequence[Condition], out: Path) -> None:
    """table.json and table.md from the runs that are there."""
    found = {condition.name: results(condition, out) for condition in conditions}
    found = {name: rows for name, rows in found.items() if rows}
    compared = comparisons({name: rows for name, rows in found.items() if len(rows) > 1})
    rows = {name: {figure: mean_interval(values(runs, figure)) for figure in FIGURES} for name, runs in found.items()}
    record = {"runs": found, "rows": rows, "comparisons": [asdict(comparison) for comparison in compared]}
    (out / f"{DONE_FILE}.json").write_text(json.dumps(record, indent=2) + "\n")
    (out / f"{DONE_FILE}.md").write_text(markdown(found, rows, compared))


def results(condition: Condition, out: Path) -> dict[str, dict[str, float]]:
    """Figures by seed."""
    files = sorted((out / "runs").glob(f"{condition.name}-s*/{RESULT_FILE}"))
    return {file.parent.name.rsplit("-s", 1)[1]: json.loads(file.read_text()) for file in files}


def values(runs: dict[str, dict[str, float]], figure: str) -> NDArray[np.float64]:
    """One figure of every seed that has it."""
    return np.array([figures[figure] for figures in runs.values() if figure in figures])


def mean_interval(sample: NDArray[np.float64]) -> tuple[float, float, float] | None:
    """Mean and 95 % interval of the mean over seeds (Student's t); None for an empty sample."""
    if not len(sample):
        return None
    half = stats.t.ppf(0.975, len(sample) - 1) * stats.sem(sample) if len(sample) > 1 else float("nan")
    return float(sample.mean()), float(sample.mean() - half), float(sample.mean() + half)


def comparisons(found: dict[str, dict[str, dict[str, float]]]) -> list[Comparison]:
    """Both against one for each model, and each model against the others on both, at each share of labels."""
    pairs = [(a, b) for a in found for b in found if a != b and _comparable(a, b)]
    return [comparison for a, b in pairs for figure in FIGURES if (comparison := compare(found, a, b, figure))]


def _comparable(first: str, second: str) -> bool:
    model, labels, share = first.split("-")
    other, other_labels, other_share = second.split("-")
    if labels != "both" or share != other_share:
        return False
    return (model == other and other_labels != "both") or (model == "affectgan" != other and other_labels == "both")


def compare(found: dict[str, dict[str, dict[str, float]]], first: str, second: str, figure: str) -> Comparison | None:
    """Paired over the seeds that both have; None where one of them does not learn the figure."""
    a, b = found[first], found[second]
    seeds = [seed for seed in a if seed in b and figure in a[seed] and figure in b[seed]]
    if len(seeds) < 2:
        return None
    left, right = (np.array([runs[seed][figure] for seed in seeds]) for runs in (a, b))
    test = stats.ttest_rel(left, right)
    low, high = test.confidence_interval(0.95)
    return Comparison(first, second, figure, float((left - right).mean()), float(low), float(high), float(test.pvalue), len(seeds))


def markdown(
    found: dict[str, dict[str, dict[str, float]]],
    rows: dict[str, dict[str, tuple[float, float, float] | None]],
    compared: Sequence[Comparison],
) -> str:
    """Two tables: means with 95 % intervals over seeds, and paired differences."""
    lines = [f"| run | seeds | {' | '.join(FIGURES)} |", "|---" * (len(FIGURES) + 2) + "|"]
    for name, figures in rows.items():
        lines.append(f"| {name} | {len(found[name])} | {' | '.join(_cell(figures[figure]) for figure in FIGURES)} |")
    lines += ["", "| first - second | figure | difference | p, paired t |", "|---|---|---|---|"]
    for c in compared:
        lines.append(f"| {c.first} - {c.second} | {c.figure} | {c.difference:+.3f} [{c.low:+.3f}, {c.high:+.3f}] | {c.p:.3f} |")
    return "\n".join(lines) + "\n"


def _cell(interval: tuple[float, float, float] | None) -> str:
    return "" if interval is None else "{:.3f} [{:.3f}, {:.3f}]".format(*interval)


if __name__ == "__main__":
    main()
