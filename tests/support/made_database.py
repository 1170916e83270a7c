"""Small databases for tests, with pictures of noise."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from affect.labels import Vocabulary
from training.database.card import DataCard
from training.database.sample import Sample
from training.database.writer import DatabaseWriter


def card(*aus: str, source: str = "made", **changes: object) -> DataCard:
    """A data card."""
    fields = {
        "name": source,
        "vocabulary": aus,
        "image_px": 16,
        "sources": (source,),
        "licence": "CC0-1.0",
    }
    return DataCard(**(fields | changes))


def picture(number: int) -> bytes:
    """PNG of noise that the number decides."""
    pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    return bytes(cv2.imencode(".png", pixels)[1])


def make(
    folder: Path,
    about: DataCard,
    rows: list[tuple[int, str, dict[str, float]]],
    *,
    shard_images: int = 40,
    **changes: object,
) -> Path:
    """A database of (number of the picture, identity, known labels)."""
    vocabulary = Vocabulary(about.vocabulary)
    with DatabaseWriter(folder, about, shard_images=shard_images) as writer:
        for place, (number, identity, known) in enumerate(rows):
            fields: dict[str, Any] = {
                "key": f"k{place}",
                "image": picture(number),
                "labels": vocabulary.row(known),
                "source": about.sources[0],
            }
            fields |= {"identity": identity} | changes
            writer.add(Sample(**fields))
    return folder
