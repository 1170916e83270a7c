"""From a rough box of a face to five points: pupils, nose tip, corners of the mouth.

A small network (affect/data/landmarks.onnx, trained on renders and photographs) refines a box into
points with a confidence, and says whether eyes or mouth are hidden or the face is drawn.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from affect.dnn import ThreadLocalNetwork

U8 = NDArray[np.uint8]
Floats = NDArray[np.float32]

INPUT_PX = 64  # side of the landmark network's input
APPROACHES = 2  # passes of the landmark network that only centre the box
OTHER_SIDE = [1, 0, 2, 4, 3]  # the five points of a mirrored face
NETWORK_FILE = Path(__file__).with_name("data") / "landmarks.onnx"
BOX_TO_EYES = 2.4  # side of a box in inter-ocular distances


@dataclass(frozen=True)
class Box:
    """A square in the picture: centre in px, side in px, turned by `angle` radians."""

    x: float
    y: float
    side: float
    angle: float = 0.0

    def scaled(self, times: float) -> "Box":
        """The same place in a picture whose sides are so many times as long."""
        return Box(self.x * times, self.y * times, self.side * times, self.angle)


@dataclass(frozen=True)
class Defects:
    """Probabilities in [0, 1] of what makes the reading of a face unreliable."""

    eyes_hidden: float = 0.0
    mouth_hidden: float = 0.0
    drawn: float = 0.0  # by lines, not photographed


NO_DEFECTS = Defects()


class Refined(NamedTuple):
    """The landmark network's output for a box."""

    points: Floats  # (5, 2) px of the picture, as in Face
    confidence: float  # that there is a face, in [0, 1]
    defects: Defects


class Landmarks:
    """The landmark network. Thread-safe."""

    def __init__(self, path: Path = NETWORK_FILE) -> None:
        remedy = f"make it with `affectgan align --out {path}`"
        self._network = ThreadLocalNetwork(path, cv2.dnn.readNetFromONNX, remedy)

    def refine(self, image: U8, box: Box) -> Refined:
        """Five points, confidence and defects from a rough box.

        Two passes centre the box; the third averages with the mirror image, which halves the
        network's one-sided error.
        """
        for _ in range(APPROACHES):
            points, _ = self._locate(*cut(image, box))
            box = box_of_points(points)
        crop, transform = cut(image, box)
        outputs = [self._locate(crop, transform, mirrored=mirrored) for mirrored in (False, True)]
        points = np.mean([points for points, _ in outputs], axis=0, dtype=np.float32)
        confidence, *defects = np.mean([shares for _, shares in outputs], axis=0).tolist()
        return Refined(points, confidence, Defects(*defects))

    def _locate(
        self, crop: U8, transform: NDArray[np.float64], *, mirrored: bool = False
    ) -> tuple[Floats, Floats]:
        """Points (5, 2) in the picture that a crop was cut from by the transform (`cut`), and (4,)
        the probabilities of a face and of each defect.
        """
        if mirrored:
            crop = crop[:, ::-1]
        blob = np.ascontiguousarray(crop.transpose(2, 0, 1)[None], np.float32) / 127.5 - 1
        network = self._network()
        network.setInput(blob)
        out = network.forward()[0]
        places = out[:10].reshape(5, 2) * INPUT_PX
        if mirrored:
            places = (places * [-1, 1] + [INPUT_PX, 0])[OTHER_SIDE]
        inverse = cv2.invertAffineTransform(transform)
        points = places @ inverse[:, :2].T + inverse[:, 2]
        return points.astype(np.float32), 1 / (1 + np.exp(-out[10:]))


@lru_cache(maxsize=1)
def default_landmarks() -> Landmarks:
    """The network in the package."""
    return Landmarks()


def cut(image: U8, box: Box) -> tuple[U8, NDArray[np.float64]]:
    """The box cut out as the landmark network's input (64, 64, 3), and the transform (2, 3) from px
    of the picture to px of the crop.
    """
    scale = INPUT_PX / box.side
    cos, sin = np.cos(-box.angle) * scale, np.sin(-box.angle) * scale
    middle = INPUT_PX / 2
    transform = np.array(
        [
            [cos, -sin, middle - cos * box.x + sin * box.y],
            [sin, cos, middle - sin * box.x - cos * box.y],
        ]
    )
    return warp(image, transform, INPUT_PX, scale), transform


def box_of_points(points: Floats) -> Box:
    """The upright-on-the-face square around five points; its size follows the distance of the eyes
    or of eyes and mouth, whichever the pose foreshortens less.
    """
    eyes, mouth = points[:2].mean(0), points[3:].mean(0)
    across = points[1] - points[0]
    reach = max(float(np.linalg.norm(across)), 0.95 * float(np.linalg.norm(mouth - eyes)), 1.0)
    centre = 0.6 * eyes + 0.4 * mouth
    return Box(
        float(centre[0]),
        float(centre[1]),
        BOX_TO_EYES * reach,
        float(np.arctan2(across[1], across[0])),
    )


def warp(image: U8, transform: NDArray[np.float64], size_px: int, scale: float) -> U8:
    """Affine warp of the part of the picture that is needed, averaged first if it shrinks by more
    than half, so that texture does not alias.
    """
    factor = 1
    while scale * factor < 0.5 and min(image.shape[:2]) >= 4 * factor:
        factor *= 2
    part, start = _part(image, transform, size_px, factor)
    if factor > 1:
        part = np.asarray(
            cv2.resize(
                part,
                (part.shape[1] // factor, part.shape[0] // factor),
                interpolation=cv2.INTER_AREA,
            ),
            np.uint8,
        )
    turn = transform[:, :2] * factor
    # Pixel centres lie at half integers; OpenCV puts them at integers.
    shift = transform[:, :2] @ start + transform[:, 2] + turn @ [0.5, 0.5] - 0.5
    warped = cv2.warpAffine(
        part, np.column_stack([turn, shift]), (size_px, size_px), borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(warped, np.uint8)


def _part(
    image: U8, transform: NDArray[np.float64], size_px: int, factor: int
) -> tuple[U8, NDArray[np.int64]]:
    """What a warp to (size_px, size_px) can see of the picture, its sides multiples of `factor`,
    and where it starts (x, y).
    """
    inverse = cv2.invertAffineTransform(transform)
    corners = (
        np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) * size_px @ inverse[:, :2].T + inverse[:, 2]
    )
    cells = np.array(image.shape[1::-1]) // factor
    first = np.clip(np.floor(corners.min(0) / factor) - 2, 0, cells - 1).astype(np.int64)
    last = np.clip(np.ceil(corners.max(0) / factor) + 2, first + 1, cells).astype(np.int64)
    (left, top), (right, bottom) = first * factor, last * factor
    return image[top:bottom, left:right], first * factor
