"""Skin, painted on the atlas once per person: tone, blood, lips, brows, beard shadow, freckles,
make-up. Linear RGB.
"""

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from training.renderer.atlas import HEIGHT, WIDTH, bump, load_atlas, noise, smooth, to_texels
from training.renderer.person import Brows, Colour, Person, linear

Floats = NDArray[Any]  # float32

# Skin in daylight for the ten steps of the Monk scale, sRGB: the scale's lightness with the chroma
# of real skin.
TONES = (
    (242, 212, 196),
    (236, 202, 182),
    (230, 190, 162),
    (218, 174, 142),
    (198, 150, 114),
    (166, 118, 84),
    (134, 92, 64),
    (104, 70, 49),
    (76, 51, 38),
    (54, 38, 30),
)


def paint(person: Person) -> Floats:
    """(H, W, 4) float32: linear RGB albedo and gloss (about 1)."""
    rng = np.random.default_rng([person.seed, 1])
    skin = _tone(person, rng)
    _blood(skin, person, rng)
    _spots(skin, person, rng)
    if person.eye_shadow:
        _blend(
            skin, np.clip(0.8 * person.eye_shadow * regions()["lid"], 0, 0.8), _eye_shadow(person)
        )
    _lips(skin, person, rng)
    _beard(skin, person, rng)
    _brows(skin, person.brows, rng)
    gloss = person.gloss * regions()["gloss"] * (1 + 0.07 * noise(rng, 8.0))
    return cv2.merge([*np.clip(skin, 0.003, 0.95), gloss.astype(np.float32)])


@lru_cache(maxsize=1)
def regions() -> dict[str, Floats]:
    """Where things are, (H, W) maps in [0, 1]."""
    atlas, lips = load_atlas(), _lip_map()
    x, z = np.abs(atlas.x), atlas.z
    freckled = bump(28, -28, 26, 20) + bump(0, -20, 14, 22) + 0.3 * bump(0, 40, 50, 25)
    mouth_line = smooth(2.2, 0.4, np.abs(z + 71.5)) * smooth(29, 25, x) * (atlas.y < 20)
    maps = {
        "lips": lips,
        "blood": np.clip(_blood_map(), 0, 1),
        "gloss": _gloss_map(lips),
        **_beard_maps(lips),
        "socket": bump(31, 3, 19, 12) * (1 - 0.5 * bump(31, -2, 12, 4)),
        "bags": bump(29, -12, 15, 6),
        "lid": bump(31, 8, 18, 6),
        "nostril": bump(8.0, -46.0, 4.2, 2.0),
        "freckled": np.clip(freckled, 0, 1),
        "mouth_line": mouth_line,
    }
    return {
        name: map_ if name == "lips" else map_.astype(np.float32) for name, map_ in maps.items()
    }


def _lip_map() -> Floats:
    atlas = load_atlas()
    x, z = np.abs(atlas.x), atlas.z
    upper = smooth(0, 1.2, z + 71.5) * smooth(
        1.2, -0.6, z - (-64.2 + 0.9 * np.exp(-(((x - 5) / 3.5) ** 2)) - 0.0125 * x**2)
    )
    lower = smooth(0.3, -0.6, z + 71.5) * smooth(-1.5, 0.8, z - (-83.0 + 0.021 * x**2))
    return np.asarray(np.clip(upper + lower, 0, 1) * smooth(26, 22, x) * (atlas.y < 20))


def _blood_map() -> Floats:
    """Where the skin is redder: cheeks, nose, ears, chin, round the eyes."""
    atlas = load_atlas()
    x, z = np.abs(atlas.x), atlas.z
    ears = smooth(72, 78, x) * smooth(-60, -50, z) * smooth(15, 5, z)
    return np.asarray(
        0.75 * bump(40, -38, 20, 16)
        + 0.8 * bump(0, -38, 11, 12)
        + 0.6 * ears
        + 0.35 * bump(0, -102, 14, 9)
        + 0.35 * bump(31, -6, 16, 8)
        + 0.25 * bump(18, -45, 6, 8)
    )


def _gloss_map(lips: Floats) -> Floats:
    """Where it shines: forehead, nose, cheekbones, chin, lips."""
    return np.asarray(
        0.55
        + 0.8 * bump(0, 40, 32, 22)
        + 0.9 * bump(0, -25, 7, 22)
        + 0.4 * bump(38, -25, 14, 10)
        + 0.4 * bump(0, -100, 12, 8)
        + 1.1 * lips
    )


def _beard_maps(lips: Floats) -> dict[str, Floats]:
    """Where a beard, a moustache and a chin beard grow."""
    atlas = load_atlas()
    x, z = np.abs(atlas.x), atlas.z
    front = smooth(75, 55, atlas.y)
    jaw = smooth(-56, -76, z + 0.30 * np.maximum(0, 45 - x)) * smooth(-128, -108, z) * front
    jaw = np.maximum(jaw, bump(68, -50, 11, 30) * smooth(-10, -30, z)) * (1 - lips)
    moustache = bump(11, -57, 15, 5.5) * smooth(-49, -53, z) * (1 - lips)
    tuft = np.maximum(bump(0, -103, 24, 15), 0.9 * bump(21, -87, 7, 16))
    chin = tuft * (1 - lips) * smooth(-72, -78, z)
    return {
        "jaw": np.clip(jaw, 0, 1),
        "moustache": np.clip(1.5 * moustache, 0, 1),
        "chin": np.clip(1.6 * chin, 0, 1),
    }


def tone(melanin: float) -> Floats:
    """(3,) linear albedo at a place between 1 and 10 on the Monk scale."""
    ramp = np.array([linear(colour) for colour in TONES], np.float32)
    return np.array(
        [np.interp(melanin, np.arange(1, 11), ramp[:, k]) for k in range(3)], np.float32
    )


# Below, `skin` is (3, H, W): a plane for each colour is painted several times as fast as pixels of
# three.


def _tone(person: Person, rng: Generator) -> Floats:
    """Base colour with blotches at two scales and pores."""
    warmth = rng.normal(0, 0.05, 3)
    mottle = 0.045 * noise(rng, 24.0) + 0.035 * noise(rng, 60.0)
    pores = (0.03 + 0.0006 * person.age) * noise(rng, 1.2) + 0.03 * noise(rng, 3.0)
    shade = np.exp((mottle + pores).astype(np.float32))
    return (tone(person.melanin) * np.exp(warmth)).astype(np.float32)[:, None, None] * shade


def _blood(skin: Floats, person: Person, rng: Generator) -> None:
    """Redness where vessels lie near the surface, darkness around the eyes and in the nostrils."""
    map_ = regions()
    light = np.interp(person.melanin, [1, 6, 10], [1.0, 0.7, 0.35])
    flow = (
        np.float32(0.55 * person.redness * light)
        * map_["blood"]
        * np.clip(1 + 0.35 * noise(rng, 8.0), 0.2, 2)
    )
    _darken(skin, flow, (0.03, 0.34, 0.30))
    tired = np.float32(rng.uniform(0.05, 0.3) + 0.002 * person.age)
    _darken(skin, tired * map_["bags"] + np.float32(0.22) * map_["socket"], (0.55, 0.75, 0.65))
    _darken(skin, map_["nostril"], (0.85, 0.85, 0.85))


def _spots(skin: Floats, person: Person, rng: Generator) -> None:
    """Freckles, moles and age spots."""
    if person.freckles:
        _darken(
            skin,
            smooth(1.3, 2.2, noise(rng, 3.0)) * regions()["freckled"],
            (0.3 * person.freckles, 0.45 * person.freckles, 0.55 * person.freckles),
        )
    if person.age > 55:
        _darken(
            skin,
            smooth(1.7, 2.3, noise(rng, 8.0)) * np.float32(0.01 * (person.age - 50)),
            (0.4, 0.5, 0.55),
        )
    dots = np.zeros((HEIGHT, WIDTH), np.float32)
    for _ in range(int(rng.poisson(2.0))):
        column, row = to_texels(rng.uniform(-60, 60, 1), rng.uniform(-110, 60, 1))[0]
        cv2.circle(
            dots,
            (int(column), int(row)),
            int(rng.integers(1, 3)),
            float(rng.uniform(0.3, 0.8)),
            -1,
            cv2.LINE_AA,
        )
    _darken(skin, dots, (0.9, 1.0, 1.0))


def _eye_shadow(person: Person) -> Floats:
    return tone(person.melanin) * np.random.default_rng(person.seed).uniform(0.15, 0.8, 3).astype(
        np.float32
    )


def _lips(skin: Floats, person: Person, rng: Generator) -> None:
    lips = regions()["lips"] * np.clip(1 + 0.08 * noise(rng, 3.0), 0.6, 1.3)
    natural = tone(person.melanin) * np.interp(person.melanin, [1, 6, 10], [0.80, 0.80, 1.05])
    natural = natural * np.array([0.98, 0.48, 0.52], np.float32) ** float(rng.uniform(0.6, 1.2))
    _blend(skin, 0.85 * lips, natural.astype(np.float32))
    if person.lipstick is not None:
        _blend(skin, 0.8 * lips, person.lipstick)
    _darken(skin, regions()["mouth_line"], (0.6, 0.6, 0.6))


def _beard(skin: Floats, person: Person, rng: Generator) -> None:
    beard, map_ = person.beard, regions()
    if not beard.stubble:
        return
    colour = np.array(beard.colour, np.float32)
    zone = np.clip(map_["jaw"] + map_["moustache"] + map_["chin"], 0, 1)
    shadow = np.float32(0.55 * beard.stubble) * zone * np.clip(0.75 + 0.25 * noise(rng, 1.2), 0, 1)
    _blend(skin, shadow, 0.5 * colour + 0.25 * tone(person.melanin))
    if not beard.moustache + beard.chin + beard.cheeks:
        return
    grown = np.clip(
        beard.moustache * map_["moustache"]
        + beard.chin * map_["chin"]
        + beard.cheeks * map_["jaw"],
        0,
        1,
    )
    hairs = np.clip(
        1.4 * smooth(0.2, 0.75, grown + 0.10 * noise(rng, 3.0)) * (0.85 + 0.15 * noise(rng, 1.2)),
        0,
        1,
    )
    _blend(
        skin,
        0.93 * hairs,
        colour,
        np.clip(1 + 0.35 * noise(rng, 1.2) + 0.25 * noise(rng, 3.0), 0.3, 2.5),
    )


def _brows(skin: Floats, brows: Brows, rng: Generator) -> None:
    """Strokes that fan from upright at the nose to flat at the temples."""
    cover = np.zeros((HEIGHT, WIDTH), np.float32)
    count = int(90 + 170 * brows.density)
    for side in (-1, 1):
        t = rng.uniform(0, 1, count) ** 0.9
        x = brows.gap_mm + t * (55 - brows.gap_mm)
        centre = (
            13.0
            + 4.0 * np.sin(np.pi * np.clip(t * 0.78, 0, 1))
            + brows.arch_mm * np.sin(np.pi * np.clip(t, 0, 1) ** 1.4) * 0.8
            - 3.0 * t**3
        )
        half = (
            0.5
            * brows.thickness_mm
            * np.clip(1.15 - 0.9 * t**2, 0.15, 1)
            * np.clip(0.55 + 4 * t, 0, 1)
        )
        z = centre + half * rng.uniform(-1, 1, count)
        lean = np.radians(np.interp(t, [0, 0.25, 1], [75, 30, -22])) + rng.normal(0, 0.2, count)
        length = rng.uniform(2.5, 5.0, count)
        start = to_texels(side * x, z) * 16
        end = to_texels(side * (x + length * np.cos(lean)), z + length * np.sin(lean)) * 16
        for a, b in zip(start.astype(int).tolist(), end.astype(int).tolist(), strict=True):
            cv2.line(cover, a, b, 1.0, 1, cv2.LINE_AA, 4)
    cover = np.clip(cv2.GaussianBlur(cover, (0, 0), 0.9) * 1.25, 0, 1) * np.float32(
        0.45 + 0.5 * brows.density
    )
    _blend(skin, cover, brows.colour)


def _darken(skin: Floats, amount: Floats, shares: tuple[float, float, float]) -> None:
    """Take a share of each colour away where `amount` (H, W) is 1."""
    for plane, share in zip(skin, shares, strict=True):
        plane *= 1 - np.float32(share) * amount


def _blend(
    skin: Floats, amount: Floats, colour: Colour | Floats, texture: Floats | float = 1.0
) -> None:
    """Paint over with a colour (3,), whose lightness may vary (H, W), where `amount` (H, W) is
    1.
    """
    for plane, value in zip(skin, colour, strict=True):
        plane += amount.astype(np.float32, copy=False) * (np.float32(value) * texture - plane)
