"""Contact sheets: many people at a glance, and every Action Unit alone on several people, for eyes
that judge the renderer.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from affect.picture_grid import picture_grid
from training.renderer.expressions import AU_CODES, NEUTRAL_STATE, draw_state, single
from training.renderer.face import ALIGNED, Framing, render_face, render_twins
from training.renderer.person import Person, draw_person
from training.renderer.scene import Scene, draw_scene

Image = NDArray[np.uint8]

CAPTION_PX = 16
JPEG_QUALITY = 86


def people_sheet(
    *, seed: int, count: int, size_px: int, columns: int = 8, framing: Framing = ALIGNED
) -> Image:
    """People at random in states at random; row-major, black where the last row ends."""
    pictures = []
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        person, scene, state = draw_person(rng), draw_scene(rng), draw_state(rng)
        pictures.append(render_face(person, scene, state, size_px=size_px, framing=framing).image)
    return picture_grid(pictures, columns, fill=0)


def beside_sheet(photographs: Sequence[Image], *, seed: int, columns: int = 8) -> Image:
    """Rows of aligned photographs (S, S, 3), a row of rendered people in states at random under
    each, in the same frame.
    """
    size = photographs[0].shape[0]
    people = people_sheet(seed=seed, count=len(photographs), size_px=size, columns=columns)
    return np.concatenate(
        [
            np.concatenate(rows)
            for rows in zip(
                _bands(picture_grid(photographs, columns, fill=0), size),
                _bands(people, size),
                strict=True,
            )
        ],
        axis=0,
    )


def unit_sheet(
    *,
    seed: int,
    people: int,
    size_px: int,
    intensities: Sequence[float] = (0.5, 1.0),
    columns: int = 10,
    creases: bool = True,
) -> Image:
    """A column for each AU alone, the neutral face first; a row for each person and intensity;
    wrapped after `columns`.

    Without creases it shows what the geometry alone says, to faces that nothing covers.
    """
    heads = ["neutral", *AU_CODES]
    rows = []
    for number in range(people):
        rng = np.random.default_rng((seed, number))
        person, scene = draw_person(rng), draw_scene(rng)
        if not creases:
            person, scene = _bare(person, scene)
        for intensity in intensities:
            states = [NEUTRAL_STATE, *(single(code, intensity) for code in AU_CODES)]
            rows.append(
                [face.image for face in render_twins(person, scene, states, size_px=size_px)]
            )
    bands = []
    for start in range(0, len(heads), columns):
        chosen = range(start, min(start + columns, len(heads)))
        bands.append(_captions([heads[i] for i in chosen], size_px, columns))
        bands += [picture_grid([row[i] for i in chosen], columns, fill=0) for row in rows]
    return np.concatenate(bands)


def _bare(person: Person, scene: Scene) -> tuple[Person, Scene]:
    """Nearly frontal, without furrows, glasses or what else hides a face."""
    motion = replace(person.motion, creases=dict.fromkeys(person.motion.creases, 0.0), lasting={})
    return (
        replace(person, motion=motion, glasses=None, cover=None),
        replace(scene, yaw=0.4 * scene.yaw, pitch=0.4 * scene.pitch, scarf=None, hand=None),
    )


def save_sheet(sheet: Image, path: Path) -> None:
    """Write a JPEG or PNG, as the name ends."""
    settings = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if path.suffix == ".jpg" else []
    if not cv2.imwrite(str(path), sheet[..., ::-1], settings):
        raise ValueError(
            f"the sheet cannot be written to {path}; give a name ending .jpg or .png in a "
            "folder that exists"
        )


def _bands(sheet: Image, size_px: int) -> list[Image]:
    return [sheet[top : top + size_px] for top in range(0, len(sheet), size_px)]


def _captions(names: Sequence[str], size_px: int, columns: int) -> Image:
    strip = np.zeros((CAPTION_PX, columns * size_px, 3), np.uint8)
    for place, name in enumerate(names):
        cv2.putText(
            strip,
            name,
            (place * size_px + 4, CAPTION_PX - 4),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.4,
            (255, 255, 255),
            1,
            cv2.LINE_AA,
        )
    return strip
