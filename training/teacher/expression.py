"""From Action Units to an expression, learnt from renders as blurred as the teacher's AUs.

"Other" is left out: a little noise makes one of any expression, so a teacher's label for it is
unreliable.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from affect.labels import EXPRESSIONS
from training.database.annotations import UNKNOWN, read_annotations
from training.database.reader import Database
from training.database.sample import TRAIN

Floats = NDArray[np.float64]
SURE = 0.7  # a class less likely than this is left unknown
OTHER = "other"
BLUR = 0.12  # sd put on true intensities, so that a small error does not turn the class


@dataclass(frozen=True)
class ExpressionOfAus:
    """Multinomial logistic regression on intensities and their products."""

    pipeline: Pipeline

    @classmethod
    def fit(cls, renders: Database, *, seed: int = 0) -> Self | None:
        """From the training split; None where the renders name no expression."""
        expressions = read_annotations(renders, TRAIN).expression
        rows = (expressions != UNKNOWN) & (expressions != EXPRESSIONS.index(OTHER))
        if len(np.unique(expressions[rows])) < 2:
            return None
        intensities = renders.labels(TRAIN)[rows, :-2].astype(np.float64)
        blurred = intensities + np.random.default_rng(seed).normal(0, BLUR, intensities.shape)
        pipeline = make_pipeline(
            PolynomialFeatures(2, include_bias=False),
            StandardScaler(),
            LogisticRegression(C=0.05, max_iter=300),
        )
        return cls(pipeline.fit(np.clip(blurred, 0, 1), expressions[rows]))

    def of(self, intensities: Floats) -> str | None:
        """The class of intensities (K,) in [0, 1]; None where no class is likely enough."""
        chances = self.pipeline.predict_proba(intensities[None])[0]
        best = int(chances.argmax())
        return EXPRESSIONS[self.pipeline.classes_[best]] if chances[best] >= SURE else None
