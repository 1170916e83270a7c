"""Pictures for people to look at: the page's six examples and the figures of the book."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from affect.images import encode
from training.renderer.expressions import EMOTIONS, State
from training.renderer.face import LOOSE, Framing, render_face
from training.renderer.person import Person, draw_person
from training.renderer.scene import Scene, draw_scene
from training.renderer.version import renderer_digest

Image = NDArray[np.uint8]

SEED = 77
STRENGTH = 0.9  # of an emotion: intensity of each of its Action Units
SHOWN_BY = 0.5  # share of people who must show an Action Unit for it to be drawn
HEAD = (0.0, 0.05, 0.72)  # placement of a portrait: nearly in the middle, large
GROUP = (24, 7, 11)  # the people of the picture of three
DIM = 0.2  # light of the picture that is too dark, in shares of its own


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
    singles = {"smile": 24, "surprise": 7, "anger": 11, "sadness": 21}
    emotions = {"smile": "happiness"}
    pictures = {
        name: portrait(*sitter(number), emotion(emotions.get(name, name)), size_px)
        for name, number in singles.items()
    }
    return pictures | {"three": _three(size_px), "dark": _dark(size_px)}


def portrait(
    person: Person, scene: Scene, state: State, size_px: int, framing: Framing = LOOSE
) -> Image:
    """(S, S, 3) RGB."""
    return render_face(person, scene, state, size_px=size_px, framing=framing).image


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


def _dark(size_px: int) -> Image:
    """A head that is turned away and hardly lit: a picture that should not be trusted."""
    person, scene = sitter(33)
    turned = replace(scene, yaw=0.6, pitch=-0.2)
    lit = portrait(person, turned, emotion("surprise", 0.6), size_px).astype(np.float32)
    noise = np.random.default_rng(SEED).normal(0, 4, lit.shape)
    return np.clip(DIM * lit + noise, 0, 255).astype(np.uint8)
