"""What a report of an evaluation holds: figures, and apart from them plots and pictures."""

from dataclasses import dataclass, field

import numpy as np

from affect.card import Measured, ModelCard
from affect.judge import JudgeCard
from training.evaluation.core.metrics import Interval
from training.evaluation.core.predictions import U8
from training.evaluation.explanation.domains import DomainFigures
from training.evaluation.explanation.examples import ExplanationExample
from training.evaluation.explanation.explanations import Benchmark
from training.evaluation.generation.control import CircumplexPoint, CrossTalk, Direction
from training.evaluation.generation.fidelity import Distances, Memorisation, TwinEdit
from training.evaluation.judge.evaluator import Control
from training.evaluation.recognition.attributes import AttributeFigures
from training.evaluation.recognition.pairwise_ranking import PairwiseRanking
from training.evaluation.recognition.photographs import Photographs
from training.evaluation.recognition.recognition import GroupTable, Recognition
from training.evaluation.recognition.robustness import Curve, OutOfDistribution
from training.pages import Strip


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
    attributes: AttributeFigures
    photographs: tuple[Photographs, ...]  # kept apart from everything else, which is of `data`
    groups: tuple[GroupTable, ...]
    pairwise_rankings: tuple[PairwiseRanking, ...]  # pairs of faces of one person
    generated: Generated | None
    explanations: Benchmark | None
    explained_domains: tuple[DomainFigures, ...]  # each kind of faces apart
    twin_edits: TwinEdit | None
    memory: Memorisation | None
    robustness: tuple[Curve, ...]
    out_of_distribution: tuple[OutOfDistribution, ...]
    milliseconds: dict[str, Interval]  # a face: median, fastest, slowest
    machine: str
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass
class Illustrations:
    """Plots as SVG, pictures as arrays."""

    plots: dict[str, str]
    random: U8
    sweeps: list[Strip]
    circumplex: list[U8]
    changes: list[Strip]
    counterfactuals: list[Strip]
    memory: list[tuple[U8, U8]]
    examples: list[ExplanationExample] = field(default_factory=list)


def quality(report: Report) -> dict[str, Measured]:
    """The figures a card carries: a dozen, with intervals."""
    recognised, generated = report.recognition, report.generated
    figures = {
        "au_f1": recognised.mean_f1,
        "au_auc": recognised.mean_auc,
        "au_calibration_error": recognised.mean_calibration_error,
    }
    figures |= _of_attributes(report.attributes)
    for one in report.photographs:
        figures |= _of_photographs(one)
    figures |= {f"{va.name}_ccc": va.ccc for va in recognised.va} | {
        f"{va.name}_oracle_ccc": va.oracle_ccc for va in recognised.va
    }
    figures |= {f"{au.code}_f1": au.f1 for au in recognised.aus} | {
        f"{au.code}_auc": au.auc for au in recognised.aus
    }
    if generated:
        figures |= {
            "drawn_au_auc": generated.samples.mean_auc,
            "drawn_va_ccc": generated.samples.mean_ccc,
        }
        figures |= {
            "judge_au_auc": generated.ceiling.mean_auc,
            "judge_va_ccc": generated.ceiling.mean_ccc,
        }
    if generated and generated.distances:
        figures |= {
            "fd_judge": generated.distances.frechet,
            "fd_judge_floor": generated.distances.frechet_floor,
        }
    return {
        name: Measured(
            value=round(f.value, 4), low=_finite(f.low), high=_finite(f.high), split=report.split
        )
        for name, f in figures.items()
        if np.isfinite(f.value)
    }


def _of_attributes(attribute_figures: AttributeFigures) -> dict[str, Interval]:
    figures = {f"{one.code}_side": one.right_sign for one in attribute_figures.sides}
    if attribute_figures.expression:
        figures["expression_balanced_accuracy"] = attribute_figures.expression.balanced_accuracy
    if attribute_figures.pose:
        figures |= {
            f"{axis}_error_degrees": value for axis, value in attribute_figures.pose.error.items()
        }
    return figures


def _of_photographs(photographs: Photographs) -> dict[str, Interval]:
    """Headline figures on one set of photographs."""
    figures = {"au_auc": photographs.mean_auc}
    figures |= {f"{name}_ccc": value for name, value in photographs.va.items()}
    if photographs.rest:
        figures["rest_alarms_worst"] = photographs.rest.alarms[photographs.rest.worst]
        figures["rest_any_alarm"] = photographs.rest.any_alarm
    if photographs.smiles_seen:
        figures["smiles_seen"] = photographs.smiles_seen
    return {f"{photographs.data}: {name}": value for name, value in figures.items()}


def _finite(value: float) -> float | None:
    return round(value, 4) if np.isfinite(value) else None
