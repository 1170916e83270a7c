"""What a database holds, in words, in one picture, and in one HTML file that needs no other."""

from pathlib import Path

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from affect.catalogue import CATALOGUE
from affect.labels import DIMENSIONS
from affect.picture_grid import picture_grid
from training.database import plots
from training.database.masks import decode
from training.database.reader import Database
from training.database.sample import SPLITS
from training.database.survey import Survey, SurveyPart
from training.pages import Strip, render_page, strip

U8 = NDArray[np.uint8]
SHEET_ROWS, SHEET_COLUMNS = 8, 12
EXAMPLES = 10  # faces of a strip
TEMPLATE = Path(__file__).with_name("describe.html")


def description(result: Survey) -> str:
    """Tables of splits, sources, labels and groups, and the problems found."""
    card = result.card
    lines = [
        f"{card.name}: {result.pictures:,} pictures of {card.image_px} px from "
        f"{', '.join(card.sources)}; licence {card.licence}"
    ]
    lines += ["", *_parts("split", result.splits), "", *_parts("source", result.sources)]
    lines += [
        "",
        f"{'label':<12}{'known':>10}{'present':>10}{'mean':>9}{'sd':>9}   (present: "
        f"intensity of at least {card.positive_intensity:g})",
    ]
    for label in result.labels:
        present = (
            f"{label.present / label.known:.1%}"
            if label.known and label.name not in DIMENSIONS
            else ""
        )
        figures = f"{label.mean:>9.3f}{label.deviation:>9.3f}" if label.known else ""
        lines.append(f"{label.name:<12}{label.known:>10,}{present:>10}{figures}")
    if result.groups:
        lines += [
            "",
            *(
                f"{name:<12}" + ", ".join(f"{p.name} {p.pictures:,}" for p in values)
                for name, values in result.groups.items()
            ),
        ]
    return "\n".join(
        [
            *lines,
            "",
            "problems found:" if result.problems else "no problems found",
            *(f"  {text}" for text in result.problems),
        ]
    )


def write_html(database: Database, result: Survey, path: Path) -> Path:
    """The illustrated description."""
    drawings = {"coverage": plots.coverage(result)}
    if result.card.vocabulary:
        drawings |= {"prevalence": plots.prevalence(result), "together": plots.together(result)}
    if len(result.circumplex):
        drawings["circumplex"] = plots.circumplex(result)
    values = {
        "found": result,
        "card": result.card,
        "catalogue": CATALOGUE,
        "dimensions": DIMENSIONS,
        "plots": {name: Markup(svg) for name, svg in drawings.items()},
        "faces": sheet(database, rows=4),
        "strips": strips(database),
    }
    path.write_text(render_page(TEMPLATE, values, filters={"share": _share}))
    return path


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def contact_sheet(database: Database, path: Path) -> Path:
    """Every n-th training picture, in a grid."""
    Image.fromarray(sheet(database, rows=SHEET_ROWS)).save(path)
    return path


def twin_sheet(database: Database, path: Path) -> Path:
    """Pairs of the largest split side by side with the mask of their changed pixels."""
    split = max(SPLITS, key=database.count)
    truths = database.truth(split)
    seconds = np.flatnonzero(["changed" in truth for truth in truths])[
        : SHEET_ROWS * SHEET_COLUMNS // 3
    ]
    columns = min(SHEET_COLUMNS // 3, len(seconds))
    seconds = seconds[: len(seconds) // columns * columns]
    sides = [database.images(split, seconds - offset, database.card.image_px) for offset in (1, 0)]
    masks = np.stack(
        [np.repeat(decode(truths[row]["changed"]["mask"])[..., None], 3, axis=2) for row in seconds]
    )
    triples = np.concatenate([*sides, masks], axis=2)  # (N, S, 3 S, 3)
    Image.fromarray(picture_grid(triples, columns)).save(path)
    return path


def sheet(database: Database, *, rows: int) -> U8:
    """(rows S, columns S, 3) evenly spread pictures of the largest split."""
    split = max(SPLITS, key=database.count)
    total = database.count(split)
    count = min(rows * SHEET_COLUMNS, total)
    images = database.images(
        split, np.linspace(0, total - 1, count).astype(int), database.card.image_px
    )
    columns = min(SHEET_COLUMNS, count)
    return picture_grid(images[: count // columns * columns], columns)


def strips(database: Database) -> list[Strip]:
    """For each label, the faces of different people that have most of it; for valence and arousal
    also least.
    """
    split = max(SPLITS, key=database.count)
    labels, people = database.labels(split), database.column(split, "identity")
    all_strips = []
    for name, values in zip(database.vocabulary.names, labels.T, strict=True):
        known = np.flatnonzero(~np.isnan(values))
        ends = (("lowest", 1), ("highest", -1)) if name in DIMENSIONS else (("strongest", -1),)
        for end, sign in ends:
            rows = _different(known[np.argsort(sign * values[known], kind="stable")], people)
            if len(rows) and (name in DIMENSIONS or values[rows[0]] > 0):
                title = f"{name} {CATALOGUE[name].name}" if name in CATALOGUE else name
                images = database.images(split, rows, database.card.image_px)
                all_strips.append(strip(f"{title}, {end}", images))
    return all_strips


def _different(rows: NDArray[np.intp], people: NDArray[np.generic]) -> NDArray[np.intp]:
    """The first rows that show different people."""
    people_seen: set[object] = set()
    first_rows: list[int] = []
    for row in rows:
        if people[row] not in people_seen or not people[row]:
            people_seen.add(people[row])
            first_rows.append(int(row))
        if len(first_rows) == EXAMPLES:
            break
    return np.array(first_rows, np.intp)


def _parts(title: str, parts: list[SurveyPart]) -> list[str]:
    heads = ("pictures", "people", "twins", "AU only", "VA only", "both")
    lines = [f"{title:<12}" + "".join(f"{head:>10}" for head in heads) + f"{'weight':>9}"]
    for part in parts:
        counts = (part.pictures, part.people, part.twins, part.au_only, part.va_only, part.both)
        lines.append(
            f"{part.name:<12}"
            + "".join(f"{count:>10,}" for count in counts)
            + f"{part.weight:>9.2f}"
        )
    return lines
