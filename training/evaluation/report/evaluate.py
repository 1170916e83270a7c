"""Evaluation of a run: calibrate on validation, measure on the test split once, let the judge grade
what is drawn, report.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from affect.card import Measured, ModelCard
from affect.factory import load_model
from affect.judge import Judge, JudgeCard
from affect.labels import DIMENSIONS
from affect.model import AffectModel
from training.database.card import DataError
from training.database.reader import Database
from training.database.sample import VALIDATION
from training.evaluation.bias import nuisance_directions
from training.evaluation.core import metrics
from training.evaluation.core.metrics import Interval
from training.evaluation.core.predictions import U8, Faces, Read, in_batches, load_faces, read
from training.evaluation.explanation.examples import Told
from training.evaluation.explanation.explanations import Benchmark, benchmark
from training.evaluation.generation import generation
from training.evaluation.generation.generation import (
    CircumplexPoint,
    Control,
    CrossTalk,
    Direction,
    Distances,
    JudgeEvaluator,
    Memory,
    TwinEdit,
)
from training.evaluation.recognition import recognition, robustness
from training.evaluation.recognition.pairwise_ranking import PairwiseRanking, pairwise_rankings
from training.evaluation.recognition.recognition import (
    GroupTable,
    Recognition,
)
from training.evaluation.recognition.robustness import Curve, OutOfDistribution
from training.evaluation.report import pictures, plots
from training.gan.post_training import fit_features
from training.gan.run_folder import MODEL_FOLDER
from training.pages import Strip

QUANTILES = np.linspace(0, 1, 101)


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How much is measured.

    The numbers of faces are part of the figures: distances depend on them.
    """

    split: str = "test"
    # fit calibration and write the card; None: only on the data that the run was trained on
    calibrate: bool | None = None
    most_images: int = 4_000  # of a split
    drawn_images: int = 1_000
    edited_images: int = 500
    corrupted_images: int = 400  # each of 8 harms at 4 strengths
    out_of_distribution_images: int = 200  # of each kind
    training_images: int = 4_000  # looked through for memorised faces
    explained_images: int = 0  # questions whose explanations are graded
    # rendered in two versions of each nuisance, for weights that know none yet
    nuisance_people: int = 96
    seed: int = 0


@dataclass
class Generated:
    """What the judge says about drawn pictures."""

    judge: JudgeCard
    ceiling: Control  # the judge on real faces of the same split
    samples: Control
    edits: Control
    reconstructions: Control
    cross_talk: CrossTalk | None
    circumplex: tuple[CircumplexPoint, ...]
    circumplex_control: Control | None
    directions: tuple[Direction, ...]  # of the circumplex
    distances: Distances | None


@dataclass
class Report:
    """Everything measured. Plots and pictures are kept apart: they go into the HTML only."""

    run: str
    card: ModelCard
    data: str
    split: str
    faces: int
    people: int
    at_home: bool  # on the data that the run was trained on
    wrote_card: bool  # calibration, reference and quality went into the card
    # faces of the validation split; 0 where the card's calibration was left as it was
    calibrated_on: int
    recognition: Recognition
    groups: tuple[GroupTable, ...]
    pairwise_rankings: tuple[PairwiseRanking, ...]  # pairs of faces of one person
    generated: Generated | None
    explanations: Benchmark | None
    twin_edits: TwinEdit | None
    memory: Memory | None
    robustness: tuple[Curve, ...]
    out_of_distribution: tuple[OutOfDistribution, ...]
    milliseconds: dict[str, Interval]  # a face: median, fastest, slowest
    machine: str
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass
class Art:
    """Plots as SVG, pictures as arrays."""

    plots: dict[str, str]
    random: U8
    sweeps: list[Strip]
    circumplex: list[U8]
    changes: list[Strip]
    counterfactuals: list[Strip]
    memory: list[tuple[U8, U8]]
    explained: list[Told] = field(default_factory=list)


class _Stages:
    """A progress bar over named stages that keeps how long each took."""

    def __init__(self, count: int) -> None:
        self.seconds: dict[str, float] = {}
        self.bar = tqdm(total=count, desc="evaluate", unit="stage")

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self.bar.set_postfix_str(name)
        start = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - start, 2)
        self.bar.update()


def evaluate(
    run: Path, data: Path, judge_folder: Path | None, config: EvaluationConfig
) -> tuple[Report, Art]:
    """Measure the run, and write calibration, quality and reference into its card if these are its
    own data.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_flush_denormal(True)
    model = load_model(run / MODEL_FOLDER, device=device)
    database = Database.open(data)
    judge = Judge.load(judge_folder, device=device) if judge_folder else None
    rng, generator = np.random.default_rng(config.seed), torch.Generator().manual_seed(config.seed)
    stages = _Stages(12)
    at_home = database.card.name == model.card.data.name
    write_card = at_home if config.calibrate is None else config.calibrate

    with stages("nuisances"):
        if write_card and not model.card.nuisances:
            nuisance_directions.learn(model, people=config.nuisance_people, seed=config.seed)
            model.save(run / MODEL_FOLDER)
    with stages("calibration"):
        if write_card and "strangeness" not in model.card.reference:
            learn_features(model, database, config, rng)
            model.save(run / MODEL_FOLDER)
        calibrated_on = calibrate(model, database, config, rng) if write_card else 0
    with stages("reading"):
        faces = load_faces(database, model, config.split, config.most_images, rng)
        if not len(faces):
            raise DataError(
                f"split {config.split!r} of {data} is empty: give a database with more "
                "people, or another --split"
            )
        seen = read(model, faces.images)
    with stages("figures"):
        weights = metrics.resamplings(faces.identity, rng)
        recognised = recognition.recognise(model.card, faces, seen, weights)
        groups = recognition.group_tables(model.card, faces, seen, weights)
    with stages("drawing"):
        asked = faces.truth[rng.permutation(len(faces))[: config.drawn_images]]
        drawn = generation.draw_samples(model, asked, generator)
        twins = generation.twin_edits(model, faces, config.edited_images, generator)
    with stages("judging"):
        generated = (
            judged(model, JudgeEvaluator(judge, model), faces, drawn, config, rng, generator)
            if judge
            else None
        )
    with stages("explanations"):
        explained: Benchmark | None = None
        told: list[Told] = []
        if judge and config.explained_images and len(database.table("train")):
            some = np.sort(rng.permutation(len(database.table("train")))[: config.training_images])
            pool = database.images("train", some, model.card.image_px)
            explained, told = benchmark(
                model, JudgeEvaluator(judge, model), faces, pool, rng, count=config.explained_images
            )
    with stages("memory"):
        remembered, pairs = generation.memory(
            database, drawn.images, faces, config.training_images, rng
        )
    with stages("robustness"):
        some = np.sort(rng.permutation(len(faces))[: config.corrupted_images])
        curves = robustness.curves(model, faces.take(some), rng)
    with stages("outsiders"):
        strange = robustness.out_of_distribution(
            model, faces, seen, config.out_of_distribution_images, rng
        )
    with stages("speed"):
        milliseconds = generation.speed(model)
    with stages("pictures"):
        art = _art(model, faces, seen, asked, generated, curves, pairs, generator)
        art.explained = told
    stages.bar.close()

    report = Report(
        run=run.resolve().name,
        card=model.card,
        data=database.card.name,
        split=config.split,
        faces=len(faces),
        people=len(np.unique(faces.identity)),
        at_home=at_home,
        wrote_card=write_card,
        calibrated_on=calibrated_on,
        recognition=recognised,
        groups=groups,
        pairwise_rankings=pairwise_rankings(model.card, faces, seen),
        generated=generated,
        explanations=explained,
        twin_edits=twins,
        memory=remembered,
        robustness=curves,
        out_of_distribution=strange,
        milliseconds=milliseconds,
        machine=_machine(device),
        seconds=stages.seconds,
    )
    if write_card:
        report.card = model.card.model_copy(update={"quality": quality(report)})
        report.card.save(run / MODEL_FOLDER)
    return report, art


def learn_features(
    model: AffectModel, database: Database, config: EvaluationConfig, rng: np.random.Generator
) -> None:
    """Fit what is strange to a model, for weights of before training did so itself."""
    faces = load_faces(database, model, "train", config.training_images, rng)
    (features,) = in_batches(model, lambda x: (model.read(x).features,), faces.images)
    fit_features(model, torch.from_numpy(features).float())


def calibrate(
    model: AffectModel, database: Database, config: EvaluationConfig, rng: np.random.Generator
) -> int:
    """Fit calibration and reference quantiles on the validation split, into the model's card;
    returns how many faces it had.
    """
    if not len(database.table(VALIDATION)):
        return 0
    faces = load_faces(database, model, VALIDATION, config.most_images, rng)
    seen = read(model, faces.images)
    fitted = recognition.fit_calibrations(model.card, faces, seen)
    model.replace_card(
        model.card.model_copy(
            update={"calibration": fitted, "reference": _reference(model.card, seen)}
        )
    )
    return len(faces)


def _reference(card: ModelCard, seen: Read) -> dict[str, list[float]]:
    columns = {
        "critic": seen.critic,
        "strangeness": seen.strangeness,
        "reconstruction_error": seen.reconstruction_error,
    }
    columns |= {name: seen.labels[:, i] for i, name in enumerate(card.labels_of.names)}
    return {
        name: [round(float(q), 6) for q in np.quantile(values, QUANTILES)]
        for name, values in columns.items()
    }


def judged(
    model: AffectModel,
    evaluator: JudgeEvaluator,
    faces: Faces,
    drawn: generation.Drawn,
    config: EvaluationConfig,
    rng: np.random.Generator,
    generator: torch.Generator,
) -> Generated:
    """Everything that needs the judge."""
    real_labels, real_features = evaluator.read(faces.images)
    drawn_labels, drawn_features = evaluator.read(drawn.images)
    some = rng.permutation(len(faces))[: config.edited_images]
    start, goals = faces.images[some], faces.truth[rng.permutation(len(faces))[: len(some)]]
    edited = evaluator.read(generation.edit_to(model, start, goals, generator).images)[0]
    redrawn = evaluator.read(generation.reconstruct(model, start))[0]
    around = generation.circumplex(model, evaluator, generator)
    return Generated(
        judge=evaluator.judge.card,
        ceiling=evaluator.control(faces.truth, real_labels, faces.identity),
        samples=evaluator.control(drawn.asked, drawn_labels, np.arange(len(drawn.asked))),
        edits=evaluator.control(goals, edited, faces.identity[some]),
        reconstructions=evaluator.control(faces.truth[some], redrawn, faces.identity[some]),
        cross_talk=generation.cross_talk(model, evaluator, generator),
        circumplex=around[0] if around else (),
        circumplex_control=around[1] if around else None,
        directions=around[2] if around else (),
        distances=generation.measure_distances(faces, real_features, drawn_features, rng),
    )


def quality(report: Report) -> dict[str, Measured]:
    """The figures a card carries: a dozen, with intervals."""
    found, made = report.recognition, report.generated
    figures = {
        "au_f1": found.mean_f1,
        "au_auc": found.mean_auc,
        "au_calibration_error": found.mean_calibration_error,
    }
    figures |= {f"{va.name}_ccc": va.ccc for va in found.va} | {
        f"{va.name}_oracle_ccc": va.oracle_ccc for va in found.va
    }
    figures |= {f"{au.code}_f1": au.f1 for au in found.aus} | {
        f"{au.code}_auc": au.auc for au in found.aus
    }
    if made:
        figures |= {"drawn_au_auc": made.samples.mean_auc, "drawn_va_ccc": made.samples.mean_ccc}
        figures |= {"judge_au_auc": made.ceiling.mean_auc, "judge_va_ccc": made.ceiling.mean_ccc}
    if made and made.distances:
        figures |= {
            "fd_judge": made.distances.frechet,
            "fd_judge_floor": made.distances.frechet_floor,
        }
    return {
        name: Measured(
            value=round(f.value, 4), low=_finite(f.low), high=_finite(f.high), split=report.split
        )
        for name, f in figures.items()
        if np.isfinite(f.value)
    }


def _art(
    model: AffectModel,
    faces: Faces,
    seen: Read,
    asked: np.ndarray,
    generated: Generated | None,
    curves: tuple[Curve, ...],
    pairs: list[tuple[U8, U8]],
    generator: torch.Generator,
) -> Art:
    card, drawings = model.card, dict[str, str]()
    if card.learns_aus and card.vocabulary:
        probability = recognition.probabilities(card, seen.logits)
        drawings["reliability"] = plots.reliability(
            card.vocabulary, recognition.presence(card, faces.truth), probability
        )
    if card.learns_va:
        drawings["valence_arousal"] = plots.valence_arousal(
            faces.truth[:, -len(DIMENSIONS) :], seen.va
        )
    if generated and generated.cross_talk:
        drawings["cross_talk"] = plots.cross_talk(generated.cross_talk)
    if generated and generated.circumplex:
        drawings["circumplex"] = plots.circumplex(generated.circumplex)
    drawings["robustness"] = plots.robustness(curves)
    first_of_person = np.unique(faces.identity, return_index=True)[1][:10]
    around = [pictures.circumplex_sheet(model, generator) for _ in range(2)]
    return Art(
        plots=drawings,
        random=pictures.random_sheet(model, asked, generator),
        sweeps=pictures.au_sweeps(model, generator),
        circumplex=[sheet for sheet in around if sheet is not None],
        changes=pictures.change_strips(model, faces.take(first_of_person), generator),
        counterfactuals=pictures.counterfactuals(model, faces.take(first_of_person[:6])),
        memory=pairs,
    )


def _finite(value: float) -> float | None:
    return round(value, 4) if np.isfinite(value) else None


def _machine(device: str) -> str:
    return (
        torch.cuda.get_device_name()
        if device == "cuda"
        else f"CPU, {torch.get_num_threads()} thread(s)"
    )
