"""The texture sheet of the head: a cylinder unrolled around it, so that paint sticks to the skin
and moves with it.

Texels are named by the place of the average head that they cover, in mm: X to the subject's left, Z
up from the eyes. Shape letters: V vertices, H x W the sheet.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from training.renderer.geometry import SKIN, load_basis
from training.renderer.raster import rasterise

Floats = NDArray[Any]  # float32

HEIGHT, WIDTH = 448, 512
AXIS_M = 0.05  # the cylinder's axis lies this far behind the eyeballs
REACH = 2.0  # radians to either side of the face that the sheet covers
TOP_M, BOTTOM_M = 0.120, -0.150
GRAINS = (1.2, 3.0, 8.0, 24.0, 60.0)  # texels: scales of the noise bank
_BANK_PX = 1024


@dataclass(frozen=True)
class Atlas:
    """Where vertices lie on the sheet (V, 2: column, row) and which place of the average head each
    texel covers (H, W; mm).
    """

    coordinates: Floats
    x: Floats
    y: Floats
    z: Floats


def coordinates(vertices: Floats) -> Floats:
    """(V, 3) metres of the average head -> (V, 2) column and row on the sheet, clipped to it."""
    angle = np.arctan2(vertices[:, 0], AXIS_M - vertices[:, 1])
    column = (angle + REACH) / (2 * REACH) * WIDTH
    row = (TOP_M - vertices[:, 2]) / (TOP_M - BOTTOM_M) * HEIGHT
    return np.stack(
        [np.clip(column, 0, WIDTH - 1.01), np.clip(row, 0, HEIGHT - 1.01)], axis=1
    ).astype(np.float32)


@lru_cache(maxsize=1)
def load_atlas() -> Atlas:
    """The sheet of the average head."""
    basis = load_basis()
    place = coordinates(basis.mean)
    radius = np.hypot(basis.mean[:, 0], basis.mean[:, 1] - AXIS_M)
    position = np.column_stack([place[:, 0], place[:, 1], -radius]).astype(np.float32)
    triangles = basis.triangles[basis.part[basis.triangles[:, 0]] == SKIN]
    spread = np.ptp(place[triangles, 0], axis=1)
    side = max(HEIGHT, WIDTH)
    depth, cover, _ = rasterise(
        position, triangles[spread < WIDTH / 4], (basis.mean * 1000).astype(np.float32), side
    )
    filled = _fill(cover[:HEIGHT, :WIDTH], depth[:HEIGHT, :WIDTH] < 1e8)
    return Atlas(place, filled[..., 0].copy(), filled[..., 1].copy(), filled[..., 2].copy())


def _fill(values: Floats, known: NDArray[np.bool_]) -> Floats:
    """Texels that no triangle covers take the value of the nearest one that is covered."""
    _, labels = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    table = np.zeros((labels.max() + 1, values.shape[2]), np.float32)
    table[labels[known]] = values[known]
    return np.asarray(table[labels])


@lru_cache(maxsize=1)
def _bank() -> dict[float, Floats]:
    rng = np.random.default_rng(7)
    bank = {}
    for grain in GRAINS:
        cells = max(8, int(_BANK_PX / grain))
        coarse = rng.standard_normal((cells, cells)).astype(np.float32)
        noise = cv2.resize(
            np.pad(coarse, 2, mode="wrap"), (_BANK_PX, _BANK_PX), interpolation=cv2.INTER_CUBIC
        )
        bank[grain] = (noise - noise.mean()) / noise.std()
    return bank


def noise(rng: Generator, grain: float) -> Floats:
    """(H, W) noise of unit variance; `grain` is one of GRAINS.

    A random window, maybe mirrored, of a bank made once.
    """
    sheet = _bank()[grain]
    top, left = int(rng.integers(0, _BANK_PX - HEIGHT)), int(rng.integers(0, _BANK_PX - WIDTH))
    window = sheet[top : top + HEIGHT, left : left + WIDTH]
    return window[:, ::-1] if rng.random() < 0.5 else window


def bump(x: float, z: float, sx: float, sz: float | None = None) -> Floats:
    """(H, W) a soft spot of height 1 around (x, z) mm with half widths sx, sz, on both sides of the
    face.
    """
    atlas = load_atlas()
    front = (atlas.y < 70).astype(np.float32)
    return np.exp(-(((np.abs(atlas.x) - x) / sx) ** 2) - ((atlas.z - z) / (sz or sx)) ** 2) * front


def smooth(edge0: float, edge1: float, value: Floats) -> Floats:
    """Hermite step from 0 at edge0 to 1 at edge1."""
    t = np.clip((value - edge0) / (edge1 - edge0), 0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)


def to_texels(x: Floats, z: Floats) -> Floats:
    """(N,) x, z in mm on the front of the average head -> (N, 2) column and row."""
    front = _front_y(np.asarray(x, np.float32), np.asarray(z, np.float32))
    return coordinates(np.column_stack([x, front, z]).astype(np.float32) / 1000)


def _front_y(x: Floats, z: Floats) -> Floats:
    """y in mm of the front of the average head at (x, z): a quadratic bowl, good to some mm, enough
    for a column.
    """
    fit = _bowl()
    return np.column_stack([np.ones_like(x), x**2, z, z**2, x**2 * z, x**4]) @ fit


@lru_cache(maxsize=1)
def _bowl() -> Floats:
    atlas = load_atlas()
    near = (np.abs(atlas.x) < 70) & (atlas.z > -110) & (atlas.z < 70) & (atlas.y < 40)
    x, y, z = atlas.x[near], atlas.y[near], atlas.z[near]
    terms = np.column_stack([np.ones_like(x), x**2, z, z**2, x**2 * z, x**4])
    return np.asarray(np.linalg.lstsq(terms, y, rcond=None)[0], np.float32)
