"""Wrinkles: the furrows that Action Units fold into skin, and those that age leaves, as depth maps
on the atlas.

They come on top of the geometry: people differ in whether and how deeply they fold, so depth is no
measure of an AU. Places after Ekman, Friesen & Hager, "Facial Action Coding System" (2002), in mm
on the average head; every variant jitters them, a person keeps one variant.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from training.renderer.atlas import HEIGHT, WIDTH, bump, load_atlas, noise, smooth, to_texels

Floats = NDArray[Any]  # float32
Path = Sequence[tuple[float, float]]  # (x, z) in mm

VARIANTS = 12
MOUTH_Z, EYE_X = -71.0, 31.0


def creases(variant: int, depths: Mapping[str, tuple[float, float]]) -> Floats:
    """(H, W) depth of furrows, 0 none, about 1 a deep fold, from those of the subject's left and
    right by FACS code or "age".
    """
    total = np.zeros((HEIGHT, WIDTH), np.float32)
    bank = _bank(variant % VARIANTS)
    for name, (left, right) in depths.items():
        if name in bank and max(left, right) > 0.01:
            rows, columns, patch = bank[name]
            gain = right + (left - right) * _leftness()[columns]
            total[rows, columns] += gain.astype(np.float32) * patch
    return total


@lru_cache(maxsize=1)
def _leftness() -> Floats:
    """(W,) 0 on the subject's right half of the sheet, 1 on the left."""
    return smooth(WIDTH / 2 - 16, WIDTH / 2 + 16, np.arange(WIDTH, dtype=np.float32))


@lru_cache(maxsize=VARIANTS)
def _bank(variant: int) -> dict[str, tuple[slice, slice, Floats]]:
    """Every furrow map, cut to the part of the sheet where it is not zero."""
    bank = {}
    for name, draw in _MAPS.items():
        sheet = draw(np.random.default_rng([variant, len(name), sum(map(ord, name))]))
        rows, columns = (
            np.flatnonzero(np.abs(sheet).max(1) > 0.01),
            np.flatnonzero(np.abs(sheet).max(0) > 0.01),
        )
        where = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        bank[name] = (*where, np.ascontiguousarray(sheet[where]))
    return bank


def _folds(
    rng: Generator, paths: Sequence[Path], width_mm: float, depth: float = 1.0, jitter: float = 1.2
) -> Floats:
    """Smooth lines through (x, z) mm on both sides of the face, fading at their ends."""
    sheet = np.zeros((HEIGHT, WIDTH), np.float32)
    texels = width_mm / 0.63
    for side in (-1.0, 1.0):
        for path in paths:
            points = (
                np.array(path, np.float32)
                + rng.normal(0, jitter, (1, 2))
                + rng.normal(0, jitter / 3, (len(path), 2))
            )
            line = np.zeros_like(sheet)
            smooth_line = _spline(points)
            place = to_texels(side * smooth_line[:, 0], smooth_line[:, 1])
            for i, (a, b) in enumerate(pairwise(place)):
                fade = float(np.sin(np.pi * (i + 1) / len(place)) ** 0.6)
                ends = [tuple(int(v * 16) for v in end) for end in (a, b)]
                cv2.line(line, ends[0], ends[1], fade, max(1, round(texels * 0.7)), cv2.LINE_AA, 4)
            sheet = np.maximum(sheet, line * float(rng.uniform(0.75, 1.1)))
    return (cv2.GaussianBlur(sheet, (0, 0), texels * 0.45) * 1.5 * depth).astype(np.float32)


def _spline(points: Floats, steps: int = 14) -> Floats:
    """(steps, 2) points along a quadratic fit (or the straight line) through the given ones."""
    t = np.linspace(0, 1, len(points))
    fit = np.polyfit(t, points, min(len(points) - 1, 3))
    return np.stack([np.polyval(fit[:, k], np.linspace(0, 1, steps)) for k in (0, 1)], axis=1)


def _forehead(rng: Generator, low_x: float, high_x: float, arch: float) -> Floats:
    heights = 33 + 8.5 * np.arange(4) + rng.uniform(-2, 2)
    paths = [[(low_x, h + arch), ((low_x + high_x) / 2, h), (high_x, h - arch)] for h in heights]
    return _folds(rng, paths, 1.9, 0.95)


def _au1(rng: Generator) -> Floats:
    """Curved lines over the inner brows, and the brows' inner ends lifted into a slant."""
    return _forehead(rng, -2, 24, 0.0) + _folds(rng, [[(6, 26), (14, 24), (22, 22)]], 1.6, 0.4)


def _au2(rng: Generator) -> Floats:
    return _forehead(rng, 26, 58, 2.5)


def _au4(rng: Generator) -> Floats:
    """Two upright furrows between the brows, one across the root of the nose."""
    return _folds(rng, [[(6.5, 8), (7.5, 18), (6.0, 29)]], 2.3, 1.35, 0.7) + _folds(
        rng, [[(-3, 3), (5, 4)]], 1.8, 0.7, 0.4
    )


def _au6(rng: Generator) -> Floats:
    """Crow's feet and the furrow under the lower lid that the raised cheek pushes up."""
    rays = [
        [(50.5, 0.5 - 3.5 * k), (56, 3.5 - 5.5 * k), (62 + rng.uniform(-3, 2), 8 - 8.5 * k)]
        for k in range(3)
    ]
    under = [[(13, -9), (24, -15.5), (36, -16.5), (49, -10)]]
    fold = [[(20, -38), (27, -50), (33, -61)]]
    return (
        _folds(rng, rays, 1.9, 0.95, 0.9)
        + _folds(rng, under, 2.6, 0.95)
        + _folds(rng, fold, 2.8, 0.3)
    )


def _au7(rng: Generator) -> Floats:
    """The lower lid drawn tight: a straight pouch below it."""
    return _folds(rng, [[(15, -7), (30, -9.8), (46, -6)]], 1.5, 1.0, 0.4) + _folds(
        rng, [[(16, 7), (30, 10), (46, 5)]], 1.6, 0.6, 0.4
    )


def _au9(rng: Generator) -> Floats:
    """Lines across the nose's root and slanting down its sides; the fold beside the wings."""
    bridge = [[(-2, 2 - 5 * k), (5, 1 - 5 * k), (12, -5 - 6 * k)] for k in range(3)]
    return (
        _folds(rng, bridge, 1.8, 1.25, 0.6)
        + _folds(rng, [[(14, -30), (21, -36), (24, -48)]], 2.6, 1.0)
        + _folds(rng, [[(-3, 7), (4, 8)]], 1.9, 0.8, 0.4)
    )


def _nasolabial(rng: Generator, depth: float, low: float) -> Floats:
    return _folds(rng, [[(19, -35), (27, -46), (33, -58), (36, low)]], 3.4, depth, 1.0)


def _au10(rng: Generator) -> Floats:
    """The upper part of the nasolabial fold, bent out like a pouch."""
    return _folds(rng, [[(17, -33), (26, -39), (31, -49), (31, -58)]], 2.8, 1.25, 0.8)


def _au12(rng: Generator) -> Floats:
    return _nasolabial(rng, 1.05, -70) + _folds(rng, [[(36, -62), (40, -70), (38, -78)]], 2.2, 0.5)


def _au14(rng: Generator) -> Floats:
    """A dimple beside each mouth corner."""
    pits = bump(33, -71, 3.6, 5.0) * 1.1
    return pits + _folds(rng, [[(34, -60), (37, -70), (34, -81)]], 2.0, 1.2, 0.5)


def _au15(rng: Generator) -> Floats:
    """Folds running down from the mouth corners, a pouch beneath them."""
    return _folds(rng, [[(27, -73), (32, -81), (33, -93)]], 2.5, 1.15, 0.6) + _folds(
        rng, [[(16, -90), (22, -88), (28, -92)]], 2.0, 0.6
    )


def _au17(rng: Generator) -> Floats:
    """The chin's orange peel, and the groove below the lower lip bent upward."""
    grain = np.clip(noise(rng, 3.0), -2, 2) * 0.45 * bump(0, -103, 15, 10)
    return grain + _folds(rng, [[(-2, -90.5), (8, -91), (17, -95)]], 2.4, 1.1, 0.4)


def _au20(rng: Generator) -> Floats:
    """Upright folds beside the stretched mouth, skin flattened over the chin."""
    return _folds(
        rng,
        [[(34 + 5 * k, -64), (37 + 5 * k, -73), (35 + 5 * k, -86)] for k in range(2)],
        2.0,
        0.85,
    )


def _au23(rng: Generator) -> Floats:
    """Fine lines running into the tightened red of the lips."""
    above: list[Path] = [[(x, -59), (x * 0.96, -65.5)] for x in (2.5, 7, 11.5, 16)]
    below: list[Path] = [[(x, -90), (x * 0.96, -81)] for x in (2.5, 7, 11.5, 16)]
    return _folds(rng, above + below, 1.3, 1.0, 0.4)


def _au24(rng: Generator) -> Floats:
    """Lips pressed flat: grooves above and below, corners dented."""
    grooves = [[(-2, -60.5), (9, -61), (18, -64)], [(-2, -88.5), (10, -88), (20, -83)]]
    return _folds(rng, grooves, 2.2, 0.95, 0.4) + bump(28, -71, 3, 4) * 0.5


def _age(rng: Generator) -> Floats:
    """What the years leave: forehead, crow's feet, bags, nasolabial and marionette lines."""
    lines = (
        0.5 * _forehead(rng, -2, 48, 0.5)
        + 0.45 * _au4(rng)
        + 0.6 * _au6(rng)
        + _nasolabial(rng, 0.8, -68)
    )
    bags = _folds(
        rng, [[(16, -8), (28, -14), (42, -11)], [(18, -12), (28, -18), (40, -16)]], 2.2, 0.7
    )
    mouth = _folds(rng, [[(27, -74), (31, -84), (31, -95)]], 2.4, 0.6) + 0.3 * _au23(rng)
    cheeks = np.clip(noise(rng, 8.0), -1.5, 1.5) * 0.12 * smooth(70, 50, np.abs(load_atlas().x))
    return lines + bags + mouth + cheeks


_MAPS: dict[str, Callable[[Generator], Floats]] = {
    "AU1": _au1,
    "AU2": _au2,
    "AU4": _au4,
    "AU6": _au6,
    "AU7": _au7,
    "AU9": _au9,
    "AU10": _au10,
    "AU12": _au12,
    "AU14": _au14,
    "AU15": _au15,
    "AU17": _au17,
    "AU20": _au20,
    "AU23": _au23,
    "AU24": _au24,
    "age": _age,
}
