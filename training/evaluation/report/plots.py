"""Plots of a report, as SVG text that needs nothing else."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from training.evaluation.core import metrics
from training.evaluation.core.metrics import Interval
from training.evaluation.core.predictions import Floats
from training.evaluation.generation.control import CircumplexPoint, CrossTalk
from training.evaluation.recognition.robustness import Curve

INK, ACCENT, SOFT, WARM = "#1f2933", "#2563a8", "#9fb8d3", "#c2571a"
STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: small files, the reader's own font
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#9aa5b1",
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "affectgan",  # the same figures, the same bytes
}


@mpl.rc_context(STYLE)
def reliability(codes: Sequence[str], present: Floats, probability: Floats) -> str:
    """A small reliability plot per AU: stated probability against how often the AU is there.

    Dots grow with the faces in a bin.
    """
    columns = 6
    rows = -(-len(codes) // columns)
    figure, axes = _grid(rows, columns, width=1.75, height=1.6)
    for k, code in enumerate(codes):
        axis = axes[k]
        share, stated, full = (
            values[0] for values in metrics.reliability(present[:, k], probability[:, k])
        )
        axis.plot([0, 1], [0, 1], color="#cbd2d9", lw=1)
        is_filled = full > 0
        axis.scatter(
            stated[is_filled],
            share[is_filled],
            s=6 + 60 * full[is_filled] / max(full.sum(), 1),
            color=ACCENT,
            alpha=0.75,
            lw=0,
        )
        axis.set_title(code, fontsize=8, loc="left", pad=2)
        axis.set(xlim=(-0.04, 1.04), ylim=(-0.04, 1.04), xticks=[0, 1], yticks=[0, 1])
    return _svg(figure)


@mpl.rc_context(STYLE)
def valence_arousal(truth: Floats, prediction: Floats) -> str:
    """Read against true valence and arousal (N, 2)."""
    figure, axes = _grid(1, 2, width=3.4, height=3.0)
    for i, (axis, name) in enumerate(zip(axes, ("valence", "arousal"), strict=True)):
        is_known = np.isfinite(truth[:, i])
        axis.plot([-1, 1], [-1, 1], color="#cbd2d9", lw=1)
        axis.scatter(
            truth[is_known, i],
            prediction[is_known, i],
            s=3,
            alpha=0.25,
            color=ACCENT,
            lw=0,
            rasterized=True,
        )
        axis.set(
            xlim=(-1, 1), ylim=(-1, 1), xlabel=f"true {name}", ylabel=f"read {name}", aspect="equal"
        )
    return _svg(figure)


@mpl.rc_context(STYLE)
def cross_talk(figures: CrossTalk) -> str:
    """Rows: the AU that was raised. Columns: what the judge saw move."""
    matrix = np.array(figures.matrix)
    side = max(0.3 * len(figures.aus), 2.4)
    figure = Figure(figsize=(side + 1.2, side + 0.6), layout="constrained")
    axis = figure.add_subplot()
    image = axis.imshow(matrix, cmap="RdBu", vmin=-1, vmax=1)
    axis.set_xticks(range(len(figures.aus)), figures.aus, rotation=90, fontsize=7)
    axis.set_yticks(range(len(figures.aus)), figures.aus, fontsize=7)
    axis.set(xlabel="the judge reads", ylabel="raised")
    axis.spines[:].set_visible(False)
    figure.colorbar(image, ax=axis, shrink=0.7)
    return _svg(figure)


@mpl.rc_context(STYLE)
def circumplex(points: Sequence[CircumplexPoint]) -> str:
    """Arrows from what was asked to what the judge read on average."""
    figure = Figure(figsize=(4.2, 4.2), layout="constrained")
    axis = figure.add_subplot()
    axis.axhline(0, color="#cbd2d9", lw=1)
    axis.axvline(0, color="#cbd2d9", lw=1)
    for point in points:
        axis.annotate(
            "", point.read, point.asked, arrowprops={"arrowstyle": "->", "color": SOFT, "lw": 1.2}
        )
        axis.plot(*point.asked, "o", ms=4, mfc="white", mec=ACCENT)
        axis.errorbar(
            *point.read,
            xerr=point.spread[0] / 2,
            yerr=point.spread[1] / 2,
            fmt="o",
            ms=3,
            color=WARM,
            elinewidth=0.6,
        )
    axis.set(
        xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), xlabel="valence", ylabel="arousal", aspect="equal"
    )
    return _svg(figure)


@mpl.rc_context(STYLE)
def robustness(curves: Sequence[Curve]) -> str:
    """One panel per corruption: mean AU AUC and mean CCC against its strength."""
    columns = 4
    figure, axes = _grid(-(-len(curves) // columns), columns, width=2.0, height=1.8)
    for axis, curve in zip(axes, curves, strict=False):
        places = np.arange(len(curve.levels), dtype=np.float64)
        for label, colour, values in (
            ("AU AUC", ACCENT, [level.mean_auc for level in curve.levels]),
            ("VA CCC", WARM, [level.mean_ccc for level in curve.levels]),
        ):
            _band(axis, places, values, label, colour)
        axis.set_title(curve.name, fontsize=9, loc="left", pad=3)
        axis.set_xticks(places, ["-", *(f"{level.strength:g}" for level in curve.levels[1:])])
        axis.set(xlabel=curve.unit, ylim=(0, 1.02))
    axes[0].legend(fontsize=7, frameon=False, loc="lower left")
    return _svg(figure)


def _band(axis: Any, places: Floats, values: Sequence[Interval], label: str, colour: str) -> None:
    if not np.isfinite([v.value for v in values]).any():
        return
    axis.fill_between(
        places, [v.low for v in values], [v.high for v in values], color=colour, alpha=0.15, lw=0
    )
    axis.plot(places, [v.value for v in values], "o-", ms=3, lw=1.4, color=colour, label=label)


def _grid(rows: int, columns: int, *, width: float, height: float) -> tuple[Figure, list[Any]]:
    figure = Figure(figsize=(columns * width, rows * height), layout="constrained")
    return figure, list(np.ravel(figure.subplots(rows, columns)))


def _svg(figure: Figure) -> str:
    for axis in figure.axes:
        axis.set_visible(bool(axis.has_data()))
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, dpi=120, metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]
