"""Grades answers to questions about faces: by the model, by the judge, by the pixels.

Shape letters: N questions, S side in px, K Action Units, F features of the judge.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from affect.counterfactual.judge_agreement import follows
from affect.counterfactual.search import margin_and_reach
from affect.model import AffectModel
from training.evaluation.core.metrics import Interval
from training.evaluation.core.predictions import U8, Faces, Floats, batches, in_batches
from training.evaluation.explanation import baselines
from training.evaluation.explanation.questions import AnsweredQuestions
from training.evaluation.judge import distances
from training.evaluation.judge.evaluator import JudgeEvaluator
from training.evaluation.recognition.recognition import presence

CHANGED = 0.1  # a reading that moves by more counts as changed


@dataclass(frozen=True)
class _Readings:
    """What the model reads off N pictures."""

    labels: Floats  # (N, K + 2)
    identity: Floats  # (N, E)
    realism: Floats  # (N,)

    @classmethod
    def of(cls, model: AffectModel, images: U8) -> "_Readings":
        def one(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            output = model.read(x)
            return output.labels, output.identity, model.calibrate(output).realism

        return cls(*in_batches(model, one, images))


@dataclass(frozen=True)
class JudgeThresholds:
    """Thresholds of the judge and of the identity embedding."""

    # (K,) above which the judge's reading of an AU is "present": as often as it truly is
    presence: Floats
    stranger_distance: float  # in the judge's features
    identity: float  # cosine of equal error: as many twins rejected as other people accepted

    @classmethod
    def of(
        cls, model: AffectModel, evaluator: JudgeEvaluator, faces: Faces, rng: np.random.Generator
    ) -> "JudgeThresholds":
        """Fitted to faces whose truth is known."""
        labels, features = evaluator.read(faces.images)
        shares = np.nanmean(presence(model.card, faces.truth), axis=0)
        thresholds = [np.quantile(labels[:, k], 1 - share) for k, share in enumerate(shares)]
        other_faces = rng.permutation(len(faces))
        feature_distance = float(np.linalg.norm(features - features[other_faces], axis=1).mean())
        identities = _Readings.of(model, faces.images).identity
        return cls(
            np.array(thresholds), feature_distance, _equal_error(identities, faces, other_faces)
        )


@dataclass(frozen=True)
class Graded:
    """Figures of N answers."""

    columns: dict[str, Floats]  # (N,) each, NaN where a figure does not apply
    frechet: Interval


class Grader:
    """Grades pictures that answer the same N questions about the same faces."""

    def __init__(
        self,
        model: AffectModel,
        evaluator: JudgeEvaluator,
        questions: AnsweredQuestions,
        thresholds: JudgeThresholds,
    ) -> None:
        self.model, self.evaluator = model, evaluator
        self.questions, self.thresholds = questions, thresholds
        self.images, self.column = questions.faces.images, questions.column
        self.index, self.is_au = (
            np.arange(len(self.column)),
            self.column < len(model.card.vocabulary),
        )
        self.judge_labels, self.features = evaluator.read(self.images)  # (N, K + 2), (N, F)
        self.read = _Readings.of(model, self.images)
        # (N,) the way the questioned number should go: +1 or -1
        self.direction = np.where(
            self.is_au,
            2 * (questions.target >= 0.5) - 1,
            np.sign(questions.target - self.read.labels[self.index, self.column]),
        )

    def grade(self, answers: U8, rng: np.random.Generator) -> Graded:
        """Pictures (N, S, S, 3), one for each question."""
        judge_labels, features = self.evaluator.read(answers)
        read = _Readings.of(self.model, answers)
        valid = margins(self.model, self.questions, answers) > 0
        change = (judge_labels - self.judge_labels)[self.index, self.column]
        agreement, is_applicable = self._agreement(judge_labels, read)
        same = (self.read.identity * read.identity).sum(1)
        shift = np.linalg.norm(features - self.features, axis=1)
        columns = {
            "validity": valid.astype(np.float64),
            "agreement": np.where(valid & is_applicable, agreement, np.nan),
            "moved": np.where(valid & np.isfinite(change), self.direction * change > 0, np.nan),
            "proximity": np.abs(answers.astype(np.float64) - self.images).mean((1, 2, 3)) / 255,
            "feature_distance": shift / self.thresholds.stranger_distance,
            "identity": same,
            "identity_kept": (same > self.thresholds.identity).astype(np.float64),
            "labels_changed": self._other_changes(judge_labels),
            "realism": read.realism,
        }
        half = len(answers) // 2
        frechet = distances.frechet_interval(self.features[half:], features[:half], rng)
        return Graded(columns, frechet)

    def _other_changes(self, judge_labels: Floats) -> Floats:
        """(N,) AUs beside the asked whose reading by the judge moves visibly."""
        has_changed = (
            np.abs(judge_labels - self.judge_labels)[:, : len(self.model.card.vocabulary)] > CHANGED
        )
        has_changed[self.index[self.is_au], self.column[self.is_au]] = False
        return np.asarray(has_changed.sum(1), np.float64)

    def _agreement(self, judge_labels: Floats, read: _Readings) -> tuple[Floats, NDArray[np.bool_]]:
        """(N,) whether the judge agrees, by the rule of serving, and whether that applies: to an AU
        that the judge read as the model did before.
        """
        questioned = (self.index, self.column)
        threshold = np.concatenate([self.thresholds.presence, [0.0, 0.0]])[self.column]
        target_present = self.questions.target >= 0.5
        is_applicable = (self.judge_labels[questioned] >= threshold) != target_present
        change = (read.labels - self.read.labels)[questioned]
        agreement = np.asarray(
            follows((judge_labels - self.judge_labels)[questioned], change), np.float64
        )
        return agreement, np.where(self.is_au, is_applicable, True) & np.isfinite(
            self.judge_labels[questioned]
        )


def margins(model: AffectModel, questions: AnsweredQuestions, pictures: U8) -> Floats:
    """(N,) above 0 where the model reads a picture (N, S, S, 3) as its question asked."""
    parts, device = [], model.platt.device
    for rows in batches(len(pictures)):
        column = torch.from_numpy(questions.column[rows]).to(device)
        target = torch.from_numpy(questions.target[rows]).float().to(device)
        question = baselines.rows_of(model, questions.faces.images[rows], column, target)
        with torch.inference_mode():
            x = model.to_pixels(torch.from_numpy(pictures[rows]).to(device))
            margin, _ = margin_and_reach(model, model.read(x), question)
            parts.append(margin.double().cpu().numpy())
    return np.concatenate(parts)


def _equal_error(identities: Floats, faces: Faces, other_faces: NDArray[np.intp]) -> float:
    """The cosine of equal error: twins fall below as often as other people lie above; 0.5 without
    twins.
    """
    paired = faces.twin_of >= 0
    if not paired.any():
        return 0.5
    same = np.sort((identities * identities[faces.twin_of]).sum(1)[paired])
    other = faces.identity != faces.identity[other_faces]
    others_cosine = np.sort((identities * identities[other_faces]).sum(1)[other])
    candidates = np.linspace(-1, 1, 401)
    missed, joined = (
        np.searchsorted(same, candidates) / len(same),
        1 - np.searchsorted(others_cosine, candidates) / max(len(others_cosine), 1),
    )
    return float(candidates[np.abs(missed - joined).argmin()])
