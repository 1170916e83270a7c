"""Whether the movements of an answer about valence or arousal are those that make it, by the rule
that the model learnt from (`rule_weights` of its card).

A network may respond to what only correlates: eyes that close while people laugh do not make
anybody happier. So such AUs are not moved on purpose, and AUs that move nevertheless are reported.
"""

from collections.abc import Mapping, Sequence
from math import tanh

from affect.labels import DIMENSIONS

Unit = tuple[str, float, float]  # code, intensity before, after
Weights = Mapping[str, tuple[float, float]]

PART = 0.06  # an AU that adds less to a dimension has no part in it
LEAST_CHANGE = 0.3  # of an intensity: an unrelated AU that moves by less is not reported
HOLDS = 0.5  # share of a change that the rule must give to the movements


def rule_share(weights: Weights, label: str, units: Sequence[Unit], change: float) -> float:
    """The share of `change`, of valence or arousal, that the rule gives to the AUs as they are read
    before and after; 0 where nothing moved. The rule's interactions are left out.
    """
    if not change:
        return 0.0
    dimension = DIMENSIONS.index(label)
    before, after = (
        tanh(sum(weights[code][dimension] * value for code, value in state if code in weights))
        for state in (
            [(code, start) for code, start, _ in units],
            [(code, end) for code, _, end in units],
        )
    )
    return float(after - before) / change


def unrelated_units(weights: Weights, label: str, units: Sequence[Unit]) -> list[Unit]:
    """AUs that moved clearly and have no part in the questioned valence or arousal, the most moved
    first.
    """
    dimension = DIMENSIONS.index(label)
    unrelated = [
        unit
        for unit in units
        if unit[0] in weights
        and abs(weights[unit[0]][dimension]) < PART
        and abs(unit[2] - unit[1]) > LEAST_CHANGE
    ]
    return sorted(unrelated, key=lambda unit: -abs(unit[2] - unit[1]))
