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
        previous = self._last.pop(person, None)
        if previous is not None and previous.time_seconds is not None:
            passed = entry.time_seconds - previous.time_seconds
            if 0 <= passed <= FORGOTTEN_SECONDS * self.seconds:
                entry = self._mixed(previous, entry, 1 - math.exp(-passed / self.seconds))
        self._last[person] = entry
        if len(self._last) > MOST_PEOPLE:
            del self._last[next(iter(self._last))]  # seen longest ago
        return entry

    def _mixed(self, previous: LocalReading, now: LocalReading, share: float) -> LocalReading:
        return replace(
            now,
            valence=_mix(previous.valence, now.valence, share),
            arousal=_mix(previous.arousal, now.arousal, share),
            expressions=_mix_all(previous.expressions, now.expressions, share),
            pose=_mix_all(previous.pose, now.pose, share),
            aus={
                code: self._unit(code, previous.aus.get(code, unit), unit, share)
                for code, unit in now.aus.items()
            },
        )

    def _unit(self, code: str, previous: ActionUnit, now: ActionUnit, share: float) -> ActionUnit:
        probability = previous.probability + share * (now.probability - previous.probability)
        return ActionUnit(
            probability,
            previous.intensity + share * (now.intensity - previous.intensity),
            probability >= self.card.calibration[code].threshold,
            _mix(previous.left, now.left, share),
            _mix(previous.right, now.right, share),
        )


def _mix(previous: float | None, now: float | None, share: float) -> float | None:
    return now if previous is None or now is None else previous + share * (now - previous)


def _mix_all(
    previous: Mapping[str, float], now: Mapping[str, float], share: float
) -> dict[str, float]:
    return {
        name: previous.get(name, value) + share * (value - previous.get(name, value))
        for name, value in now.items()
    }
