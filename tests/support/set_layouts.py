"""Writes annotated sets in the layouts of their authors, with rendered faces in them, and imports
them.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from training.database.reader import Database
from training.database.sample import SPLITS
from training.renderer.expressions import NEUTRAL_STATE
from training.renderer.face import ALIGNED, Framing, render_face
from training.renderer.person import draw_person
from training.renderer.scene import draw_scene
from training.sources.cropping import Cropping
from training.sources.importing import ImportReport, import_database
from training.sources.record import Source

FACES = 4  # different ones


@lru_cache(maxsize=2 * FACES)
def face(number: int, framing: Framing = ALIGNED, size_px: int = 48) -> NDArray[np.uint8]:
    """A rendered face (S, S, 3)."""
    rng = np.random.default_rng(number)
    return render_face(
        draw_person(rng), draw_scene(rng), NEUTRAL_STATE, size_px=size_px, framing=framing
    ).image


def shoot(path: Path, number: int = 0, *, framing: Framing = ALIGNED, size_px: int = 48) -> Path:
    """Write a face to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), face(number % FACES, framing, size_px)[..., ::-1])
    return path


def write(path: Path, *lines: str) -> Path:
    """Write lines to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def as_packed_on_a_mac(root: Path) -> None:
    """Beside every file what macOS writes of it into an archive."""
    for path in [path for path in root.rglob("*") if path.is_file()]:
        path.with_name(f"._{path.name}").write_bytes(b"\x00\x05\x16\x07Mac OS X")


def bring_in(
    source: Source, out: Path, *, splits: str = "hash", workers: int = 1, shard_lines: int = 1024
) -> tuple[ImportReport, dict[str, dict[str, Any]]]:
    """Import aligned crops; the report, and each kept row by the name of its picture, known labels
    under their names.
    """
    report = import_database(
        source,
        out,
        cropping=Cropping(size_px=32, aligned=True),
        splits=splits,
        workers=workers,
        shard_lines=shard_lines,
    )
    return report, rows_of(out)


def rows_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Each row of a database by identity and name of its picture."""
    database = Database.open(folder)
    rows = {}
    for split in SPLITS:
        labels, truths = database.labels(split), database.truth(split)
        for place, row in enumerate(
            database.table(split, ["identity", "video", "source", "groups"]).to_pylist()
        ):
            known = {
                name: round(value, 4)
                for name, value in database.vocabulary.named(labels[place]).items()
            }
            rows[f"{row['identity']}/{truths[place]['picture']}"] = row | {
                "split": split,
                "labels": known,
                "truth": truths[place],
            }
    return rows


def refusals(report: ImportReport) -> dict[str, str]:
    """Reasons by place."""
    return {where: f"{kind}: {reason}" for where, kind, reason in report.refused}
