"""What a face is doing: Action Unit intensities, and the valence and arousal people would put on it.

The generative rule: draw an emotion, a compound, or a free combination of AUs; draw an intensity I; AU intensities follow
the emotion's prototype scaled by I, with small leaks; VA = I x anchor + noise of the class. Free combinations have no VA
half of the time. So VA says more than the binary AUs and the AUs more than VA. Prototypes: Du, Tao & Martinez, PNAS 2014,
table 1; anchors: means and deviations of AffectNet's validation labels; calm: Russell & Mehrabian 1977.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from affect.catalogue import LABEL_SETS
from affect.labels import Vocabulary

AU_CODES = LABEL_SETS["rendered"]
VOCABULARY = Vocabulary(AU_CODES)


@dataclass(frozen=True)
class Emotion:
    """AUs with the share of people who show them, and where annotators place the emotion (mean, sd)."""

    aus: Mapping[int, float]
    valence: tuple[float, float]
    arousal: tuple[float, float]


EMOTIONS: dict[str, Emotion] = {
    "neutral": Emotion({}, (-0.03, 0.14), (-0.02, 0.12)),
    "happiness": Emotion({12: 1, 25: 1, 6: 0.51}, (0.67, 0.17), (0.08, 0.15)),
    "sadness": Emotion({4: 1, 15: 1, 1: 0.60, 6: 0.50, 17: 0.67}, (-0.63, 0.23), (-0.27, 0.13)),
    "fear": Emotion(
        {1: 1, 4: 1, 20: 1, 25: 1, 2: 0.57, 5: 0.63, 26: 0.33}, (-0.12, 0.07), (0.76, 0.16)
    ),
    "anger": Emotion(
        {4: 1, 7: 1, 24: 1, 10: 0.26, 17: 0.52, 23: 0.29}, (-0.43, 0.17), (0.55, 0.21)
    ),
    "surprise": Emotion({1: 1, 2: 1, 25: 1, 26: 1, 5: 0.66}, (0.18, 0.18), (0.70, 0.15)),
    "disgust": Emotion({9: 1, 10: 1, 17: 1, 4: 0.31, 24: 0.26}, (-0.68, 0.16), (0.45, 0.10)),
    "contempt": Emotion({12: 1, 14: 1}, (-0.51, 0.19), (0.58, 0.12)),
    "calm": Emotion({43: 0.3, 12: 0.3}, (0.68, 0.30), (-0.46, 0.38)),
}
# Compounds: AUs of the study; VA halfway between their two emotions.
COMPOUNDS: dict[str, tuple[tuple[int, ...], str, str]] = {
    "happily surprised": ((1, 2, 12, 25), "happiness", "surprise"),
    "happily disgusted": ((10, 12, 25), "happiness", "disgust"),
    "sadly fearful": ((1, 4, 15, 25), "sadness", "fear"),
    "sadly angry": ((4, 7, 15), "sadness", "anger"),
    "sadly surprised": ((1, 4, 25, 26), "sadness", "surprise"),
    "fearfully angry": ((4, 20, 25), "fear", "anger"),
    "fearfully surprised": ((1, 2, 5, 20, 25), "fear", "surprise"),
    "angrily surprised": ((4, 25, 26), "anger", "surprise"),
    "angrily disgusted": ((4, 10, 17), "anger", "disgust"),
    "disgustedly surprised": ((1, 2, 5, 10), "disgust", "surprise"),
}
# Shares of the four kinds of state, and of neutral among the emotions.
KINDS = {"emotion": 0.40, "compound": 0.12, "free": 0.38, "single": 0.10}
NEUTRAL = 0.22
FREE_WITH_VA = 0.5
SHOWN = 0.3  # intensity from which an AU is there
LEAK = 0.08  # scale of the faint activity of AUs that were not meant
# What pulls what along, and what shuts what out, in free combinations.
WITH = {
    2: (1, 0.6),
    5: (1, 0.3),
    7: (4, 0.3),
    15: (17, 0.4),
    23: (24, 0.4),
    26: (25, 0.9),
    20: (25, 0.5),
}
NEVER = ((25, 24), (25, 23), (26, 24), (26, 23), (43, 5), (12, 15), (43, 7), (9, 5), (20, 24))
# Rare in the prototypes, so drawn more often in free combinations.
FREE_WEIGHT = {5: 1.6, 9: 1.6, 14: 2.2, 20: 1.6, 23: 2.2, 24: 1.3, 43: 2.0, 7: 1.5, 6: 1.3, 26: 1.2}

# FACS to facial actions of the head, with gain: an action's full range is not the AU's.
ACTIONS: dict[int, dict[str, float]] = {
    1: {"browInnerUp": 1.15},
    2: {"browOuterUp": 1.2},
    4: {"browDown": 1.15},
    5: {"eyeWide": 1.25},
    6: {"cheekSquint": 1.3, "eyeSquint": 0.25},
    7: {"eyeSquint": 1.1, "eyeBlink": 0.12},
    9: {"noseSneer": 1.25, "mouthUpperUp": 0.15},
    10: {"mouthUpperUp": 1.0},
    12: {"mouthSmile": 1.0},
    14: {"mouthDimple": 1.25, "mouthPress": 0.4, "mouthRollLower": 0.15},
    15: {"mouthFrown": 1.2},
    17: {"mouthShrugLower": 1.3, "mouthShrugUpper": 0.3},
    20: {"mouthStretch": 1.3, "mouthDimple": 0.5, "mouthRollLower": 0.2},
    23: {"mouthRollLower": 0.8, "mouthRollUpper": 0.8, "mouthPucker": 0.55},
    24: {"mouthPress": 0.8, "mouthRollLower": 0.55, "mouthRollUpper": 0.6, "mouthPucker": 0.25},
    25: {"mouthLowerDown": 0.75, "mouthUpperUp": 0.3, "jawOpen": 0.14},
    26: {"jawOpen": 0.55},
    43: {"eyeBlink": 1.0},
}
SIDE = 1.3  # the most that one side shows of an AU, in its intensity
BILATERAL = frozenset(
    {
        "browDown",
        "browOuterUp",
        "cheekSquint",
        "eyeBlink",
        "eyeSquint",
        "eyeWide",
        "mouthDimple",
        "mouthFrown",
        "mouthLowerDown",
    }
    | {"mouthPress", "mouthSmile", "mouthStretch", "mouthUpperUp", "noseSneer"}
)


@dataclass(frozen=True)
class State:
    """Intensities in [0, 1] by FACS code, each side's share of them, and the affect that goes with them, if known."""

    intensities: dict[str, float]
    left: dict[str, float]  # gain of the subject's left side, about 1; the right side has 2 - left
    emotion: str | None
    valence: float | None
    arousal: float | None
    expected: tuple[float, float] | None = (
        None  # VA before the class's noise: what an oracle of the rule would answer
    )

    def row(self) -> np.ndarray:
        """(K + 2,) label row of AU_CODES."""
        known = (
            {}
            if self.valence is None or self.arousal is None
            else {"valence": self.valence, "arousal": self.arousal}
        )
        return VOCABULARY.row({**dict.fromkeys(AU_CODES, 0.0), **self.intensities, **known})


NEUTRAL_STATE = State({}, {}, "neutral", 0.0, 0.0, (0.0, 0.0))


def single(code: str, intensity: float) -> State:
    """One AU alone."""
    return State({code: intensity}, {}, None, None, None)


def draw_state(rng: Generator) -> State:
    """A state by the generative rule."""
    kind = rng.choice(list(KINDS), p=list(KINDS.values()))
    if kind == "free":
        return _free(rng)
    if kind == "single":
        number = int(rng.choice(_numbers()))
        return _finish(rng, {number: rng.uniform(0.3, 1.0)}, None, None)
    if kind == "compound":
        name = str(rng.choice(list(COMPOUNDS)))
        numbers, a, b = COMPOUNDS[name]
        shown = dict.fromkeys(numbers, 1.0)
        anchor = _between(EMOTIONS[a], EMOTIONS[b])
    else:
        name = (
            "neutral"
            if rng.random() < NEUTRAL
            else str(rng.choice([e for e in EMOTIONS if e != "neutral"]))
        )
        anchor = EMOTIONS[name]
        shown = {number: 1.0 for number, share in anchor.aus.items() if rng.random() < share}
    strength = float(rng.beta(2.5, 1.6))
    meant = {number: strength * float(np.clip(rng.normal(1, 0.15), 0.5, 1.3)) for number in shown}
    return _finish(rng, meant, name, (anchor, strength))


def can_turn(state: State, code: str) -> bool:
    """Whether one AU can come or go alone: nothing that shuts it out is there."""
    number = int(code.removeprefix("AU"))
    rivals = (f"AU{b if a == number else a}" for a, b in NEVER if number in (a, b))
    return all(state.intensities.get(rival, 0.0) < SHOWN for rival in rivals)


def turned(rng: Generator, state: State, code: str) -> State:
    """The same state with one AU turned: shown where it was not, gone where it was. What that does to VA, nobody has said."""
    intensities = {name: value for name, value in state.intensities.items() if name != code}
    if state.intensities.get(code, 0.0) < SHOWN:
        intensities[code] = round(float(rng.uniform(0.5, 1.0)), 4)
    return replace(
        state, intensities=intensities, emotion=None, valence=None, arousal=None, expected=None
    )


def affect_of(intensities: Mapping[str, float]) -> tuple[float, float]:
    """Valence and arousal in [-1, 1] that the rule puts on AUs (by FACS code, in [0, 1]) as a free combination, before its noise."""
    shown = {
        int(code.removeprefix("AU")): value for code, value in intensities.items() if value >= SHOWN
    }
    if not shown:
        return 0.0, 0.0
    anchor, strength = _nearest(shown), float(np.mean(list(shown.values())))
    return strength * anchor.valence[0], strength * anchor.arousal[0]


def actions(state: State) -> dict[str, float]:
    """Facial actions (name with Left or Right where there are two, value) of a state."""
    total: dict[str, float] = {}
    for code, intensity in state.intensities.items():
        tilt = state.left.get(code, 1.0)
        for name, gain in ACTIONS[int(code.removeprefix("AU"))].items():
            sides = (
                {f"{name}Left": min(tilt, SIDE), f"{name}Right": min(2 - tilt, SIDE)}
                if name in BILATERAL
                else {name: 1.0}
            )
            for side, share in sides.items():
                total[side] = total.get(side, 0.0) + gain * intensity * share
    return {name: min(value, 1.6) for name, value in total.items()}


def _free(rng: Generator) -> State:
    weights = np.array([FREE_WEIGHT.get(n, 1.0) for n in _numbers()])
    count = int(rng.integers(1, 6))
    chosen = {
        int(n) for n in rng.choice(_numbers(), count, replace=False, p=weights / weights.sum())
    }
    chosen |= {other for n, (other, share) in WITH.items() if n in chosen and rng.random() < share}
    meant = {n: float(rng.uniform(0.25, 1.0)) for n in _compatible(rng, chosen)}
    anchor = None
    if rng.random() < FREE_WITH_VA:  # as people would: by the prototypes it is nearest to
        anchor = (_nearest(meant), float(np.mean(list(meant.values()))))
    return _finish(rng, meant, None, anchor)


def _nearest(meant: Mapping[int, float]) -> Emotion:
    """VA of a free combination: prototypes weighted by their overlap with it (Jaccard, squared)."""
    names = [name for name in EMOTIONS if name != "neutral"]
    overlap = (
        np.array(
            [
                len(set(meant) & set(EMOTIONS[n].aus)) / len(set(meant) | set(EMOTIONS[n].aus))
                for n in names
            ]
        )
        ** 2
    )
    if not overlap.sum():
        return EMOTIONS["neutral"]
    w = overlap / overlap.sum()
    mixed = [
        float(w @ [getattr(EMOTIONS[n], kind)[i] for n in names])
        for kind in ("valence", "arousal")
        for i in (0, 1)
    ]
    return Emotion({}, (mixed[0], mixed[1]), (mixed[2], mixed[3]))


def _compatible(rng: Generator, chosen: set[int]) -> list[int]:
    kept = sorted(chosen)
    for a, b in NEVER:
        if a in kept and b in kept:
            kept.remove(a if rng.random() < 0.5 else b)
    return kept


def _finish(
    rng: Generator,
    meant: Mapping[int, float],
    emotion: str | None,
    anchor: tuple[Emotion, float] | None,
) -> State:
    shut = {b if a in meant else a for a, b in NEVER if (a in meant) != (b in meant)}
    intensities: dict[str, float] = {}
    for number in _numbers():
        leak = abs(rng.normal(0, LEAK)) if rng.random() < 0.35 and number not in shut else 0.0
        value = float(np.clip(meant.get(number, 0.0) + leak, 0, 1))
        if value:
            intensities[f"AU{number}"] = round(value, 4)
    one_sided = emotion == "contempt"
    left = {code: float(np.clip(rng.normal(1, 0.08), 0.7, 1.3)) for code in intensities}
    if one_sided:
        side = float(rng.choice([0.1, 1.9]))
        left |= {code: side for code in ("AU12", "AU14") if code in intensities}
    if anchor is None:
        return State(intensities, left, emotion, None, None)
    centre, strength = anchor
    valence, arousal = (
        float(np.clip(strength * mean + rng.normal(0, sd * (0.5 + 0.5 * strength)), -1, 1))
        for mean, sd in (centre.valence, centre.arousal)
    )
    expected = (strength * centre.valence[0], strength * centre.arousal[0])
    return State(intensities, left, emotion, round(valence, 4), round(arousal, 4), expected)


def _between(a: Emotion, b: Emotion) -> Emotion:
    valence = ((a.valence[0] + b.valence[0]) / 2, (a.valence[1] + b.valence[1]) / 2)
    arousal = ((a.arousal[0] + b.arousal[0]) / 2, (a.arousal[1] + b.arousal[1]) / 2)
    return Emotion({}, valence, arousal)


def _numbers() -> list[int]:
    return [int(code.removeprefix("AU")) for code in AU_CODES]
