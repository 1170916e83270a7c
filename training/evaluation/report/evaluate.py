"""Evaluation of a run: calibrate on validation, measure on the test split once, let the judge grade
what is drawn, report.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from affect.card import ModelCard
from affect.factory import load_model
from affect.judge import Judge
from affect.labels import DIMENSIONS
from affect.model import AffectModel
from affect.model_folders import judge_folder as judge_of
from training.database.card import DataError
from training.database.reader import Database
from training.database.sample import VALIDATION
from training.evaluation.bias import nuisance_directions
from training.evaluation.core import metrics
from training.evaluation.core.metrics import Interval
from training.evaluation.core.predictions import U8, Faces, Floats, Read, load_faces, read
from training.evaluation.explanation.domains import (
    FITTED,
    DomainFigures,
    Judges,
    ask_about,
    fit_trust,
    measure_domain,
    name_of,
)
from training.evaluation.explanation.examples import ExplanationExample
from training.evaluation.explanation.explanations import Benchmark, benchmark
from training.evaluation.explanation.questions import AnsweredQuestions, ask
from training.evaluation.generation import control, drawing, fidelity, speed
from training.evaluation.judge.evaluator import JudgeEvaluator
from training.evaluation.recognition import recognition, robustness
from training.evaluation.recognition.attributes import AttributeFigures, measure_attributes
from training.evaluation.recognition.card_calibration import (
    CalibrationData,
    calibrate,
    learn_features,
)
from training.evaluation.recognition.pairwise_ranking import pairwise_rankings
from training.evaluation.recognition.photographs import Photographs, measure_photographs
from training.evaluation.recognition.recognition import GroupTable, Recognition
from training.evaluation.recognition.robustness import Curve, OutOfDistribution
from training.evaluation.report import pictures, plots
from training.evaluation.report.contents import Generated, Illustrations, Report, quality
from training.gan.run_folder import MODEL_FOLDER


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
    corrupted_images: int = 400  # each of 8 corruptions at 4 strengths
    out_of_distribution_images: int = 200  # of each kind
    training_images: int = 4_000  # looked through for memorised faces
    explained_images: int = 0  # questions whose explanations are graded
    # rendered in two versions of each nuisance, for weights that know none yet
    nuisance_people: int = 96
    seed: int = 0


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


@dataclass(frozen=True)
class _Evaluation:
    """What every stage works with. Random numbers are drawn in the order of the stages."""

    folder: Path  # of the model
    model: AffectModel
    database: Database
    photographs: Sequence[Database]
    evaluator: JudgeEvaluator | None
    second: Judge | None  # the judge that grades explanations
    config: EvaluationConfig
    writes_card: bool
    rng: np.random.Generator
    generator: torch.Generator


@dataclass(frozen=True)
class _Recognised:
    """Faces of the split, the model's readings and their figures."""

    faces: Faces
    read: Read
    recognition: Recognition
    groups: tuple[GroupTable, ...]
    attributes: AttributeFigures


@dataclass(frozen=True)
class _Explained:
    """Explanations of the split's faces, their figures and some of them for people."""

    figures: Benchmark | None
    examples: list[ExplanationExample]
    questions: AnsweredQuestions | None


@dataclass(frozen=True)
class _Drawn:
    """New faces in states of real ones, and their figures."""

    requested: Floats  # (N, K + 2)
    generated: Generated | None
    twin_edits: fidelity.TwinEdit | None
    explained: _Explained
    memory: fidelity.Memorisation | None
    nearest: list[tuple[U8, U8]]  # drawn faces beside their nearest training faces


@dataclass(frozen=True)
class _Figures:
    """What all stages found."""

    calibrated_on: int  # faces
    recognised: _Recognised
    photographs: tuple[Photographs, ...]
    drawn: _Drawn
    explained_domains: tuple[DomainFigures, ...]
    robustness: tuple[Curve, ...]
    out_of_distribution: tuple[OutOfDistribution, ...]
    milliseconds: dict[str, Interval]  # a face


def evaluate(
    run: Path,
    data: Path,
    judge_folder: Path | None,
    config: EvaluationConfig,
    *,
    photographs: Sequence[Path] = (),
    second_judge: Path | None = None,
) -> tuple[Report, Illustrations]:
    """Measure the run, and write calibration, quality and reference into its card if these are its
    own data. `photographs` are databases of people, measured apart. `second_judge` grades
    explanations, and trust in them is fitted to what it confirms; without one `judge_folder` does
    the first.
    """
    torch.set_flush_denormal(True)
    work, stages = _open(run, data, photographs, (judge_folder, second_judge), config), _Stages(15)
    figures = _measure(work, stages, data)
    with stages("pictures"):
        illustrations = _illustrate(work, figures)
    stages.bar.close()
    report = _report(work, figures, stages.seconds)
    if work.writes_card:
        report.card = report.card.model_copy(update={"quality": quality(report)})
        report.card.save(work.folder)
    return report, illustrations


# -- stages ----------------------------------------------------------------------------------------


def _open(
    run: Path,
    data: Path,
    photographs: Sequence[Path],
    judges: tuple[Path | None, Path | None],
    config: EvaluationConfig,
) -> _Evaluation:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_model(run / MODEL_FOLDER, device=device)
    database = Database.open(data)
    judge, second = (Judge.load(one, device=device) if one else None for one in judges)
    at_home = database.card.name == model.card.data.name
    return _Evaluation(
        folder=run / MODEL_FOLDER,
        model=model,
        database=database,
        photographs=[Database.open(folder) for folder in photographs],
        evaluator=JudgeEvaluator(judge, model) if judge else None,
        second=second or judge,
        config=config,
        writes_card=at_home if config.calibrate is None else config.calibrate,
        rng=np.random.default_rng(config.seed),
        generator=torch.Generator().manual_seed(config.seed),
    )


def _measure(work: _Evaluation, stages: _Stages, data: Path) -> _Figures:
    """All stages in their order, the pictures aside."""
    config, rng = work.config, work.rng
    calibrated_on = _prepare(work, stages)
    recognised = _recognise(work, stages, data)
    with stages("photographs"):
        of_people = tuple(
            measure_photographs(work.model, one, config.split, config.most_images, rng)
            for one in work.photographs
        )
    drawn = _draw(work, stages, recognised)
    with stages("trust"):
        domains = _measure_trust(work, drawn.explained.questions)
    with stages("robustness"):
        sampled = np.sort(rng.permutation(len(recognised.faces))[: config.corrupted_images])
        curves = robustness.curves(work.model, recognised.faces.take(sampled), rng)
    with stages("out of distribution"):
        out_of_distribution = robustness.out_of_distribution(
            work.model, recognised.faces, recognised.read, config.out_of_distribution_images, rng
        )
    with stages("speed"):
        milliseconds = speed.speed(work.model)
    return _Figures(
        calibrated_on,
        recognised,
        of_people,
        drawn,
        domains,
        curves,
        out_of_distribution,
        milliseconds,
    )


def _prepare(work: _Evaluation, stages: _Stages) -> int:
    """Nuisances, features and calibration into weights and card, where these may be written.

    Returns how many faces calibrated it.
    """
    model, config = work.model, work.config
    with stages("nuisances"):
        if work.writes_card and not model.card.nuisances:
            nuisance_directions.learn(model, people=config.nuisance_people, seed=config.seed)
            model.save(work.folder)
    with stages("calibration"):
        data = CalibrationData(work.database, work.photographs, config.most_images)
        measured = "strangeness" in model.card.reference and model.card.unit_features
        if work.writes_card and not measured:
            learn_features(model, data, work.rng)
            model.save(work.folder)
        count = calibrate(model, data, work.rng) if work.writes_card else 0
    with stages("trust levels"):
        if work.writes_card:
            _fit_trust(work)
    return count


def _recognise(work: _Evaluation, stages: _Stages, data: Path) -> _Recognised:
    model, config = work.model, work.config
    with stages("reading"):
        faces = load_faces(work.database, model, config.split, config.most_images, work.rng)
        if not len(faces):
            raise DataError(
                f"split {config.split!r} of {data} is empty: give a database with more "
                "people, or another --split"
            )
        output = read(model, faces.images)
    with stages("figures"):
        weights = metrics.resamplings(faces.identity, work.rng)
        recognised = recognition.recognise(model.card, faces, output, weights)
        groups = recognition.group_tables(model.card, faces, output, weights)
        attributes = measure_attributes(model.card, faces, output, weights)
    return _Recognised(faces, output, recognised, groups, attributes)


def _draw(work: _Evaluation, stages: _Stages, recognised: _Recognised) -> _Drawn:
    model, config, faces = work.model, work.config, recognised.faces
    with stages("drawing"):
        requested = faces.truth[work.rng.permutation(len(faces))[: config.drawn_images]]
        drawn = drawing.draw_samples(model, requested, work.generator)
        twin_edits = fidelity.twin_edits(model, faces, config.edited_images, work.generator)
    with stages("judging"):
        evaluator = work.evaluator
        generated = judge_drawn(work, evaluator, faces, drawn) if evaluator else None
    with stages("explanations"):
        explained = _explain(work, faces)
    with stages("memory"):
        memory, nearest = fidelity.memory(
            work.database, drawn.images, faces, config.training_images, work.rng
        )
    return _Drawn(requested, generated, twin_edits, explained, memory, nearest)


def judge_drawn(
    work: _Evaluation, evaluator: JudgeEvaluator, faces: Faces, drawn: drawing.DrawnFaces
) -> Generated:
    """Everything that needs the judge."""
    model, rng, generator = work.model, work.rng, work.generator
    real_labels, real_features = evaluator.read(faces.images)
    drawn_labels, drawn_features = evaluator.read(drawn.images)
    sampled = rng.permutation(len(faces))[: work.config.edited_images]
    start, target_labels = (
        faces.images[sampled],
        faces.truth[rng.permutation(len(faces))[: len(sampled)]],
    )
    edited, _ = evaluator.read(drawing.edit_to(model, start, target_labels, generator).images)
    redrawn, _ = evaluator.read(drawing.reconstruct(model, start))
    circumplex_points = control.circumplex(model, evaluator, generator)
    return Generated(
        judge=evaluator.judge.card,
        ceiling=evaluator.control(faces.truth, real_labels, faces.identity),
        samples=evaluator.control(drawn.requested, drawn_labels, np.arange(len(drawn.requested))),
        edits=evaluator.control(target_labels, edited, faces.identity[sampled]),
        reconstructions=evaluator.control(faces.truth[sampled], redrawn, faces.identity[sampled]),
        cross_talk=control.cross_talk(model, evaluator, generator),
        circumplex=circumplex_points[0] if circumplex_points else (),
        circumplex_control=circumplex_points[1] if circumplex_points else None,
        directions=circumplex_points[2] if circumplex_points else (),
        distances=fidelity.measure_distances(faces, real_features, drawn_features, rng),
    )


def _explain(work: _Evaluation, faces: Faces) -> _Explained:
    """Grade explanations, where a judge, training faces and a number of questions are given."""
    count, training = work.config.explained_images, len(work.database.table("train"))
    if not (work.evaluator and count and training):
        return _Explained(None, [], None)
    sampled = np.sort(work.rng.permutation(training)[: work.config.training_images])
    pool = work.database.images("train", sampled, work.model.card.image_px)
    assert work.second is not None
    sampled_faces = faces.take(np.sort(work.rng.permutation(len(faces))[:count]))
    questions = ask(work.model, sampled_faces, work.rng, _served_judge(work))
    grader = JudgeEvaluator(work.second, work.model)
    return _Explained(*benchmark(work.model, grader, faces, questions, pool, work.rng), questions)


def _served_judge(work: _Evaluation) -> Judge | None:
    """The judge beside the model, else --judge, which sets trust when serving; None where it is the
    one that grades: no judge grades its own answers; then no answer is "high".
    """
    folder, device = judge_of(work.folder), str(work.model.platt.device)
    if work.evaluator is None or work.second is None:
        return None
    served = Judge.load(folder, device=device) if folder else work.evaluator.judge
    return None if served.card.sha256 == work.second.card.sha256 else served


def _fit_trust(work: _Evaluation) -> None:
    """Trust levels into the card, as answers about validation faces earn them."""
    served, count = _served_judge(work), work.config.explained_images
    if served is None or work.second is None or not count:
        return
    databases, judges = (work.database, *work.photographs), Judges(served, work.second)
    rng = np.random.default_rng(work.config.seed)
    levels = fit_trust(work.model, judges, databases, VALIDATION, FITTED * count, rng)
    work.model.replace_card(work.model.card.model_copy(update={"trust_levels": levels}))


def _measure_trust(
    work: _Evaluation, of_renders: AnsweredQuestions | None
) -> tuple[DomainFigures, ...]:
    """Explanations as they are served, on each kind of faces apart; those about the run's own faces
    were asked for already.
    """
    served, second, config = _served_judge(work), work.second, work.config
    if served is None or second is None or not config.explained_images:
        return ()
    model, split, rng = work.model, config.split, work.rng
    answers = {name_of(work.database, split): of_renders} if of_renders else {}
    for one in work.photographs if of_renders else (work.database, *work.photographs):
        if one.count(split):
            questions = ask_about(model, served, one, split, config.explained_images, rng)
            answers[name_of(one, split)] = questions
    return tuple(
        measure_domain(model, second, questions, on, rng) for on, questions in answers.items()
    )


def _illustrate(work: _Evaluation, figures: _Figures) -> Illustrations:
    model, generator = work.model, work.generator
    faces, drawn = figures.recognised.faces, figures.drawn
    first_of_person = np.unique(faces.identity, return_index=True)[1][:10]
    circumplex_sheets = [pictures.circumplex_sheet(model, generator) for _ in range(2)]
    return Illustrations(
        plots=_plots(model.card, figures.recognised, drawn.generated, figures.robustness),
        random=pictures.random_sheet(model, drawn.requested, generator),
        sweeps=pictures.au_sweeps(model, generator),
        circumplex=[sheet for sheet in circumplex_sheets if sheet is not None],
        changes=pictures.change_strips(model, faces.take(first_of_person), generator),
        counterfactuals=pictures.counterfactuals(model, faces.take(first_of_person[:6])),
        memory=drawn.nearest,
        examples=drawn.explained.examples,
    )


def _plots(
    card: ModelCard, recognised: _Recognised, generated: Generated | None, curves: tuple[Curve, ...]
) -> dict[str, str]:
    """SVG by name."""
    faces, output = recognised.faces, recognised.read
    figures_by_name = {"robustness": plots.robustness(curves)}
    if card.learns_aus and card.vocabulary:
        present = recognition.presence(card, faces.truth)
        probability = recognition.probabilities(card, output.logits)
        figures_by_name["reliability"] = plots.reliability(card.vocabulary, present, probability)
    if card.learns_va:
        truth = faces.truth[:, -len(DIMENSIONS) :]
        figures_by_name["valence_arousal"] = plots.valence_arousal(truth, output.va)
    if generated and generated.cross_talk:
        figures_by_name["cross_talk"] = plots.cross_talk(generated.cross_talk)
    if generated and generated.circumplex:
        figures_by_name["circumplex"] = plots.circumplex(generated.circumplex)
    return figures_by_name


def _report(work: _Evaluation, figures: _Figures, seconds: dict[str, float]) -> Report:
    card, recognised, drawn = work.model.card, figures.recognised, figures.drawn
    return Report(
        run=work.folder.parent.resolve().name,
        card=card,
        data=work.database.card.name,
        split=work.config.split,
        faces=len(recognised.faces),
        people=len(np.unique(recognised.faces.identity)),
        at_home=work.database.card.name == card.data.name,
        wrote_card=work.writes_card,
        calibrated_on=figures.calibrated_on,
        recognition=recognised.recognition,
        attributes=recognised.attributes,
        photographs=figures.photographs,
        groups=recognised.groups,
        pairwise_rankings=pairwise_rankings(card, recognised.faces, recognised.read),
        generated=drawn.generated,
        explanations=drawn.explained.figures,
        explained_domains=figures.explained_domains,
        twin_edits=drawn.twin_edits,
        memory=drawn.memory,
        robustness=figures.robustness,
        out_of_distribution=figures.out_of_distribution,
        milliseconds=figures.milliseconds,
        machine=_machine(work.model.platt.device),
        seconds=seconds,
    )


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name())
    return f"CPU, {torch.get_num_threads()} thread(s)"
