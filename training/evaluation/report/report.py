"""Writes report.json, and report.html: one file that needs no other."""

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image
from pydantic import BaseModel

from affect.picture_grid import picture_grid
from training.evaluation.core.metrics import Interval
from training.evaluation.core.predictions import U8
from training.evaluation.explanation.examples import CAPTIONS, as_sheet
from training.evaluation.recognition.photographs import Photographs
from training.evaluation.report.contents import Illustrations, Report
from training.pages import render_page

REPORT_JSON, REPORT_HTML, EXPLANATIONS_PNG = "report.json", "report.html", "explanations.png"
LINE = 140  # characters
EXPERIMENTS = {
    "au": "Action Units only",
    "va": "valence and arousal only",
    "both": "Action Units, valence and arousal",
}
FIGURE_NAMES = {
    "mean_f1": "mean AU F1",
    "mean_auc": "mean AU AUC",
    "valence_ccc": "valence CCC",
    "arousal_ccc": "arousal CCC",
}


def write(report: Report, art: Illustrations, run: Path) -> tuple[Path, ...]:
    """Numbers, page and the sheet of explanations into the run folder; on other data than the run's
    own, their name says which.
    """
    suffix = "" if report.at_home else f"-{report.data}"
    names = (REPORT_JSON, REPORT_HTML, EXPLANATIONS_PNG)
    numbers, html, sheet_of = (
        run / f"{Path(name).stem}{suffix}{Path(name).suffix}" for name in names
    )
    numbers.write_text(folded(json.dumps(as_json(report), indent=1, allow_nan=False)) + "\n")
    html.write_text(as_html(report, art))
    if not art.examples:
        return numbers, html
    Image.fromarray(as_sheet(art.examples)).save(sheet_of, optimize=True)
    return numbers, html, sheet_of


def folded(text: str) -> str:
    """Indented JSON with what holds no other list or object (a figure with its interval, a row of a
    matrix) on one line, if it fits.
    """

    def one_line(match: re.Match[str]) -> str:
        line = re.sub(r"\n *", " ", match[0])
        return match[0] if len(line) > LINE else f"{line[0]}{line[1:-1].strip()}{line[-1]}"

    return re.sub(r"[\[{][^\[\]{}]*[\]}]", one_line, text)


def as_json(value: Any) -> Any:
    """Plain values of a report or any part of it; figures that do not exist become null."""
    if isinstance(value, BaseModel):
        return as_json(value.model_dump(mode="json"))
    if dataclasses.is_dataclass(value):
        return {f.name: as_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): as_json(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(part) for part in value]
    if isinstance(value, float):
        return round(value, 5) if math.isfinite(value) else None
    return value


def as_html(report: Report, art: Illustrations) -> str:
    """The report as one HTML document."""
    drawings = {name: Markup(svg) for name, svg in art.plots.items()}
    values = {
        "report": report,
        "card": report.card,
        "art": art,
        "plots": drawings,
        "headline": headline(report),
    }
    return page(REPORT_HTML, values)


def page(template: str, values: dict[str, object]) -> str:
    """A template of this folder as one HTML document that needs no other file."""
    helpers = {
        "bar": _bar,
        "pairs": _pairs,
        "names": FIGURE_NAMES,
        "experiments": EXPERIMENTS,
        "captions": CAPTIONS,
        "row": _row,
    }
    path = Path(__file__).with_name(template)
    return render_page(path, helpers | values, filters={"figure": figure, "share": _share})


def _share(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{100 * value:.1f} %"


def headline(report: Report) -> list[tuple[str, Interval, str]]:
    """The headline figures: name, figure, its baseline."""
    recognised, generated = report.recognition, report.generated
    tiles = (
        [
            ("AU F1", recognised.mean_f1, "mean over AUs"),
            ("AU AUC", recognised.mean_auc, "mean over AUs"),
        ]
        if recognised.aus
        else []
    )
    for va in recognised.va:
        oracle = (
            f"oracle {va.oracle_ccc.value:.3f}"
            if math.isfinite(va.oracle_ccc.value)
            else "no oracle for these data"
        )
        tiles.append((f"{va.name.capitalize()} CCC", va.ccc, oracle))
    if generated and recognised.aus:
        tiles.append(
            (
                "Asked AUs, seen by the judge",
                generated.samples.mean_auc,
                f"AUC; on real faces {generated.ceiling.mean_auc.value:.3f}",
            )
        )
    if generated and recognised.va:
        tiles.append(
            (
                "Asked VA, seen by the judge",
                generated.samples.mean_ccc,
                f"CCC; on real faces {generated.ceiling.mean_ccc.value:.3f}",
            )
        )
    if generated and generated.distances:
        floor = generated.distances.frechet_floor.value
        tiles.append(("FD-judge", generated.distances.frechet, f"real against real {floor:.3g}"))
    return tiles


def summary_text(report: Report) -> str:
    """What a terminal shows: one figure a line."""
    lines = [
        f"{report.run} on {report.data} ({report.split}): {report.faces} faces of "
        f"{report.people} people; 95 % intervals over people"
    ]
    lines += [
        f"  {name:<30} {value}   ({comparison})" for name, value, comparison in headline(report)
    ]
    if report.generated is None:
        lines.append("  nothing drawn was graded: give --judge")
    else:
        generated = report.generated
        for name, control in (
            ("edits", generated.edits),
            ("reconstructions", generated.reconstructions),
        ):
            lines.append(f"  judge on {name:<21} AUC {control.mean_auc}   CCC {control.mean_ccc}")
    if not report.wrote_card:
        lines.append(
            "  these are not the data of this run: its calibration and card were left as they are"
        )
    elif not report.calibrated_on:
        lines.append("  no validation split: thresholds are not calibrated")
    lines += [line for one in report.photographs for line in _of_photographs(one)]
    for one in report.pairwise_rankings:
        if not report.at_home or one.name == "AU12":
            lines.append(
                f"  order in pairs, {one.name:<14} {one.right}   ({one.pairs} pairs of one "
                "person: the stronger read as stronger)"
            )
    for table in report.groups:
        for gap in table.gaps:
            if gap.figure in ("mean_auc", "valence_ccc"):
                lines.append(
                    f"  gap by {table.attribute:<22} {FIGURE_NAMES[gap.figure]} "
                    f"{gap.difference}: {gap.best} over {gap.worst}"
                )
    return "\n".join(lines)


def _of_photographs(figures: Photographs) -> list[str]:
    """One set of photographs, a figure a line."""
    lines = [
        f"{figures.data}, photographs ({figures.split}): {figures.faces} faces of "
        f"{figures.people} people",
        f"  AU AUC against the labels     {figures.mean_auc}",
    ]
    lines += [f"  {name + ' CCC':<30}{value}" for name, value in figures.va.items()]
    if figures.smiles_seen:
        lines.append(
            f"  AU12 present in smiles        {figures.smiles_seen}   ({figures.smiles} faces)"
        )
    if figures.rest:
        worst = figures.rest.alarms[figures.rest.worst]
        lines.append(
            f"  called present at rest        {worst}   ({figures.rest.worst}, the worst of all; "
            f"any AU {figures.rest.any_alarm}; {figures.rest.faces} faces)"
        )
    if figures.never:
        lines.append(f"  never read: {', '.join(figures.never)}")
    return lines


def figure(value: Interval, digits: int = 3) -> Markup:
    """A figure with its interval in small print; a dash where it does not exist."""
    if not math.isfinite(value.value):
        return Markup("&ndash;")
    text = f"{value.value:.{digits}f}"
    if not math.isfinite(value.low):
        return Markup("<b>{}</b>").format(text)
    return Markup("<b>{}</b> <small>{} &ndash; {}</small>").format(
        text, f"{value.low:.{digits}f}", f"{value.high:.{digits}f}"
    )


def _bar(value: Interval) -> Markup:
    """A figure in [0, 1] as a bar with its interval."""
    if not math.isfinite(value.value):
        return Markup("")
    low, high = (
        max(0.0, min(1.0, v if math.isfinite(v) else value.value)) for v in (value.low, value.high)
    )
    filled, start, width = 100 * max(0.0, min(1.0, value.value)), 100 * low, 100 * (high - low)
    return Markup(
        '<span class="bar"><i style="width:{:.1f}%"></i><u '
        'style="left:{:.1f}%;width:{:.1f}%"></u></span>'
    ).format(filled, start, width)


def _row(images: U8) -> U8:
    return picture_grid(images, len(images))


def _pairs(pairs: list[tuple[U8, U8]]) -> U8:
    """Drawn faces over their nearest training faces."""
    return picture_grid([drawn for drawn, _ in pairs] + [known for _, known in pairs], len(pairs))
