"""What a database holds, in words and in one picture."""

from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from affect.labels import DIMENSIONS
from training.database.reader import Database
from training.database.sample import SPLITS

SHEET_ROWS, SHEET_COLUMNS = 8, 12


def description(database: Database) -> str:
    """Tables of splits, labels and groups."""
    card = database.card
    lines = [f"{card.name}: {len(database):,} pictures of {card.image_px} px from {', '.join(card.sources)}; licence {card.licence}", ""]
    lines.append(f"{'split':<12}{'pictures':>10}{'people':>10}{'twins':>10}{'with AU':>10}{'with VA':>10}")
    for split in SPLITS:
        labels = database.labels(split)
        people = len(set(database.column(split, "identity")))
        twins = sum(len(group) for group in database.twins(split))
        au, va = (int(np.isfinite(part).any(1).sum()) for part in (labels[:, :-2], labels[:, -2:]))
        lines.append(f"{split:<12}{len(labels):>10,}{people:>10,}{twins:>10,}{au:>10,}{va:>10,}")
    return "\n".join([*lines, "", *_labels(database), "", *_groups(database)])


def contact_sheet(database: Database, path: Path) -> Path:
    """Every n-th training picture, in a grid."""
    split = max(SPLITS, key=lambda name: len(database.table(name)))
    total = len(database.table(split))
    count = min(SHEET_ROWS * SHEET_COLUMNS, total)
    rows = np.linspace(0, total - 1, count).astype(int)
    images = database.images(split, rows, database.card.image_px)
    columns = min(SHEET_COLUMNS, count)
    images = images[: count // columns * columns]
    grid = images.reshape(-1, columns, *images.shape[1:]).transpose(0, 2, 1, 3, 4).reshape(-1, columns * images.shape[2], 3)
    Image.fromarray(grid).save(path)
    return path


def _labels(database: Database) -> list[str]:
    """Prevalence of each AU at the card's threshold, mean and spread of VA, over everything."""
    rows = np.concatenate([database.labels(split) for split in SPLITS])
    threshold = database.card.positive_intensity
    lines = [f"{'label':<12}{'known':>10}{'present':>10}{'mean':>9}{'sd':>9}   (present: intensity of at least {threshold:g})"]
    for name, values in zip((*database.card.vocabulary, *DIMENSIONS), rows.T, strict=True):
        known = values[np.isfinite(values)]
        if not len(known):
            lines.append(f"{name:<12}{0:>10}")
            continue
        present = "" if name in DIMENSIONS else f"{(known >= threshold).mean():.1%}"
        lines.append(f"{name:<12}{len(known):>10,}{present:>10}{known.mean():>9.3f}{known.std():>9.3f}")
    return lines


def _groups(database: Database) -> list[str]:
    lines = []
    for name in ("sex", "age", "skin_tone", "glasses", "beard"):
        counts = Counter(str(value) for split in SPLITS for value in database.column(split, name) if value)
        if counts:
            told = ", ".join(f"{value} {count:,}" for value, count in sorted(counts.items(), key=lambda item: (len(item[0]), item[0])))
            lines.append(f"{name:<12}{told}")
    return lines
