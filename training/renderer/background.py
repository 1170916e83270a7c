"""What stands behind a face: plain walls, gradients, soft blobs, straight things indoors, leaves
and sky outdoors.
"""

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def background(rng: Generator, side_px: int, *, outdoors: bool = False) -> Floats:
    """(S, S, 3) float32, linear light in [0, 1]."""
    picture = _open_air(rng, side_px) if outdoors else _room(rng, side_px)
    blur = rng.uniform(0.0, 0.04) * side_px
    if blur > 0.5:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), blur), np.float32)
    return np.clip(picture, 0, 1).astype(np.float32)


def _room(rng: Generator, side_px: int) -> Floats:
    base = _colour(rng)
    picture: Floats = np.empty((side_px, side_px, 3), np.float32)
    picture[:] = base
    kind = rng.integers(0, 5)
    if kind >= 1:
        picture += _slope(rng, side_px) * (_colour(rng) - base)
    if kind == 2:
        picture = _blobs(rng, picture)
    if kind == 3:
        picture = _straight_things(rng, picture)
    if kind == 4:
        picture += _texture(rng, side_px) * rng.uniform(0.05, 0.5) * base
    return picture


def _open_air(rng: Generator, side: int) -> Floats:
    """Sky over leaves, walls or land."""
    y = (np.arange(side, dtype=np.float32)[:, None, None] + 0.5) / side
    haze = rng.uniform(0.4, 0.9)
    zenith = haze * np.array([rng.uniform(0.25, 0.95), rng.uniform(0.5, 0.97), 1.0], np.float32)
    picture: Floats = np.repeat(zenith + (haze - zenith) * y, side, axis=1).astype(np.float32)
    horizon = rng.uniform(0.15, 0.9) * side
    if rng.random() < 0.45:  # walls
        for _ in range(int(rng.integers(1, 5))):
            x, width, top = (
                rng.uniform(-0.2, 1) * side,
                rng.uniform(0.15, 0.6) * side,
                rng.uniform(-0.1, 0.9) * horizon,
            )
            cv2.rectangle(
                picture, (int(x), int(top)), (int(x + width), side), _colour(rng).tolist(), -1
            )
    land = np.array(
        [rng.uniform(0.04, 0.3), rng.uniform(0.07, 0.3), rng.uniform(0.02, 0.15)], np.float32
    )
    ragged = (np.arange(side)[:, None] - horizon)[..., None] + _texture(rng, side) * rng.uniform(
        0.02, 0.2
    ) * side
    below = np.clip(ragged / 2, 0, 1)
    leaves = np.clip(
        1
        + 0.45 * _texture(rng, side)
        + 0.25 * rng.standard_normal((side, side, 1)).astype(np.float32),
        0.1,
        3,
    )
    return np.asarray(picture + below * (land * leaves - picture), np.float32)


def _colour(rng: Generator) -> Floats:
    grey = rng.uniform(0.02, 0.8) ** 1.5
    colour: Floats = np.clip(grey * (1 + rng.normal(0, 0.25, 3)), 0.005, 1).astype(np.float32)
    return colour


def _slope(rng: Generator, side: int) -> Floats:
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side - 0.5
    along = x * np.cos(angle) + y * np.sin(angle) + 0.5
    slope: Floats = np.clip(along, 0, 1).astype(np.float32)[..., None]
    return slope


def _blobs(rng: Generator, picture: Floats) -> Floats:
    side = len(picture)
    for _ in range(int(rng.integers(3, 12))):
        centre = tuple(int(v) for v in rng.uniform(0, side, 2))
        cv2.circle(
            picture,
            centre,
            int(rng.uniform(0.03, 0.25) * side),
            _colour(rng).tolist(),
            -1,
            cv2.LINE_AA,
        )
    return picture


def _straight_things(rng: Generator, picture: Floats) -> Floats:
    side = len(picture)
    for _ in range(int(rng.integers(2, 8))):
        x, y, w, h = rng.uniform([-0.2, -0.2, 0.05, 0.1], [1, 1, 0.5, 0.9]) * side
        cv2.rectangle(
            picture,
            (int(x), int(y)),
            (int(x + w), int(y + h)),
            _colour(rng).tolist(),
            -1 if rng.random() < 0.7 else 2,
        )
    return picture


def _texture(rng: Generator, side: int) -> Floats:
    """Noise of three scales, mean 0."""
    total = np.zeros((side, side, 1), np.float32)
    for cells in (4, 12, 36):
        coarse = rng.standard_normal((cells, cells)).astype(np.float32)
        scaled = np.asarray(
            cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC), np.float32
        )
        total[..., 0] += scaled / np.float32(cells**0.3)
    return total
