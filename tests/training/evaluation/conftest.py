"""A small database of drawn faces whose mouth and brows show their labels."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from affect.labels import Vocabulary
from tests.support.once import made_once
from training.database.card import DataCard
from training.database.sample import Sample
from training.database.writer import DatabaseWriter
from training.evaluation.judge.training import JudgeConfig, train_judge

VOCABULARY = Vocabulary(("AU4", "AU12", "AU25"))
SIDE = 32
QUICK_JUDGE = JudgeConfig(
    images=12_800,
    batch_images=32,
    image_px=32,
    widths=(16, 24, 32, 48),
    kind="residual",  # quicker than the other
    seed=2,
)


def draw_face(
    rng: np.random.Generator, frown: float, smile: float, opening: float, skin: np.ndarray
) -> np.ndarray:
    """(SIDE, SIDE, 3) a cartoon at four times the size, averaged down."""
    big = np.full((4 * SIDE, 4 * SIDE, 3), rng.integers(0, 255, 3), np.uint8)
    cv2.ellipse(big, (64, 64), (44, 58), 0, 0, 360, skin.tolist(), -1)
    for x in (41, 87):
        cv2.circle(big, (x, 46), 6, (20, 20, 20), -1)
        lean = int(10 * frown) * (1 if x < 64 else -1)
        cv2.line(big, (x - 12, 34 - lean // 2), (x + 12, 34 + lean // 2), (30, 20, 10), 4)
    lift = int(14 * smile)
    mouth = np.array([(40, 92 - lift), (64, 92), (88, 92 - lift)], np.int32)
    cv2.polylines(big, [mouth], False, (120, 30, 30), 4 + int(10 * opening))
    return cv2.resize(big, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def samples(people: int, states: int) -> list[Sample]:
    """Every person in several states; valence follows the smile, and one in four faces has no
    valence and arousal.
    """
    rng, made = np.random.default_rng(3), []
    for person in range(people):
        skin, tone = rng.integers(90, 240, 3), str(person % 2)
        for state in range(states):
            frown, smile, opening = (
                float(v) if rng.random() < 0.5 else 0.0 for v in rng.uniform(0.4, 1, 3)
            )
            va = np.clip([smile - frown, opening - 0.5] + rng.normal(0, 0.05, 2), -1, 1)
            row = VOCABULARY.row({"AU4": frown, "AU12": smile, "AU25": opening})
            row[-2:] = np.nan if rng.random() < 0.25 else va
            done, code = cv2.imencode(
                ".png", draw_face(rng, frown, smile, opening, skin)[..., ::-1]
            )
            assert done
            made.append(
                Sample(
                    key=f"p{person}-{state}",
                    image=code.tobytes(),
                    labels=row,
                    source="drawn",
                    identity=f"p{person}",
                    twin_group=f"p{person}",
                    groups={"tone": tone},
                    truth={}
                    if np.isnan(row[-1])
                    else {"expected_va": [smile - frown, opening - 0.5]},
                )
            )
    return made


@pytest.fixture(scope="session")
def drawn_database() -> Path:
    """About 600 faces of 150 people."""
    return made_once("drawn", _write_drawn)


def _write_drawn(folder: Path) -> None:
    card = DataCard(
        name="drawn",
        vocabulary=VOCABULARY.aus,
        image_px=SIDE,
        sources=("drawn",),
        licence="CC0-1.0",
    )
    with DatabaseWriter(folder, card, shard_images=200) as writer:
        for sample in samples(150, 4):
            writer.add(sample)


def as_labelled_by_a_teacher(sample: Sample) -> Sample:
    """With an expression, a pose, sides and confidence beside the labels."""
    frown, smile = (float(sample.labels[VOCABULARY.index(code)]) for code in ("AU4", "AU12"))
    truth: dict[str, object] = {
        "confidence": {"AU4": 0.5, "valence": 0.8},
        "pose_degrees": {"yaw": 10 * frown, "pitch": 0.0, "roll": 0.0},
        "sides": {"left": {"AU12": smile}, "right": {"AU12": smile / 2}},
    }
    if not sample.labels[:-2].any():
        truth["expression"] = "neutral"
    elif smile and not frown:
        truth["expression"] = "happiness"
    return replace(sample, source="people", truth=truth)


@pytest.fixture(scope="session")
def photograph_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 240 faces of 60 people as a teacher would label photographs."""
    folder = tmp_path_factory.mktemp("photographs")
    card = DataCard(
        name="people",
        vocabulary=VOCABULARY.aus,
        image_px=SIDE,
        sources=("people",),
        licence="CC0-1.0",
        teacher="a drawing",
    )
    with DatabaseWriter(folder, card, shard_images=100) as writer:
        for sample in samples(60, 4):
            writer.add(as_labelled_by_a_teacher(sample))
    return folder


@pytest.fixture(scope="session")
def judge_folder(drawn_database: Path) -> Path:
    """A judge that learnt from the drawn faces."""
    return made_once("judge", lambda folder: train_judge(drawn_database, folder, QUICK_JUDGE))
