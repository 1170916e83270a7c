"""Plots of readings: Action Units over pictures or time, and valence and arousal in the circumplex
(Russell 1980).
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from affect.local.reading import LocalReading

LEGEND_PX = 12


def plot(faces: Sequence[LocalReading]) -> Figure:
    """A figure with one axis for each kind of label that the model learnt: Action Units, valence
    and arousal, or both.
    """
    axes_for = ((bool(faces[0].aus), _heat_map), (faces[0].valence is not None, _circumplex))
    draws = [draw for knows, draw in axes_for if knows]
    figure = Figure(figsize=(6.0 * len(draws), 5.0), layout="constrained")
    for axes, draw in zip(figure.subplots(1, len(draws), squeeze=False)[0], draws, strict=True):
        draw(axes, faces)
    return figure


def _heat_map(axes: Axes, faces: Sequence[LocalReading]) -> None:
    """A row an Action Unit, a column a face; brightness is the probability."""
    codes = list(faces[0].aus)
    grid = np.array([[face.aus[code].probability for face in faces] for code in codes])
    image = axes.imshow(grid, aspect="auto", vmin=0, vmax=1, interpolation="nearest")
    axes.set_yticks(range(len(codes)), codes)
    timed = faces[0].time_seconds is not None
    axes.set_xlabel("face, in the order of time" if timed else "face")
    axes.set_title("probability of Action Units")
    assert axes.figure is not None
    axes.figure.colorbar(image, ax=axes)


def _circumplex(axes: Axes, faces: Sequence[LocalReading]) -> None:
    """Each face a point; in a video the later the brighter."""
    points = np.array([(face.valence, face.arousal) for face in faces], dtype=float)
    axes.add_patch(Circle((0, 0), 1, fill=False, color="0.8", linewidth=0.8))
    axes.axhline(0, color="0.8", linewidth=0.8)
    axes.axvline(0, color="0.8", linewidth=0.8)
    axes.scatter(points[:, 0], points[:, 1], c=np.arange(len(points)), s=LEGEND_PX, zorder=2)
    axes.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), aspect="equal")
    axes.set(xlabel="valence", ylabel="arousal", title="valence and arousal")
