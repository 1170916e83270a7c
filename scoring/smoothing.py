"""Causal smoothing: an exponential mean whose time constant is in seconds, whatever the frame rate
(and if it varies).
"""

import math
from collections.abc import Mapping
from dataclasses import replace

from affect.card import ModelCard
from affect.local.reading import ActionUnit, LocalReading
from scoring.persons import Person, person_of

FORGOTTEN_SECONDS = 10  # time constants after which a person who was away starts anew
MOST_PEOPLE = 4096


class Smoother:
    """y(t) = y(t') + (1 - exp(-(t - t') / seconds)) (x(t) - y(t')), for each number of each
    person.
    """

    def __init__(self, seconds: float, card: ModelCard) -> None:
        self.seconds, self.card = seconds, card
        self._last: dict[Person, LocalReading] = {}

    def apply(self, entry: LocalReading) -> LocalReading:
        """The entry with its numbers smoothed; pictures have no time and stay as they are."""
        if entry.error is not None or entry.time_seconds is None:
            return entry
        person = person_of(entry)
        before = self._last.pop(person, None)
        if before is not None and before.time_seconds is not None:
            passed = entry.time_seconds - before.time_seconds
            if 0 <= passed <= FORGOTTEN_SECONDS * self.seconds:
                entry = self._mixed(before, entry, 1 - math.exp(-passed / self.seconds))
        self._last[person] = entry
        if len(self._last) > MOST_PEOPLE:
            del self._last[next(iter(self._last))]  # seen longest ago
        return entry

    def _mixed(self, before: LocalReading, now: LocalReading, share: float) -> LocalReading:
        return replace(
            now,
            valence=_mix(before.valence, now.valence, share),
            arousal=_mix(before.arousal, now.arousal, share),
            expressions=_mix_all(before.expressions, now.expressions, share),
            pose=_mix_all(before.pose, now.pose, share),
            aus={
                code: self._unit(code, before.aus.get(code, unit), unit, share)
                for code, unit in now.aus.items()
            },
        )

    def _unit(self, code: str, before: ActionUnit, now: ActionUnit, share: float) -> ActionUnit:
        probability = before.probability + share * (now.probability - before.probability)
        return ActionUnit(
            probability,
            before.intensity + share * (now.intensity - before.intensity),
            probability >= self.card.calibration[code].threshold,
            _mix(before.left, now.left, share),
            _mix(before.right, now.right, share),
        )


def _mix(before: float | None, now: float | None, share: float) -> float | None:
    return now if before is None or now is None else before + share * (now - before)


def _mix_all(
    before: Mapping[str, float], now: Mapping[str, float], share: float
) -> dict[str, float]:
    return {
        name: before.get(name, value) + share * (value - before.get(name, value))
        for name, value in now.items()
    }
