"""The judge as a grader of one model: how well it reads the requested labels off drawn faces.

Shape letters: B pictures, S side in px, K Action Units, F features of the judge.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from affect.judge import Judge
from affect.labels import DIMENSIONS
from affect.model import AffectModel
from training.evaluation.core import metrics
from training.evaluation.core.metrics import Interval, summary
from training.evaluation.core.predictions import U8, Floats, in_batches


@dataclass(frozen=True)
class Control:
    """How well the judge reads the requested labels: AUC of AUs, CCC of valence and arousal."""

    labels: dict[str, Interval]
    mean_auc: Interval
    mean_ccc: Interval


class JudgeEvaluator:
    """The judge, answering in the columns of a model."""

    def __init__(self, judge: Judge, model: AffectModel) -> None:
        self.judge, self.model = judge, model

    def read(self, images: U8) -> tuple[Floats, Floats]:
        """Label rows (B, K + 2), NaN for AUs the judge does not know, and features (B, F) of
        pictures (B, S, S, 3).
        """

        def one(x: Tensor) -> tuple[Tensor, ...]:
            output = self.judge.predict(x)
            return output.labels, output.features

        labels, features = in_batches(self.model, one, images)
        return self.model.card.labels_of.project(
            labels.astype(np.float32), self.judge.vocabulary
        ).astype(np.float64), features

    def control(
        self, requested: Floats, read: Floats, clusters: NDArray[np.generic], seed: int = 0
    ) -> Control:
        """Asked states (B, K + 2; NaN = not asked) against what the judge saw."""
        card = self.model.card
        weights = metrics.resamplings(clusters, np.random.default_rng(seed))
        aucs: dict[str, Floats] = {}
        for k, code in enumerate(card.vocabulary if card.learns_aus else ()):
            present = np.where(
                np.isnan(requested[:, k]), np.nan, requested[:, k] >= card.data.positive_intensity
            )
            aucs[code] = metrics.auc(present, read[:, k], weights)
        cccs = {
            name: metrics.ccc(requested[:, i - 2], read[:, i - 2], weights)
            for i, name in enumerate(DIMENSIONS)
            if card.learns_va
        }
        figures = {
            name: summary(values)
            for name, values in (aucs | cccs).items()
            if np.isfinite(values[0])
        }
        means = [summary(metrics.mean_over_labels(list(kind.values()))) for kind in (aucs, cccs)]
        return Control(figures, *means)
