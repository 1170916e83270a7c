"""Faces that a reading should carry a warning about: eyes or mouth hidden, drawn instead of
photographed.

S is the side of a crop in px; points (5, 2) are in shares of it.
"""

from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
Floats = NDArray[np.floating[Any]]
HIDDEN = 0.12  # share of faces with hidden eyes, and with a hidden mouth
DRAWN = 0.1  # share of faces that are drawn
CLEAR = 0.15  # share of faces with an object over a part that is not read
EYES_HIDDEN, MOUTH_HIDDEN, IS_DRAWN = range(3)


def add_defects(crop: U8, points: Floats, rng: Generator) -> tuple[U8, Floats]:
    """The crop (S, S, 3), perhaps with defects, and which of the three (3,) it has."""
    defects = np.zeros(3, np.float32)
    if rng.random() < HIDDEN:
        crop, defects[EYES_HIDDEN] = hide_eyes(crop, points, rng), 1
    if rng.random() < HIDDEN:
        crop, defects[MOUTH_HIDDEN] = hide_mouth(crop, points, rng), 1
    if not defects.any() and rng.random() < CLEAR:
        crop = hide_elsewhere(crop, points, rng)
    if rng.random() < DRAWN:
        crop, defects[IS_DRAWN] = draw(crop, rng), 1
    return crop, defects


def hide_eyes(crop: U8, points: Floats, rng: Generator) -> U8:
    """Dark glasses, a bar, a brim or a cloth over both eyes."""
    (left, right), across = points[:2], points[1] - points[0]
    reach, angle = max(float(np.linalg.norm(across)), 0.2), _degrees(across)
    middle = (left + right) / 2
    mask = np.zeros(crop.shape[:2], np.uint8)
    kind = rng.choice(["glasses", "bar", "above"])
    if kind == "glasses":
        half = reach * np.array([rng.uniform(0.34, 0.5), rng.uniform(0.22, 0.36)])
        for eye in (left, right):
            _ellipse(mask, eye + rng.normal(0, 0.01, 2), half, angle)
        dark = crop * rng.uniform(0, 0.4) + rng.uniform(0, 50, 3)
        return _covered(crop, mask, dark.astype(np.float32))
    if kind == "bar":
        _box(mask, middle, reach * np.array([rng.uniform(0.85, 1.4), rng.uniform(0.2, 0.4)]), angle)
    else:
        half = np.array([2.0, 1.0])
        edge = middle + _down(across) * rng.uniform(0.2, 0.35) * reach / _length(across)
        _box(mask, edge - _down(across) / _length(across), half, angle)
    return _covered(crop, mask, _cloth(crop, rng))


def hide_mouth(crop: U8, points: Floats, rng: Generator) -> U8:
    """A mask, a scarf, a hand or a box over the mouth."""
    across = points[1] - points[0]
    mouth, eyes = points[3:].mean(0), points[:2].mean(0)
    down = mouth - eyes
    reach, angle = max(float(np.linalg.norm(down)), 0.2), _degrees(across)
    mask = np.zeros(crop.shape[:2], np.uint8)
    kind = rng.choice(["mask", "below", "box"])
    if kind == "mask":
        half = reach * np.array([rng.uniform(0.65, 1.0), rng.uniform(0.4, 0.6)])
        _ellipse(mask, mouth + 0.05 * down, half, angle)
    elif kind == "below":
        top = eyes + down * rng.uniform(0.5, 0.8)
        _box(mask, top + down / _length(down), np.array([2.0, 1.0]), angle)
    else:
        half = reach * np.array([rng.uniform(0.42, 0.8), rng.uniform(0.25, 0.5)])
        _box(mask, mouth + rng.normal(0, 0.02, 2), half, angle)
    return _covered(crop, mask, _cloth(crop, rng))


def hide_elsewhere(crop: U8, points: Floats, rng: Generator) -> U8:
    """An object over forehead, cheek or one side of the frame: eyes and mouth stay visible."""
    across = points[1] - points[0]
    reach, angle = max(float(np.linalg.norm(across)), 0.2), _degrees(across)
    mask = np.zeros(crop.shape[:2], np.uint8)
    kind = rng.choice(["forehead", "cheek", "frame"])
    if kind == "forehead":
        up = points[:2].mean(0) - _down(across) / _length(across) * (0.55 * reach + 1)
        _box(mask, up, np.array([2.0, 1.0]), angle)
    elif kind == "cheek":
        side = int(rng.integers(2))
        position = (points[side] + points[3 + side]) / 2 + (side - 0.5) * across * 0.7
        _ellipse(mask, position, reach * rng.uniform(0.1, 0.22, 2), angle)
    else:  # clear glasses
        for eye in points[:2]:
            centre = tuple(int(v) for v in eye * len(mask))
            half = reach * len(mask) * rng.uniform(0.25, 0.4, 2)
            axes = tuple(int(v) for v in half)
            cv2.ellipse(mask, centre, axes, angle, 0, 360, 1, 1)
    return _covered(crop, mask, _cloth(crop, rng))


def draw(crop: U8, rng: Generator) -> U8:
    """A line drawing of a crop (S, S, 3): edges in ink or pencil, on paper or on a blackboard."""
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    kind = rng.choice(["canny", "difference", "threshold", "gradient", "dodge"])
    lines: NDArray[Any]
    if kind == "canny":
        low = rng.uniform(20, 80)
        lines = 255 - cv2.Canny(cv2.GaussianBlur(grey, (0, 0), 0.7), low, low * 2.5)
    elif kind == "difference":
        sigma = rng.uniform(0.5, 1.0)
        fine, coarse = (
            cv2.GaussianBlur(grey.astype(np.float32), (0, 0), s) for s in (sigma, 1.6 * sigma)
        )
        difference = fine - rng.uniform(0.97, 1.0) * coarse
        lines = np.where(
            difference > 0, 255, 255 * (1 + np.tanh(rng.uniform(0.1, 0.4) * difference))
        )
    elif kind == "threshold":
        lines = cv2.adaptiveThreshold(
            cv2.medianBlur(grey, 3), 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, 7, 4
        )
    elif kind == "gradient":
        soft = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), rng.uniform(0.5, 1.0))
        x, y = cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1)
        lines = 255 - rng.uniform(1.0, 3.0) * np.hypot(x, y)
    else:
        soft = cv2.GaussianBlur(255 - grey, (0, 0), rng.uniform(1.5, 4))
        lines = np.minimum(255.0, grey * 256.0 / np.maximum(256.0 - soft, 1))
    paper = np.clip(np.asarray(lines, np.float32), 0, 255)
    if rng.random() < 0.25:
        paper = 255 - paper
    elif rng.random() < 0.3:  # tinted
        return np.asarray(paper[..., None] * rng.uniform(0.75, 1, 3), np.uint8)
    return np.repeat(paper.astype(np.uint8)[..., None], 3, 2)


def _length(vector: Floats) -> float:
    return max(float(np.linalg.norm(vector)), 1e-3)


def _down(across: Floats) -> Floats:
    return np.array([-across[1], across[0]], np.float32)


def _degrees(across: Floats) -> float:
    return float(np.degrees(np.arctan2(across[1], across[0])))


def _ellipse(mask: U8, centre: Floats, half: Floats, degrees: float) -> None:
    centre_px, sides = centre * len(mask), half * len(mask)
    cv2.ellipse(
        mask,
        (
            (float(centre_px[0]), float(centre_px[1])),
            (2 * float(sides[0]), 2 * float(sides[1])),
            degrees,
        ),
        1,
        -1,
    )


def _box(mask: U8, centre: Floats, half: Floats, degrees: float) -> None:
    centre_px, sides = centre * len(mask), 2 * half * len(mask)
    corners = cv2.boxPoints(
        ((float(centre_px[0]), float(centre_px[1])), (float(sides[0]), float(sides[1])), degrees)
    )
    cv2.fillPoly(mask, [corners.astype(np.int32)], 1)


def _cloth(crop: U8, rng: Generator) -> Floats:
    """(S, S, 3) a plain, grained, striped or blotched colour; sometimes skin."""
    side = len(crop)
    colour = rng.integers(0, 256, 3).astype(np.float32)
    if rng.random() < 0.3:
        colour = np.float32(rng.uniform(60, 240)) * np.array([1, 0.8, 0.65], np.float32)
    cloth = np.broadcast_to(colour, crop.shape).astype(np.float32)
    kind = rng.integers(4)
    if kind == 1:
        cloth = cloth + rng.normal(0, rng.uniform(4, 30), (side, side, 1)).astype(np.float32)
    elif kind == 2:
        blotches = rng.normal(0, 30, (int(rng.integers(3, 12)),) * 2).astype(np.float32)
        cloth = cloth + cv2.resize(blotches, (side, side), interpolation=cv2.INTER_CUBIC)[..., None]
    elif kind == 3:
        y, x = np.mgrid[:side, :side]
        turn, pitch = rng.uniform(0, np.pi), rng.uniform(0.2, 1.5)
        stripes = np.sin((x * np.cos(turn) + y * np.sin(turn)) * pitch) > 0
        cloth = cloth + stripes[..., None] * rng.uniform(-80, 80, 3)
    return np.clip(cloth, 0, 255).astype(np.float32)


def _covered(crop: U8, mask: U8, cover: Floats) -> U8:
    share = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.6)[..., None]
    return np.asarray(crop * (1 - share) + cover * share, np.uint8)
