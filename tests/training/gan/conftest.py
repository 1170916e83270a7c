"""A small database of drawn faces."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from training.database.card import DataCard
from training.database.sample import Sample
from training.database.writer import DatabaseWriter

CARD = DataCard(
    name="test", vocabulary=("AU1", "AU12"), image_px=32, sources=("made",), licence="CC0-1.0"
)


def _drawing(brow: float, smile: float, colour: np.ndarray) -> bytes:
    image = np.full((64, 64, 3), colour * 0.5, np.float32)
    cv2.ellipse(image, (32, 32), (22, 28), 0, 0, 360, (colour + 0.4).clip(0, 1).tolist(), -1)
    for side in (-1, 1):
        cv2.line(
            image,
            (32 + side * 6, int(20 - 5 * brow)),
            (32 + side * 16, int(20 - 5 * brow)),
            (0.1, 0.1, 0.1),
            2,
        )
    curve = np.array(
        [[32 + 12 * t, 46 - 8 * smile * (t * t - 0.5)] for t in np.linspace(-1, 1, 9)], np.int32
    )
    cv2.polylines(image, [curve], False, (0.2, 0.1, 0.6), 2)
    small = cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA)
    return cv2.imencode(".png", (small * 255).astype(np.uint8))[1].tobytes()


@pytest.fixture(scope="session")
def faces_of_made_people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 drawn people in two states each, a third of them with valence and arousal."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    with DatabaseWriter(folder, CARD) as writer:
        for person in range(60):
            colour = rng.random(3)
            for state in range(2):
                brow, smile = rng.random(2)
                labels = np.array(
                    [brow, smile, smile - 0.5, np.nan if person % 3 else brow - 0.5], np.float32
                )
                labels[-2:] = np.nan if person % 3 else labels[-2:]
                key = f"{person:03d}-{state}"
                writer.add(
                    Sample(
                        key=key,
                        image=_drawing(brow, smile, colour),
                        labels=labels,
                        source="made",
                        identity=str(person),
                        twin_group=str(person),
                    )
                )
    return folder
