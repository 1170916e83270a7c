"""Photographs with mesh points as heads that the landmark network learns from, beside the rendered
ones.

P is the side of a picture in px. A fifth of the people is held out, by the hash that splits
databases.
"""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from affect.images import decode
from affect.landmarks import box_of_points
from training.alignment.pictures import PICTURE_PX, HeadPictures
from training.database.sample import TRAIN, split_of
from training.sources.pictures import Pictures
from training.teacher.points import MeshPoints

ROOM = 1.7  # side of the cut, in sides of the face's box: inaccurate boxes need the margin
# MediaPipe's iris centres lie below the pupils by so much of their distance, since lids cover the
# upper part of an iris: measured on open eyes of renders, whose pupils are known.
IRIS_BELOW_PUPIL = 0.013


def photograph_heads(folder: Path, points: Path) -> tuple[HeadPictures, HeadPictures]:
    """(learnt from, held out): the photographs of a folder that have points in a Parquet file."""
    mesh = MeshPoints.load(points)
    five = mesh.five()
    parts: tuple[list[HeadPictures], list[HeadPictures]] = ([], [])
    for name, has_mesh, spots in zip(mesh.names, mesh.found, five, strict=True):
        if has_mesh:
            held_out = split_of(Pictures.name, name) != TRAIN
            image = decode((folder / name).read_bytes())
            parts[held_out].append(head_of(image, with_pupils(spots)))
    return HeadPictures.joined(parts[0]), HeadPictures.joined(parts[1])


def with_pupils(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Five points (5, 2) whose iris centres are lifted to the pupils, square to the line of the
    eyes.
    """
    across = points[1] - points[0]
    up = np.array([across[1], -across[0]], np.float32)
    lifted = points.copy()
    lifted[:2] += IRIS_BELOW_PUPIL * up
    return lifted


def head_of(image: NDArray[np.uint8], points: NDArray[np.float32]) -> HeadPictures:
    """One head (P px) cut from a picture with some room; beyond the picture its edge goes on."""
    box = box_of_points(points)
    scale = PICTURE_PX / (ROOM * box.side)
    shift = PICTURE_PX / 2 - scale * np.array([box.x, box.y])
    transform = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    if scale < 0.5:  # averaged first, so that texture does not alias
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        transform[:, :2] = np.eye(2)
        image = np.asarray(small, np.uint8)
    # Pixel centres lie at half integers; OpenCV puts them at integers.
    transform[:, 2] += transform[:, :2] @ [0.5, 0.5] - 0.5
    side = (PICTURE_PX, PICTURE_PX)
    cut = cv2.warpAffine(image, transform, side, borderMode=cv2.BORDER_REPLICATE)
    placed = points * scale + shift
    return HeadPictures(np.asarray(cut, np.uint8)[None], placed[None].astype(np.float32))
