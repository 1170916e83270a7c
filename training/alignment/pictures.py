"""Whole rendered heads with their exact five points, and simulated boxes of a face finder around
them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from affect.landmarks import INPUT_PX, Box, box_of_points, cut
from training.alignment.defects import add_defects
from training.renderer.background import background
from training.renderer.expressions import draw_state
from training.renderer.face import LOOSE, render_face
from training.renderer.person import draw_person
from training.renderer.scene import Scene, draw_scene

Floats = NDArray[np.float32]

PICTURE_PX = 160
NEGATIVES = 0.2  # share of boxes with no face in them
# The error of a box: sd of its position in shares of its side, sd of log size, largest turn in
# radians.
ROUGH = (0.12, 0.22, 0.35)  # a finder's, seen in the first pass
CLOSE = (0.03, 0.06, 0.08)  # that of the first pass' points, seen in the second
CLOSE_SHARE = 0.6
FACELESS = (
    "cell",
    "cat",
    "coffee",
    "grass",
    "gravel",
    "hubble_deep_field",
    "immunohistochemistry",
    "page",
    "retina",
    "rocket",
    "text",
)
TURNED = 0.25  # share of heads turned far to one side
TURN = (0.5, 1.45)  # radians by which these are turned: up to profiles, which other scenes lack


@dataclass(frozen=True)
class HeadPictures:
    """Rendered pictures (N, P, P, 3) uint8 RGB and their points (N, 5, 2) in px."""

    images: NDArray[np.uint8]
    points: Floats

    def save(self, path: Path) -> None:
        """As one .npz."""
        np.savez(path, images=self.images, points=self.points)

    @classmethod
    def load(cls, path: Path) -> "HeadPictures":
        """The inverse of `save`."""
        with np.load(path) as file:
            return cls(file["images"], file["points"])

    @classmethod
    def joined(cls, parts: Sequence["HeadPictures"]) -> "HeadPictures":
        """One after another."""
        return cls(
            np.concatenate([part.images for part in parts]),
            np.concatenate([part.points for part in parts]),
        )


def render_heads(seed: int, first: int, count: int, *, filling: bool = True) -> HeadPictures:
    """HeadPictures first ... first + count - 1 of a seed, doing something.

    `filling` brings them close, so that training sees every detail and takes away what it wants;
    without, heads are as large as sittings have them, down to 10 px between the eyes.
    """
    images = np.empty((count, PICTURE_PX, PICTURE_PX, 3), np.uint8)
    points = np.empty((count, 5, 2), np.float32)
    for row in range(count):
        rng = np.random.default_rng((seed, first + row))
        scene = _filling(draw_scene(rng), rng) if filling else draw_scene(rng)
        face = render_face(
            draw_person(rng), scene, draw_state(rng), size_px=PICTURE_PX, framing=LOOSE
        )
        images[row], points[row] = face.image, face.points
    return HeadPictures(images, points)


def _filling(scene: Scene, rng: Generator) -> Scene:
    """Large in the picture, and sometimes turned far to one side."""
    x, y, _ = scene.placement
    yaw = float(rng.choice([-1, 1]) * rng.uniform(*TURN)) if rng.random() < TURNED else scene.yaw
    return replace(scene, placement=(0.3 * x, 0.3 * y, float(rng.uniform(0.6, 0.95))), yaw=yaw)


@dataclass(frozen=True)
class Boxes:
    """One training batch of B boxes."""

    crops: NDArray[np.uint8]  # (B, 64, 64, 3) RGB
    points: Floats  # (B, 5, 2) in the crop's frame, [0, 1]
    face: Floats  # (B,) 1 where there is a face
    defects: Floats  # (B, 3) 1 where eyes, mouth are hidden, where the face is drawn


def draw_boxes(heads: HeadPictures, rows: NDArray[np.integer], rng: Generator) -> Boxes:
    """A box around, or beside, each of the given heads."""
    count = len(rows)
    boxes = Boxes(
        np.empty((count, INPUT_PX, INPUT_PX, 3), np.uint8),
        np.zeros((count, 5, 2), np.float32),
        (rng.random(count) >= NEGATIVES).astype(np.float32),
        np.zeros((count, 3), np.float32),
    )
    for i, row in enumerate(rows):
        image, points = heads.images[row], heads.points[row]
        box = moved(box_of_points(points), rng, CLOSE if rng.random() < CLOSE_SHARE else ROUGH)
        if not boxes.face[i]:
            image, box = _elsewhere(image, box, rng)
        crop, transform = cut(image, box)
        placed = np.asarray((points @ transform[:, :2].T + transform[:, 2]) / INPUT_PX, np.float32)
        crop = _degrade(crop, rng)
        if boxes.face[i]:
            crop, boxes.defects[i] = add_defects(crop, placed, rng)
        if rng.random() < 0.5:
            crop = crop[:, ::-1]
            placed = np.asarray((placed * [-1, 1] + [1, 0])[[1, 0, 2, 4, 3]], np.float32)
        boxes.crops[i], boxes.points[i] = crop, placed
    return boxes


def moved(box: Box, rng: Generator, spread: tuple[float, float, float] = ROUGH) -> Box:
    """A box as a finder or a first pass would draw it around the same face."""
    shift, scale, turn = spread
    x, y = np.array([box.x, box.y]) + rng.normal(0, shift, 2) * box.side
    upright = 0.0 if spread is ROUGH else box.angle  # finders don't see how a head is tilted
    return Box(
        float(x),
        float(y),
        float(box.side * np.exp(rng.normal(0, scale))),
        upright + float(rng.uniform(-turn, turn)),
    )


def _elsewhere(image: NDArray[np.uint8], box: Box, rng: Generator) -> tuple[NDArray[np.uint8], Box]:
    """A box that holds no face to read: in a photograph without any, on a bare background, beside
    the head, on a patch of it, or on a head that stands on its crown.
    """
    kinds = ["photograph", "background", "beside", "patch", "upside down"]
    kind = rng.choice(kinds, p=[0.35, 0.1, 0.15, 0.15, 0.25])
    if kind == "upside down":
        return image, replace(box, angle=box.angle + np.pi + float(rng.uniform(-0.6, 0.6)))
    if kind == "photograph":
        photograph = faceless()[int(rng.integers(len(FACELESS)))]
        return photograph, _anywhere(photograph, rng)
    if kind == "background":
        empty_picture = (background(rng, PICTURE_PX) ** (1 / 2.2) * 255).astype(np.uint8)
        return empty_picture, _anywhere(empty_picture, rng)
    if kind == "beside":
        angle, distance = rng.uniform(0, 2 * np.pi), box.side * rng.uniform(0.8, 1.2)
        return image, Box(
            box.x + distance * np.cos(angle), box.y + distance * np.sin(angle), box.side, box.angle
        )
    return image, Box(box.x, box.y, box.side * float(rng.choice([0.25, 0.33, 3.0])), box.angle)


def _anywhere(image: NDArray[np.uint8], rng: Generator) -> Box:
    height, width = image.shape[:2]
    side = float(np.exp(rng.uniform(np.log(20), np.log(min(height, width) / 2))))
    return Box(
        float(rng.uniform(0, width)),
        float(rng.uniform(0, height)),
        side,
        float(rng.uniform(-np.pi, np.pi)),
    )


@lru_cache(maxsize=1)
def faceless() -> list[NDArray[np.uint8]]:
    """Photographs (H, W, 3) that show no human face."""
    from skimage import data

    pictures = [np.asarray(getattr(data, name)()) for name in FACELESS]
    return [p if p.ndim == 3 else np.repeat(p[..., None], 3, axis=2) for p in pictures]


def _degrade(crop: NDArray[np.uint8], rng: Generator) -> NDArray[np.uint8]:
    """Light, colour, focus, noise and occlusion, as strongly as in photographs."""
    pixels = np.asarray(
        (crop.astype(np.float32) / 255) ** float(np.exp(rng.normal(0, 0.3))), np.float32
    )
    contrast, brightness = float(np.exp(rng.normal(0, 0.25))), 0.5 + rng.normal(0, 0.08)
    pixels = np.asarray((pixels - 0.5) * contrast + brightness, np.float32)
    pixels *= np.exp(rng.normal(0, 0.08, 3)).astype(np.float32)
    if rng.random() < 0.25:
        pixels[:] = pixels.mean(2, keepdims=True)
    if rng.random() < 0.65:
        pixels = _coarse(pixels, rng)
    if rng.random() < 0.4:
        pixels += rng.normal(0, rng.uniform(0, 0.08), pixels.shape).astype(np.float32)
    if rng.random() < 0.25:
        x, y = rng.integers(0, INPUT_PX, 2)
        w, h = rng.integers(6, 26, 2)
        pixels[y : y + h, x : x + w] = rng.random(3)
    if rng.random() < 0.3:  # light from one side
        ramp = np.linspace(rng.uniform(0.4, 1), rng.uniform(0.4, 1), INPUT_PX, dtype=np.float32)
        pixels *= ramp[None, :, None] if rng.random() < 0.7 else ramp[:, None, None]
    return (np.clip(pixels, 0, 1) * 255).astype(np.uint8)


def _coarse(pixels: Floats, rng: Generator) -> Floats:
    """Out of focus, or a small face made large, with the noise that it had when it was small."""
    if rng.random() < 0.3:
        return np.asarray(
            cv2.GaussianBlur(pixels, (0, 0), float(rng.uniform(0.5, 2.2))), np.float32
        )
    side = round(INPUT_PX / float(rng.uniform(1.2, 3.5)))
    small = np.asarray(cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA), np.float32)
    if rng.random() < 0.6:
        small += rng.normal(0, rng.uniform(0, 0.08), small.shape).astype(np.float32)
    return np.asarray(
        cv2.resize(small, (INPUT_PX, INPUT_PX), interpolation=cv2.INTER_LINEAR), np.float32
    )
