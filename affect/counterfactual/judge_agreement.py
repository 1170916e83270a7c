"""What an independent judge says of a counterfactual: does it see the change too?

Shape letters: N rows, S side in px, L labels of the judge.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from affect.judge import Judge

Floats = NDArray[np.floating] | np.floating

# the judge agrees when its reading moves the same way by at least this share of what the model's
# does
FOLLOWS = 0.5


def follows(seen: Floats, moved: Floats) -> NDArray[np.bool_]:
    """Whether a judge's reading that moved by `seen` follows a model's that moved by `moved`: the
    one rule, by which trust is given when serving and graded when measuring. Any shape.
    """
    return (seen * moved > 0) & (np.abs(seen) >= FOLLOWS * np.abs(moved))


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
    moved: Sequence[float],
) -> list[JudgeAgreement | None]:
    """What the judge says of N faces and their counterfactuals (N, 3, S, S); `moved` is by how much
    the model's reading moved.

    None where nobody can be asked: there is no judge, or it does not know the label.
    """
    if judge is None:
        return [None] * len(labels)
    before, after = (judge.read(x) for x in (faces, changed))  # (N, L)
    names = judge.vocabulary.names
    return [
        _judge_agreement(before[i, names.index(label)], after[i, names.index(label)], moved[i])
        if label in names
        else None
        for i, label in enumerate(labels)
    ]


def _judge_agreement(before: Tensor, after: Tensor, moved: float) -> JudgeAgreement:
    seen = float(after - before)
    agrees = bool(follows(np.float64(seen), np.float64(moved)))
    return JudgeAgreement(round(float(before), 4), round(float(after), 4), agrees)
