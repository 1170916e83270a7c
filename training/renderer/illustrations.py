"""Pictures for people to look at: the page's six examples and the figures of the book."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from affect.catalogue import LABEL_SETS
from affect.images import encode
from training.renderer.affect_rule import affect_of
from training.renderer.expressions import (
    AU_CODES,
    EMOTIONS,
    NEUTRAL_STATE,
    SHOWN,
    State,
    draw_state,
    single,
)
from training.renderer.face import ALIGNED, LOOSE, Framing, render_face, render_twins
from training.renderer.person import Person, draw_person
from training.renderer.scene import Scene, draw_scene
from training.renderer.version import renderer_digest

Image = NDArray[np.uint8]

SEED, TINY_SEED = 77, 78
STRENGTH = 0.9  # of an emotion: intensity of each of its Action Units
SHOWN_BY = 0.5  # share of people who must show an Action Unit for it to be drawn
HEAD = (0.0, 0.05, 0.72)  # placement of a portrait: nearly in the middle, large
GROUP = (42, 1, 6)  # the people of the picture of three
UNSHOWN = ("contempt", "calm")  # the face alone does not show them
UNITS_SITTER = 24  # who shows each Action Unit
UPSIDE_DOWN = 8  # who stands on his head


def emotion(name: str, strength: float = STRENGTH) -> State:
    """An emotion as most people show it (Du, Tao & Martinez 2014), without noise."""
    shown = EMOTIONS[name]
    units = {f"AU{number}": strength for number, share in shown.aus.items() if share >= SHOWN_BY}
    return State(units, {}, name, strength * shown.valence[0], strength * shown.arousal[0])


def sitter(number: int) -> tuple[Person, Scene]:
    """A person and a quiet scene: the head upright, frontal and in the middle."""
    rng = np.random.default_rng((SEED, number))
    person, scene = draw_person(rng), draw_scene(rng)
    quiet = replace(scene, yaw=0.1 * scene.yaw, pitch=0.0, roll=0.0, gaze=(0.0, 0.0), distance=1.2)
    return person, replace(quiet, hand=None, scarf=None, placement=HEAD)


def examples(size_px: int) -> dict[str, Image]:
    """Six pictures by name; that of three people is three times as wide."""
    singles = {"smile": 6, "surprise": 1, "anger": 14, "sadness": 36}
    emotions = {"smile": "happiness"}
    pictures = {
        name: portrait(*sitter(number), emotion(emotions.get(name, name)), size_px)
        for name, number in singles.items()
    }
    return pictures | {"three": _three(size_px), "upside_down": _upside_down(size_px)}


def portrait(
    person: Person, scene: Scene, state: State, size_px: int, framing: Framing = LOOSE
) -> Image:
    """(S, S, 3) RGB."""
    return render_face(person, scene, state, size_px=size_px, framing=framing).image


def units(size_px: int) -> dict[str, Image]:
    """By FACS code (S, 2 S, 3): one person at rest, and with the Action Unit alone at its
    strongest.
    """
    person, scene = sitter(UNITS_SITTER)
    states = [NEUTRAL_STATE, *(single(code, 1.0) for code in AU_CODES)]
    faces = [face.image for face in render_twins(person, scene, states, size_px=size_px)]
    return {
        code: np.concatenate([faces[0], face], axis=1)
        for code, face in zip(AU_CODES, faces[1:], strict=True)
    }


def circle(size_px: int) -> Image:
    """(S, S, 3) the emotions of one person, each where annotators place it: pleasant right, excited
    up.
    """
    person, scene = sitter(UNITS_SITTER)
    canvas = np.full((size_px, size_px, 3), 255, np.uint8)
    middle, radius, side = size_px // 2, int(0.46 * size_px), size_px // 10
    cv2.circle(canvas, (middle, middle), radius, (190, 190, 190), 2, cv2.LINE_AA)
    for x, y in ((radius, 0), (0, radius)):
        start, end = (middle - x, middle - y), (middle + x, middle + y)
        cv2.line(canvas, start, end, (190, 190, 190), 1, cv2.LINE_AA)
    for name, shown in EMOTIONS.items():
        if name in UNSHOWN:
            continue
        face = portrait(person, scene, emotion(name), side, ALIGNED)
        x = int(middle + radius * 0.85 * shown.valence[0] - side / 2)
        y = int(middle - radius * 0.85 * shown.arousal[0] - side / 2)
        canvas[y : y + side, x : x + side] = face
        place = (x + 4, y + side + 16)
        cv2.putText(
            canvas, name, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (40, 40, 40), 1, cv2.LINE_AA
        )
    return canvas


def write(pictures: dict[str, Image], folder: Path) -> Sequence[Path]:
    """One JPEG a picture, marked as synthetic."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, image in pictures.items():
        path = folder / f"{name}.jpg"
        path.write_bytes(encode(image, "image/jpeg", synthetic={"renderer": renderer_digest()}))
        paths.append(path)
    return paths


def _three(size_px: int) -> Image:
    """Three people side by side, before one background."""
    _, scene = sitter(GROUP[0])
    states = [emotion("happiness"), emotion("surprise"), emotion("happiness", 0.5)]
    tiles = []
    for (person, own), state in zip(map(sitter, GROUP), states, strict=True):
        tiles.append(portrait(person, replace(scene, cloth=own.cloth), state, size_px))
    return np.concatenate(tiles, axis=1)


def _upside_down(size_px: int) -> Image:
    """A face upside down: a picture whose reading should not be trusted."""
    person, scene = sitter(UPSIDE_DOWN)
    return np.ascontiguousarray(portrait(person, scene, emotion("happiness"), size_px)[::-1, ::-1])


def tiny_set(folder: Path, *, videos: int = 24, frames: int = 5, size_px: int = 96) -> Path:
    """A set in the layout of Aff-Wild2 (2022 on), with rendered people in the place of real ones.

    Each video is one person on the way from rest to a state. Every third has no Action Units, every
    third no valence and arousal, as in the real one, where annotators did not see all of it.
    """
    annotations, crops = folder / "annotations", folder / "cropped_aligned"
    for number in range(videos):
        rng = np.random.default_rng((TINY_SEED, number))
        person, scene, state = draw_person(rng), draw_scene(rng), draw_state(rng)
        path = [_share(state, step / (frames - 1)) for step in range(frames)]
        faces = render_twins(person, scene, path, size_px=size_px)
        name = f"video{number:02d}"
        for place, face in enumerate(faces, 1):
            picture = crops / name / f"{place:05d}.jpg"
            picture.parent.mkdir(parents=True, exist_ok=True)
            picture.write_bytes(encode(face.image, "image/jpeg", quality=80))
        part = "Validation_Set" if number % 4 == 3 else "Train_Set"
        if number % 3 != 1:
            _annotate(annotations / "AU_Detection_Challenge" / part, name, *_units(path))
        if number % 3 != 2:
            _annotate(annotations / "VA_Estimation_Challenge" / part, name, *_affect(path))
    return folder


def _share(state: State, share: float) -> State:
    return replace(state, intensities={au: share * v for au, v in state.intensities.items()})


def _units(states: Sequence[State]) -> tuple[str, list[str]]:
    codes = LABEL_SETS["affwild2"]
    rows = [
        ",".join(str(int(state.intensities.get(code, 0.0) >= SHOWN)) for code in codes)
        for state in states
    ]
    return ",".join(codes), rows


def _affect(states: Sequence[State]) -> tuple[str, list[str]]:
    rows = ["{:.3f},{:.3f}".format(*affect_of(state.intensities)) for state in states]
    return "valence,arousal", rows


def _annotate(folder: Path, video: str, header: str, rows: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{video}.txt").write_text("\n".join([header, *rows]) + "\n")


def main() -> None:
    """Draw all of them again, where they belong."""
    root = Path(__file__).parents[2]
    write(examples(448), root / "service" / "page" / "examples")
    write(units(160), root / "docs" / "pictures" / "units")
    write({"circle": circle(840)}, root / "docs" / "pictures")
    tiny_set(root / "docs" / "tiny-set")


if __name__ == "__main__":
    main()
