"""How good explanations are, on a fixed list of questions, against baselines and true
counterfactuals.

An explanation may satisfy the model and mean nothing, as an adversarial attack on the pixels does.
So an independent judge grades it, and the data's twins do: the same person in the same scene in
another state. Shape letters: N questions, S side in px, K Action Units, F features of the judge.
"""

from dataclasses import dataclass

import numpy as np
import torch

from affect.model import AffectModel
from training.evaluation.core import metrics
from training.evaluation.core.metrics import Interval, mean_interval
from training.evaluation.core.predictions import U8, Faces, Floats
from training.evaluation.explanation import attribution, baselines, examples, sanity_checks, twins
from training.evaluation.explanation.attribution import AttributionFigures
from training.evaluation.explanation.examples import ExplanationExample
from training.evaluation.explanation.grading import Graded, Grader, JudgeThresholds
from training.evaluation.explanation.questions import AnsweredQuestions
from training.evaluation.explanation.sanity_checks import SeveralAnswers
from training.evaluation.explanation.twins import TwinFigures
from training.evaluation.judge import distances
from training.evaluation.judge.evaluator import JudgeEvaluator

OURS, NOTHING, ATTACK, NEAREST = "this model", "no edit", "pixel attack", "nearest real face"


@dataclass(frozen=True)
class Method:
    """Figures of one way to answer.

    Means over questions, intervals over people; those of the judge over valid answers only.
    """

    validity: Interval  # share of 8-bit pictures with the target reading
    # of valid ones whose question the judge had answered as the model did: the judge's decision
    # turns too
    agreement: Interval
    moved: Interval  # of valid ones: the judge's reading moves the way that was asked
    proximity: Interval  # mean absolute change of pixels, full scale 1
    feature_distance: Interval  # in the judge's features, 1 = two random real faces
    identity: Interval  # cosine
    # share above the threshold of equal error: as many twins rejected as other people accepted
    identity_kept: Interval
    # AUs beside the asked whose reading by the judge moves by more than 0.1
    labels_changed: Interval
    realism: Interval  # critic's percentile
    frechet: Interval  # FD-judge of half of the answers against the other half's faces


@dataclass(frozen=True)
class Benchmark:
    """Everything measured about explanations."""

    questions: int
    milliseconds: float  # milliseconds a face, in batches
    methods: dict[str, Method]
    validity_by_kind: dict[str, Interval]  # AUs taken away, AUs added, valence, arousal
    frechet_floor: Interval  # half of the real faces against the other half
    composition: Interval  # null edit: mean absolute change
    steadiness: Interval  # cosine of the changes of a face and of the slightly noised face
    # in [-1, 1]: how early the changed pixels turn the decision, the most changed first
    cout: Interval
    # level -> answers, judge's agreement, direction
    trusted: dict[str, tuple[int, Interval | None, Interval | None]]
    several: SeveralAnswers  # answers to one question
    twins: TwinFigures | None
    # which AUs make valence and arousal, against the renderer's rule
    attribution: AttributionFigures | None


def benchmark(
    model: AffectModel,
    evaluator: JudgeEvaluator,
    faces: Faces,
    questions: AnsweredQuestions,
    pool: U8,
    rng: np.random.Generator,
) -> tuple[Benchmark, list[ExplanationExample]]:
    """Measure answers about some of the faces.

    `pool` are real faces (M, S, S, 3) of other people to be nearest to. `evaluator` grades with
    another judge than the one that trust is given by when serving.
    """
    milliseconds = 1000 * questions.seconds / len(questions.answers)
    images, pictures = questions.faces.images, _pictures_by_method(model, questions, pool)
    weights = metrics.resamplings(questions.faces.identity, rng)
    thresholds = JudgeThresholds.of(model, evaluator, faces, rng)
    grader = Grader(model, evaluator, questions, thresholds)
    graded = {name: grader.grade(method_images, rng) for name, method_images in pictures.items()}
    half = len(images) // 2
    own_columns = graded[OURS].columns
    measured = Benchmark(
        questions=len(images),
        milliseconds=round(milliseconds, 1),
        methods={name: _method(one, weights) for name, one in graded.items()},
        validity_by_kind=_by_kind(model, questions, own_columns["validity"], weights),
        frechet_floor=distances.frechet_interval(
            grader.features[half:], grader.features[:half], rng
        ),
        composition=mean_interval(sanity_checks.null_edit(model, images), weights),
        steadiness=sanity_checks.steadiness(model, questions, rng),
        cout=sanity_checks.cout(model, questions, rng),
        trusted={
            level: _of_level(questions, own_columns, level, weights)
            for level in ("high", "medium", "low")
        },
        several=sanity_checks.several(model, questions, rng),
        twins=twins.measure(model, evaluator, faces, thresholds.presence, rng),
        attribution=attribution.measure(model, questions, rng),
    )
    return measured, examples.choose(questions, own_columns)


def _pictures_by_method(
    model: AffectModel, questions: AnsweredQuestions, pool: U8
) -> dict[str, U8]:
    """Pictures (N, S, S, 3) that answer the same questions, by the name of their method."""
    images, device = questions.faces.images, model.platt.device
    column = torch.from_numpy(questions.column).to(device)
    target = torch.from_numpy(questions.target).float().to(device)
    return {
        OURS: questions.counterfactuals,
        NOTHING: images,
        ATTACK: baselines.pixel_attack(model, images, column, target),
        NEAREST: baselines.nearest_face(model, images, column, target, pool),
    }


def _method(graded: Graded, weights: Floats) -> Method:
    return Method(
        **{name: mean_interval(values, weights) for name, values in graded.columns.items()},
        frechet=graded.frechet,
    )


def _by_kind(
    model: AffectModel, questions: AnsweredQuestions, valid: Floats, weights: Floats
) -> dict[str, Interval]:
    aus, names = len(model.card.vocabulary), model.card.labels_of.names
    kind = np.array(
        [
            names[c] if c >= aus else "AU added" if t >= 0.5 else "AU taken away"
            for c, t in zip(questions.column, questions.target, strict=True)
        ]
    )
    return {
        str(name): mean_interval(np.where(kind == name, valid, np.nan), weights)
        for name in np.unique(kind)
    }


def _of_level(
    questions: AnsweredQuestions, own_columns: dict[str, Floats], level: str, weights: Floats
) -> tuple[int, Interval | None, Interval | None]:
    has_level = np.array([answer.trust == level for answer in questions.answers])
    if not has_level.any():
        return 0, None, None
    return int(has_level.sum()), *(
        mean_interval(np.where(has_level, own_columns[name], np.nan), weights)
        for name in ("agreement", "moved")
    )  # type: ignore[return-value]
