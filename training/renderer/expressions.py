"""What a face is doing: Action Unit intensities, which side shows them, and the expression class
that goes with them.

Draw an emotion, a compound, or a free combination of AUs; draw a strength; AU intensities follow
the emotion's prototype scaled by it, with small leaks. Valence and arousal are `affect_rule`'s, of
any state: a label is absent only where a set has none. Prototypes: Du, Tao & Martinez, PNAS 2014,
table 1; anchors: means and deviations of AffectNet's validation labels, a check on the rule; calm:
Russell & Mehrabian 1977.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from affect.catalogue import LABEL_SETS, ONE_SIDED
from affect.labels import Vocabulary
from training.renderer import affect_rule

AU_CODES = LABEL_SETS["rendered"]
VOCABULARY = Vocabulary(AU_CODES)


@dataclass(frozen=True)
class Emotion:
    """AUs with the share of people who show them, and where annotators place the emotion (mean,
    sd).
    """

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
# Compounds: AUs of the study and the two emotions.
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
KINDS = {"emotion": 0.44, "compound": 0.10, "free": 0.36, "single": 0.10}
NEUTRAL = 0.22
SHOWN = 0.3  # intensity from which an AU is there
LEAK = 0.08  # scale of the faint activity of AUs that were not meant
# of states, one or two of whose AUs are drawn on one side, some too faintly to count
ONE_SIDED_SHARE = 0.13
# What pulls what along, and what shuts what out, in free combinations.
WITH = {
    2: (1, 0.6),
    5: (1, 0.3),
    7: (4, 0.3),
    6: (12, 0.35),
    15: (17, 0.4),
    23: (24, 0.4),
    26: (25, 0.9),
    20: (25, 0.5),
}
NEVER = ((25, 24), (25, 23), (26, 24), (26, 23), (43, 5), (12, 15), (43, 7), (9, 5), (20, 24))
# Rare in the prototypes, so drawn more often in free combinations.
FREE_WEIGHT = {
    5: 1.6,
    9: 1.6,
    14: 2.2,
    20: 1.6,
    23: 2.2,
    24: 1.3,
    43: 2.0,
    7: 1.5,
    6: 1.3,
    12: 1.4,
    26: 1.2,
}

# FACS to facial actions of the head (`geometry` and `own_moves`), with gain. Sizes follow people's
# faces as MediaPipe's mesh measures them: a posed smile of a stranger lifts the corners by .08 and
# widens the mouth by .13 of the distance of the eyes.
ACTIONS: dict[int, dict[str, float]] = {
    1: {"browInnerUp": 1.4},
    2: {"browOuterUp": 0.6, "browLift": 1.35},
    4: {"browDown": 1.2, "browFurrow": 1.4},
    5: {"eyeWide": 1.5},
    6: {"cheekSquint": 1.7, "eyeSquint": 0.2, "cheekBulge": 1.5},
    7: {"eyeSquint": 1.05, "eyeBlink": 0.13},
    9: {"noseSneer": 0.9, "noseWrinkle": 1.0, "mouthUpperUp": 0.2},
    10: {"mouthUpperUp": 1.0, "noseSneer": 0.15},
    12: {"mouthSmile": 0.56, "mouthStretch": 0.38, "cheekApple": 0.8},
    14: {"mouthDimple": 0.35, "cornerPit": 1.8, "mouthFrown": 0.12, "mouthRollLower": 0.15},
    15: {"mouthFrown": 1.2},
    17: {"mouthShrugLower": 1.2, "chinRaise": 1.5, "mouthShrugUpper": 0.3},
    20: {"mouthStretch": 1.3, "mouthDimple": 0.35, "mouthRollLower": 0.2},
    23: {"mouthRollLower": 0.6, "mouthRollUpper": 0.6, "mouthPucker": 0.8},
    24: {"mouthPress": 0.08, "mouthRollLower": 0.9, "mouthRollUpper": 0.9, "mouthPucker": 0.2},
    25: {"mouthLowerDown": 0.75, "mouthUpperUp": 0.3, "jawOpen": 0.14},
    26: {"jawOpen": 0.55},
    43: {"eyeBlink": 1.2},
}
MOST = 2.3  # of an action: beyond it skin tears
SIDED = tuple(code for code in AU_CODES if code in ONE_SIDED)
SIDE = 1.5  # the most that one side shows of an AU, in its intensity
BILATERAL = frozenset(
    {
        "browDown",
        "browFurrow",
        "browInnerUp",
        "browLift",
        "browOuterUp",
        "cheekApple",
        "cheekBulge",
        "cheekSquint",
        "cornerPit",
        "eyeBlink",
        "eyeSquint",
        "eyeWide",
        "mouthDimple",
        "mouthFrown",
        "mouthLowerDown",
        "noseWrinkle",
    }
    | {"mouthPress", "mouthSmile", "mouthStretch", "mouthUpperUp", "noseSneer"}
)


@dataclass(frozen=True)
class State:
    """Intensities in [0, 1] by FACS code, each side's share of them, and the affect that goes with
    them, if known.
    """

    intensities: dict[str, float]
    left: dict[str, float]  # gain of the subject's left side, about 1; the right side has 2 - left
    emotion: str | None
    valence: float | None
    arousal: float | None
    # VA before a rater's noise: what an oracle of the rule would answer.
    expected: tuple[float, float] | None = None

    def row(self) -> np.ndarray:
        """(K + 2,) label row of AU_CODES."""
        known = (
            {}
            if self.valence is None or self.arousal is None
            else {"valence": self.valence, "arousal": self.arousal}
        )
        return VOCABULARY.row({**dict.fromkeys(AU_CODES, 0.0), **self.intensities, **known})

    def side(self, code: str, *, left: bool) -> float:
        """Intensity in [0, 1] of an AU on one of the person's own sides."""
        gain = self.left.get(code, 1.0)
        share = min(gain if left else 2 - gain, SIDE)
        return min(self.intensities.get(code, 0.0) * share, 1.0)

    def sides(self, *, left: bool) -> dict[str, float]:
        """Intensities on one side of every AU that can be one-sided, 0 where nothing moves."""
        return {code: round(self.side(code, left=left), 4) for code in SIDED}


NEUTRAL_STATE = State({}, {}, "neutral", 0.0, 0.0, (0.0, 0.0))


def single(code: str, intensity: float) -> State:
    """One AU alone, VA not asked."""
    return State({code: intensity}, {}, None, None, None)


def draw_state(rng: Generator) -> State:
    """A state and what a rater says of it."""
    kind = rng.choice(list(KINDS), p=list(KINDS.values()))
    if kind == "free":
        state = _free(rng)
    elif kind == "single":
        number = int(rng.choice(_numbers()))
        state = _finish(rng, {number: rng.uniform(0.3, 1.0)}, None)
    elif kind == "compound":
        name = str(rng.choice(list(COMPOUNDS)))
        state = _prototype(rng, dict.fromkeys(COMPOUNDS[name][0], 1.0), name)
    else:
        name = (
            "neutral"
            if rng.random() < NEUTRAL
            else str(rng.choice([e for e in EMOTIONS if e != "neutral"]))
        )
        state = _prototype(rng, EMOTIONS[name].aus, name)
    return annotated(rng, state)


def annotated(rng: Generator, state: State) -> State:
    """The same state with the rule's valence and arousal, as a rater with this noise says them."""
    sides = state.sides(left=True), state.sides(left=False)
    expected = affect_rule.affect_of(state.intensities, *sides)
    valence, arousal = affect_rule.rated(rng, expected, state.intensities)
    return replace(state, valence=valence, arousal=arousal, expected=expected)


def can_turn(state: State, code: str) -> bool:
    """Whether one AU can come or go alone: nothing that shuts it out is there."""
    number = int(code.removeprefix("AU"))
    excluded = (f"AU{b if a == number else a}" for a, b in NEVER if number in (a, b))
    return all(state.intensities.get(rival, 0.0) < SHOWN for rival in excluded)


def turned(rng: Generator, state: State, code: str) -> State:
    """The same state with one AU turned: shown where it was not, gone where it was.

    VA follow the rule.
    """
    intensities = {name: value for name, value in state.intensities.items() if name != code}
    if state.intensities.get(code, 0.0) < SHOWN:
        intensities[code] = round(float(rng.uniform(0.5, 1.0)), 4)
    return annotated(rng, replace(state, intensities=intensities, emotion=None))


# The AUs without which an emotion is not seen: those that all people show (Du 2014), fear's and
# anger's by their clearest.
DEFINING: dict[str, tuple[tuple[int, ...], ...]] = {
    "happiness": ((12,),),
    "sadness": ((4,), (15,)),
    "fear": ((1,), (4,), (20, 5)),
    "anger": ((4,), (7, 24, 23)),
    "surprise": ((1, 2), (25, 26)),
    "disgust": ((9, 10),),
}
CLEAR = 0.35  # intensity from which an expression is called by its name
AT_REST = 0.2  # intensity up to which a face is neutral
BROAD = 0.4  # of a smile, or of raised brows and a jaw, that alone are read as an emotion
UNPLEASANT, DISPLEASED = (4, 9, 10, 15, 17), 0.25  # AUs, and intensities, that spoil a smile


def expression_of(state: State) -> str:
    """One of the eight classes of the ABAW challenges (`affect.labels.EXPRESSIONS`) that people
    would call a state.

    Neutral where nothing moves. An emotion that was drawn, where each of its defining AUs is clear.
    Otherwise a broad smile with nothing unpleasant is happiness, and raised brows with an open
    mouth and no smile or frown are surprise, since people call them so whatever was meant;
    compounds, contempt, faint emotions and all else are other, ABAW's class for what is none of the
    seven.
    """

    def of(number: int) -> float:
        return state.intensities.get(f"AU{number}", 0.0)

    if max(state.intensities.values(), default=0.0) <= AT_REST:
        return "neutral"
    if state.emotion in DEFINING:
        needed = DEFINING[state.emotion]
        clear = all(max(of(number) for number in group) >= CLEAR for group in needed)
        return state.emotion if clear else "other"
    if state.emotion is not None and state.emotion != "calm":
        return "other"
    tilt = abs(state.side("AU12", left=True) - state.side("AU12", left=False))
    if of(12) >= BROAD and tilt < 0.4 and max(of(n) for n in UNPLEASANT) < DISPLEASED:
        return "happiness"
    brows, mouth = min(of(1), of(2)), max(of(25), of(26))
    spoilt = max(of(n) for n in (*UNPLEASANT, 6, 7, 12, 20, 43))
    if brows >= BROAD and mouth >= BROAD and spoilt < DISPLEASED:
        return "surprise"
    return "other"


def actions(state: State, amplitudes: Mapping[str, float] | None = None) -> dict[str, float]:
    """Facial actions (name with Left or Right where there are two, value) of a state in a person of
    such AU amplitudes.
    """
    total: dict[str, float] = {}
    for code, intensity in state.intensities.items():
        reach = (amplitudes or {}).get(code, 1.0)
        shown = {
            "Left": reach * state.side(code, left=True),
            "Right": reach * state.side(code, left=False),
        }
        for name, gain in ACTIONS[int(code.removeprefix("AU"))].items():
            for side, value in (shown if name in BILATERAL else {"": reach * intensity}).items():
                total[name + side] = total.get(name + side, 0.0) + gain * value
    return {name: min(value, MOST) for name, value in total.items()}


def _prototype(rng: Generator, shares: Mapping[int, float], name: str) -> State:
    """Each AU of a prototype by the share of people who show it, at one strength."""
    shown = [number for number, share in shares.items() if rng.random() < share]
    strength = float(rng.beta(2.5, 1.6))
    meant = {number: strength * float(np.clip(rng.normal(1, 0.15), 0.5, 1.3)) for number in shown}
    return _finish(rng, meant, name)


def _free(rng: Generator) -> State:
    weights = np.array([FREE_WEIGHT.get(n, 1.0) for n in _numbers()])
    count = int(rng.integers(1, 6))
    chosen = {
        int(n) for n in rng.choice(_numbers(), count, replace=False, p=weights / weights.sum())
    }
    chosen |= {other for n, (other, share) in WITH.items() if n in chosen and rng.random() < share}
    return _finish(rng, {n: float(rng.uniform(0.25, 1.0)) for n in _compatible(rng, chosen)}, None)


def _compatible(rng: Generator, chosen: set[int]) -> list[int]:
    compatible = sorted(chosen)
    for a, b in NEVER:
        if a in compatible and b in compatible:
            compatible.remove(a if rng.random() < 0.5 else b)
    return compatible


def _finish(rng: Generator, meant: Mapping[int, float], emotion: str | None) -> State:
    shut = {b if a in meant else a for a, b in NEVER if (a in meant) != (b in meant)}
    intensities: dict[str, float] = {}
    for number in _numbers():
        leak = abs(rng.normal(0, LEAK)) if rng.random() < 0.35 and number not in shut else 0.0
        value = float(np.clip(meant.get(number, 0.0) + leak, 0, 1))
        if value:
            intensities[f"AU{number}"] = round(value, 4)
    return State(intensities, _tilts(rng, intensities, emotion), emotion, None, None)


def _tilts(
    rng: Generator, intensities: Mapping[str, float], emotion: str | None
) -> dict[str, float]:
    """Gains of the left side: mostly nearly even, sometimes one or two AUs on one side, in contempt
    always.
    """
    left = {code: float(np.clip(rng.normal(1, 0.08), 0.7, 1.3)) for code in intensities}
    side = float(rng.choice([-1.0, 1.0]))
    if emotion == "contempt":
        return left | {code: 1 + 0.9 * side for code in ("AU12", "AU14") if code in intensities}
    strong = sorted(
        code for code, value in intensities.items() if value > 0.3 and code in ONE_SIDED
    )
    if strong and rng.random() < ONE_SIDED_SHARE:
        count = min(len(strong), int(rng.integers(1, 3)))
        for code in rng.choice(strong, count, replace=False):
            left[str(code)] = 1 + side * float(rng.uniform(0.5, 1.0))
    return {code: round(gain, 4) for code, gain in left.items()}


def _numbers() -> list[int]:
    return [int(code.removeprefix("AU")) for code in AU_CODES]
