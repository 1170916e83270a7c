"""Whole rendered heads with their exact five points, and the boxes a face finder might have drawn around them."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from affect.faces import INPUT_PX, Box, box_of_points, cut
from training.faces.face import LOOSE, render_face
from training.faces.person import draw_person
from training.faces.scene import draw_scene
from training.render.background import background
from training.render.states import draw_state

Floats = NDArray[np.float32]

PICTURE_PX = 160
NEGATIVES = 0.2  # share of boxes with no face in them
# What a face finder's box may be off by, in shares of the box of the true points.
SHIFT, SCALE, TURN = 0.12, 0.22, 0.35  # sd of the place, sd of log size, largest turn in radians


@dataclass(frozen=True)
class Heads:
    """Rendered pictures (N, P, P, 3) uint8 RGB and their points (N, 5, 2) in px."""

    images: NDArray[np.uint8]
    points: Floats

    def save(self, path: Path) -> None:
        """As one .npz."""
        np.savez(path, images=self.images, points=self.points)

    @classmethod
    def load(cls, path: Path) -> "Heads":
        """The inverse of `save`."""
        with np.load(path) as file:
            return cls(file["images"], file["points"])


def render_heads(seed: int, first: int, count: int) -> Heads:
    """Heads first ... first + count - 1 of a seed, somewhere in their pictures, doing something."""
    images = np.empty((count, PICTURE_PX, PICTURE_PX, 3), np.uint8)
    points = np.empty((count, 5, 2), np.float32)
    for row in range(count):
        rng = np.random.default_rng((seed, first + row))
        face = render_face(draw_person(rng), draw_scene(rng), draw_state(rng), size_px=PICTURE_PX, framing=LOOSE, supersample=1)
        images[row], points[row] = face.image, face.points
    return Heads(images, points)


def draw_boxes(heads: Heads, rows: NDArray[np.integer], rng: Generator) -> tuple[NDArray[np.uint8], Floats, Floats]:
    """One training batch: crops (B, 64, 64, 3), points in the crop's frame [0, 1] (B, 5, 2), and 1 where there is a face (B,)."""
    crops = np.empty((len(rows), INPUT_PX, INPUT_PX, 3), np.uint8)
    targets = np.zeros((len(rows), 5, 2), np.float32)
    face = (rng.random(len(rows)) >= NEGATIVES).astype(np.float32)
    for i, row in enumerate(rows):
        image, points = heads.images[row], heads.points[row]
        box = moved(box_of_points(points), rng)
        if not face[i]:
            image, box = _elsewhere(image, box, rng)
        crops[i], transform = cut(image, box)
        targets[i] = (points @ transform[:, :2].T + transform[:, 2]) / INPUT_PX
        crops[i] = _spoil(crops[i], rng)
        if rng.random() < 0.5:
            crops[i] = crops[i, :, ::-1]
            targets[i] = (targets[i] * [-1, 1] + [1, 0])[[1, 0, 2, 4, 3]]
    return crops, targets, face


def moved(box: Box, rng: Generator) -> Box:
    x, y = np.array([box.x, box.y]) + rng.normal(0, SHIFT, 2) * box.side
    return Box(float(x), float(y), float(box.side * np.exp(rng.normal(0.05, SCALE))), float(rng.uniform(-TURN, TURN)))


def _elsewhere(image: NDArray[np.uint8], box: Box, rng: Generator) -> tuple[NDArray[np.uint8], Box]:
    """A box that holds no face: on a bare background, beside the head, or on a patch of it."""
    kind = rng.integers(3)
    if kind == 0:
        bare = (background(rng, PICTURE_PX) ** (1 / 2.2) * 255).astype(np.uint8)
        x, y = rng.uniform(30, 130, 2)
        return bare, Box(float(x), float(y), float(rng.uniform(20, 80)))
    if kind == 1:
        angle = rng.uniform(0, 2 * np.pi)
        off = box.side * rng.uniform(0.8, 1.2)
        return image, Box(box.x + off * np.cos(angle), box.y + off * np.sin(angle), box.side, box.angle)
    return image, Box(box.x, box.y, box.side * float(rng.choice([0.25, 0.33, 3.0])), box.angle)


def _spoil(crop: NDArray[np.uint8], rng: Generator) -> NDArray[np.uint8]:
    """Light, colour, focus, noise and things in the way, as strongly as photographs vary."""
    pixels = np.asarray((crop.astype(np.float32) / 255) ** float(np.exp(rng.normal(0, 0.3))), np.float32)
    contrast, brightness = float(np.exp(rng.normal(0, 0.25))), 0.5 + rng.normal(0, 0.08)
    pixels = np.asarray((pixels - 0.5) * contrast + brightness, np.float32)
    pixels *= np.exp(rng.normal(0, 0.08, 3)).astype(np.float32)
    if rng.random() < 0.25:
        pixels[:] = pixels.mean(2, keepdims=True)
    if rng.random() < 0.3:
        pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), float(rng.uniform(0.5, 2.2))), np.float32)
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
