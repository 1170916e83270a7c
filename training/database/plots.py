"""Plots of a database's description, as SVG text."""

import io
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from affect.labels import DIMENSIONS
from training.database.survey import Survey
from training.renderer.expressions import EMOTIONS

INK, ACCENT, SOFT, WARM = "#1f2933", "#2563a8", "#9fb8d3", "#c2571a"
STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#9aa5b1",
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "affectgan",
}
KINDS = (
    ("both", "AU and VA", ACCENT),
    ("au_only", "AU only", SOFT),
    ("va_only", "VA only", WARM),
    ("neither", "no label", "#cbd2d9"),
)


@mpl.rc_context(STYLE)
def prevalence(result: Survey) -> str:
    """How many of the faces that say so show each AU."""
    aus = [label for label in result.labels if label.name not in DIMENSIONS]
    figure = Figure(figsize=(5.4, 0.24 * len(aus) + 0.6), layout="constrained")
    axis = figure.subplots()
    places = np.arange(len(aus))[::-1]
    shares = [100 * label.present / label.known if label.known else 0 for label in aus]
    axis.barh(places, shares, color=ACCENT, height=0.68)
    for position, share, label in zip(places, shares, aus, strict=True):
        axis.text(
            share,
            position,
            f" {share:.1f} %  ({label.known:,} say)" if label.known else " nobody says",
            va="center",
            fontsize=7.5,
        )
    axis.set_yticks(places, [label.name for label in aus])
    axis.set(xlim=(0, max([*shares, 1]) * 1.45), xlabel="% of the faces annotated for it")
    axis.tick_params(axis="y", length=0)
    return _svg(figure)


@mpl.rc_context(STYLE)
def together(result: Survey) -> str:
    """How often the column's AU is there when the row's is."""
    codes = result.card.vocabulary
    figure = Figure(
        figsize=(0.29 * len(codes) + 1.6, 0.27 * len(codes) + 0.9), layout="constrained"
    )
    axis = figure.subplots()
    shares = result.together.copy()
    np.fill_diagonal(shares, np.nan)
    image = axis.imshow(
        shares,
        cmap="Blues",
        vmin=0,
        vmax=max(float(np.nanmax(shares, initial=0.0)), 0.1),
        aspect="auto",
    )
    numbers = [code.removeprefix("AU") for code in codes]
    axis.set_xticks(range(len(codes)), numbers)
    axis.set_yticks(range(len(codes)), numbers)
    axis.tick_params(length=0)
    axis.set(xlabel="... also shows this AU", ylabel="a face with this AU ...")
    figure.colorbar(image, ax=axis, shrink=0.8, format=lambda share, _: f"{100 * share:.0f} %")
    return _svg(figure)


@mpl.rc_context(STYLE)
def circumplex(result: Survey) -> str:
    """Where on the circumplex the annotated faces lie; the names stand where annotators place the
    emotions.
    """
    figure = Figure(figsize=(4.9, 4.4), layout="constrained")
    axis = figure.subplots()
    valence, arousal = result.circumplex.T
    bins = axis.hexbin(
        valence,
        arousal,
        gridsize=44,
        extent=(-1, 1, -1, 1),
        bins="log",
        cmap="Blues",
        mincnt=1,
        lw=0.1,
    )
    axis.add_patch(Circle((0, 0), 1, fill=False, color="#9aa5b1", lw=0.8))
    axis.axhline(0, color="#cbd2d9", lw=0.6, zorder=0)
    axis.axvline(0, color="#cbd2d9", lw=0.6, zorder=0)
    for name, emotion in EMOTIONS.items():
        position = (emotion.valence[0], emotion.arousal[0])
        axis.plot(*position, "o", ms=2.5, color=WARM)
        axis.annotate(name, position, (4, 3), textcoords="offset points", fontsize=8, color=WARM)
    axis.set(
        xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), xlabel="valence", ylabel="arousal", aspect="equal"
    )
    figure.colorbar(bins, ax=axis, shrink=0.7, label="faces")
    return _svg(figure)


@mpl.rc_context(STYLE)
def coverage(result: Survey) -> str:
    """Which source carries which annotation."""
    parts = result.sources
    figure = Figure(figsize=(7.6, 0.36 * len(parts) + 0.95), layout="constrained")
    axis = figure.subplots()
    places = np.arange(len(parts))[::-1]
    left = np.zeros(len(parts))
    for field, label, colour in KINDS:
        counts = np.array([getattr(part, field) for part in parts], float)
        if counts.any():
            axis.barh(places, counts, left=left, color=colour, label=label, height=0.66)
        left += counts
    axis.set_yticks(places, [part.name for part in parts])
    axis.tick_params(axis="y", length=0)
    axis.set(xlabel="pictures")
    axis.legend(frameon=False, ncols=4, loc="lower left", bbox_to_anchor=(0, 1), fontsize=8)
    return _svg(figure)


def _svg(figure: Figure) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]
