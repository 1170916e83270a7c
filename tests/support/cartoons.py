"""Cartoon faces whose Action Units, valence and arousal show: quick to draw, quick to learn.

Every person (skin, background, hair) is shown in several states. Only the AUs in SHOWN are drawn;
the others are truly absent.
"""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from affect.labels import Vocabulary
from training.database.card import DataCard
from training.database.sample import Sample
from training.database.writer import DatabaseWriter
from training.renderer.expressions import AU_CODES

SIDE = 32
SHOWN = ("AU1", "AU4", "AU12", "AU15", "AU26")
STATES = {
    "happiness": {"AU12": 0.9, "AU26": 0.3},
    "surprise": {"AU1": 0.9, "AU26": 0.9},
    "sadness": {"AU1": 0.6, "AU4": 0.5, "AU15": 0.8},
    "anger": {"AU4": 0.9},
    "disgust": {"AU4": 0.5, "AU15": 0.6, "AU26": 0.2},
}
VOCABULARY = Vocabulary(AU_CODES)


def valence_and_arousal(state: dict[str, float]) -> tuple[float, float]:
    """Smiles are pleasant, frowns and drooping corners are not; wide mouths and brows excite."""
    pleasure = state.get("AU12", 0) - 0.6 * state.get("AU4", 0) - 0.6 * state.get("AU15", 0)
    excitement = 0.5 * state.get("AU1", 0) + 0.6 * state.get("AU26", 0) + 0.3 * state.get("AU4", 0)
    return float(np.clip(pleasure, -1, 1)), float(np.clip(excitement - 0.3, -1, 1))


def draw(state: dict[str, float], person: int) -> NDArray[np.uint8]:
    """(SIDE, SIDE, 3) drawn at four times the size and averaged down."""
    rng = np.random.default_rng(person)
    skin = np.array([1.0, 0.8, 0.65]) * rng.integers(110, 255)
    ground, hair = np.full(3, rng.integers(40, 220)), np.full(3, rng.integers(0, 90))
    big = np.full((4 * SIDE, 4 * SIDE, 3), ground, np.uint8)
    cv2.ellipse(big, (64, 60), (52, 62), 0, 0, 360, hair.tolist(), -1)
    cv2.ellipse(big, (64, 66), (46, 58), 0, 0, 360, skin.tolist(), -1)
    raised, frown = state.get("AU1", 0.0), state.get("AU4", 0.0)
    for x, inner in ((41, 1), (87, -1)):
        cv2.circle(big, (x, 50), 7, (250, 250, 250), -1)
        cv2.circle(big, (x, 50), 4, (20, 20, 20), -1)
        y, low = round(36 - 12 * raised + 3 * frown), round(10 * frown)
        ends = (x - 12 * inner, y), (x + 12 * inner, y + low)
        cv2.line(big, *ends, (30, 20, 10), 5)
    lift = round(14 * state.get("AU12", 0.0) - 12 * state.get("AU15", 0.0))
    opening = round(20 * state.get("AU26", 0.0))
    mouth = [(42, 92 - lift), (64, 92), (86, 92 - lift), (64, 94 + opening)]
    cv2.fillPoly(big, [np.array(mouth, np.int32)], (60, 10, 20))
    cv2.polylines(big, [np.array(mouth[:3], np.int32)], False, (150, 40, 50), 5)
    return cv2.resize(big, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.uint8)


def samples(people: int, states: int, seed: int = 3) -> list[Sample]:
    """Every person in several states, which are each other's twins: each turns one AU of the
    last.
    """
    rng, made = np.random.default_rng(seed), []
    for person in range(people):
        state = {code: float(rng.uniform(0.3, 1)) for code in SHOWN if rng.random() < 0.4}
        for number in range(states):
            code = str(rng.choice(SHOWN))
            state = state | {code: 0.0 if state.get(code) else float(rng.uniform(0.3, 1))}
            row = VOCABULARY.row({code: state.get(code, 0.0) for code in AU_CODES})
            row[-2:] = valence_and_arousal(state)
            done, content = cv2.imencode(".png", draw(state, person)[..., ::-1])
            assert done
            made.append(
                Sample(
                    key=f"p{person}-{number}",
                    image=content.tobytes(),
                    labels=row,
                    source="cartoons",
                    identity=f"p{person}",
                    twin_group=f"p{person}",
                    groups={"tone": str(person % 2)},
                )
            )
    return made


def write(folder: Path, people: int = 150, states: int = 4) -> Path:
    """A database of them."""
    card = DataCard(
        name="cartoons",
        vocabulary=AU_CODES,
        image_px=SIDE,
        sources=("cartoons",),
        licence="CC0-1.0",
    )
    with DatabaseWriter(folder, card, shard_images=200) as writer:
        for sample in samples(people, states):
            writer.add(sample)
    return folder
