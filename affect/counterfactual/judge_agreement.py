"""Whether an independent judge reads the change of a counterfactual too.

Shape letters: N rows, S side in px, L labels of the judge.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from affect.judge import Judge

Floats = NDArray[np.floating] | np.floating

# the judge agrees when its reading moves in the same direction by at least this share of the
# model's move
FOLLOWS = 0.5


def follows(observed: Floats, requested: Floats) -> NDArray[np.bool_]:
    """Whether a judge's reading that changed by `observed` follows a model's that changed by
    `requested`: the one rule, by which trust is given when serving and graded when measuring. Any
    shape.
    """
    return (observed * requested > 0) & (np.abs(observed) >= FOLLOWS * np.abs(requested))


@dataclass(frozen=True)
class JudgeAgreement:
    """The judge's reading of the questioned label (an AU's intensity, or valence or arousal) before
    and after.
    """

    before: float
    after: float
    agrees: bool


def judge_agreements(
    judge: Judge | None,
    faces: Tensor,
    changed: Tensor,
    labels: Sequence[str],
    requested: Sequence[float],
) -> list[JudgeAgreement | None]:
    """The judge's agreement on N faces and their counterfactuals (N, 3, S, S); `requested` is the
    change of the model's reading. None where no judge applies: there is no judge, or it does not
    know the label.
    """
    if judge is None:
        return [None] * len(labels)
    before, after = (judge.read(x) for x in (faces, changed))  # (N, L)
    names = judge.vocabulary.names
    return [
        _judge_agreement(before[i, names.index(label)], after[i, names.index(label)], requested[i])
        if label in names
        else None
        for i, label in enumerate(labels)
    ]


def _judge_agreement(before: Tensor, after: Tensor, requested: float) -> JudgeAgreement:
    observed = float(after - before)
    agrees = bool(follows(np.float64(observed), np.float64(requested)))
    return JudgeAgreement(round(float(before), 4), round(float(after), 4), agrees)
