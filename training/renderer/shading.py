"""Light on surfaces: one pass over the pixels, linear light out.

Shape letters: S side, A attributes, H x W skin sheet.
"""

from typing import Any, NamedTuple

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

from training.renderer.meshes import (
    CLOTH_MATERIAL,
    COVER_MATERIAL,
    EYE_MATERIAL,
    HAIR_MATERIAL,
    HAND_MATERIAL,
    LENS_MATERIAL,
    SKIN_MATERIAL,
    TEETH_MATERIAL,
    TONGUE_MATERIAL,
)

Floats = NDArray[Any]  # float32
Ints = NDArray[np.int32]
Surface = tuple[float, float, float, float, float, float]

# Attributes of a vertex: normal (camera frame), three coordinates by material, position (camera
# frame, metres).
NORMAL, COORDINATE, POSITION, ATTRIBUTES = 0, 3, 6, 9


@njit(cache=True, fastmath=True)
def _sample(sheet: Floats, column: float, row: float, channel: int) -> float:
    height, width = sheet.shape[0], sheet.shape[1]
    cx, cy = min(max(column, 0.0), width - 1.001), min(max(row, 0.0), height - 1.001)
    ix, iy = int(cx), int(cy)
    fx, fy = cx - ix, cy - iy
    upper = sheet[iy, ix, channel] * (1 - fx) + sheet[iy, ix + 1, channel] * fx
    lower = sheet[iy + 1, ix, channel] * (1 - fx) + sheet[iy + 1, ix + 1, channel] * fx
    return float(upper * (1 - fy) + lower * fy)


@njit(cache=True, fastmath=True)
def _sample_all(sheet: Floats, column: float, row: float, out: Floats) -> None:
    """The four channels at once."""
    height, width = sheet.shape[0], sheet.shape[1]
    cx, cy = min(max(column, 0.0), width - 1.001), min(max(row, 0.0), height - 1.001)
    ix, iy = int(cx), int(cy)
    fx, fy = cx - ix, cy - iy
    a, b, c, d = (1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy
    for k in range(4):
        out[k] = (
            a * sheet[iy, ix, k]
            + b * sheet[iy, ix + 1, k]
            + c * sheet[iy + 1, ix, k]
            + d * sheet[iy + 1, ix + 1, k]
        )


@njit(cache=True, fastmath=True)
def _strand(strands: Floats, row: float, column: float) -> float:
    """Noise between two columns, so that a strand has no hard sides."""
    rows, columns = strands.shape
    y, x = int(row) % rows, int(column)
    share = column - x
    return float(strands[y, x % columns] * (1 - share) + strands[y, (x + 1) % columns] * share)


@njit(cache=True, fastmath=True)
def furrow_pixels(buffer: Floats, materials: Ints, furrows: Floats) -> Floats:
    """(S, S) depth of furrows on the skin seen at each pixel, from its sheet (H, W, 1)."""
    side = materials.shape[0]
    out = np.zeros((side, side), np.float32)
    for y in range(side):
        for x in range(side):
            if materials[y, x] == SKIN_MATERIAL:
                out[y, x] = _sample(furrows, buffer[y, x, 3], buffer[y, x, 4], 0)
    return out


@njit(cache=True, fastmath=True)
def _lit(shadow: Floats, frame: Floats, px: float, py: float, pz: float) -> float:
    """Share of the main light that reaches a place: nine looks at the shadow map, `frame[4, 0]`
    texels apart.
    """
    lx = px * frame[0, 0] + py * frame[0, 1] + pz * frame[0, 2]
    lz = px * frame[1, 0] + py * frame[1, 1] + pz * frame[1, 2]
    ly = px * frame[2, 0] + py * frame[2, 1] + pz * frame[2, 2]
    sx, sy = frame[3, 0] + lx * frame[3, 1], frame[3, 0] - lz * frame[3, 1]
    side = shadow.shape[0]
    lit = 0.0
    for dy in range(-1, 2):
        for dx in range(-1, 2):
            jx, jy = int(sx + frame[4, 0] * dx), int(sy + frame[4, 0] * dy)
            if not (0 <= jx < side and 0 <= jy < side and shadow[jy, jx] + frame[3, 2] < ly):
                lit += 1.0 / 9.0
    return lit


class Pixels(NamedTuple):
    """What is seen at each pixel of a picture of side S."""

    buffer: Floats  # (S, S, A) attributes
    materials: Ints  # (S, S), -1 where nothing is
    furrow: Floats  # (S, S) depth of furrows
    occlusion: Floats  # (S, S), 1 is open


class Paint(NamedTuple):
    """What surfaces are made of."""

    skin: Floats  # (H, W, 4) colour and gloss
    strands: Floats  # (h, w) noise in [0, 1]
    # (8, 3): hair, cloth, frame, iris, [iris angle, lashes, teeth], [furrow relief, tint of
    # lenses, 0], hat and scarf, hand
    colours: Floats


class Light(NamedTuple):
    """What shines on them."""

    lights: Floats  # (6, 3): towards the key, key, sky, ground, towards the fill, fill
    shadow: Floats  # (D, D) depth that the key sees
    # (5, 3): right, up and forward of the key, [centre, scale, bias], [softness, 0, 0]
    frame: Floats


# -- surfaces --------------------------------------------------------------------------------------
# Each writes its colour into `albedo` and returns gloss, its power, how far light wraps around, how
# much of it is inside the mouth, cover, and how open to the sky it is. `place` are its coordinates.


@njit(cache=True, fastmath=True, inline="always")
def _skin(albedo: Floats, depth: float, w: float, open_: float, lashes: float) -> Surface:
    """Skin under furrows of a depth, with lashes (w > 0) or the inside of the mouth (w < 0)."""
    gloss, inside = 0.16 * albedo[3], 0.0
    depth = min(max(depth, -0.5), 1.6)
    albedo[0] *= 1.0 - 0.20 * depth
    albedo[1] *= 1.0 - 0.30 * depth
    albedo[2] *= 1.0 - 0.30 * depth
    open_ *= 1.0 - 0.22 * max(depth, 0.0)
    if w > 0:
        dark = min(1.0, 1.25 * w) * lashes
        for k in range(3):
            albedo[k] = albedo[k] * (1 - 0.94 * dark) + 0.006 * dark
        gloss *= 1 - dark
    elif w < 0:
        inside = -w
        for k in range(3):
            albedo[k] = albedo[k] * (1 - inside) + inside * (0.16 if k == 0 else 0.035)
        gloss *= 1 - inside
    return gloss, 14.0, 0.22, inside, 1.0, open_


@njit(cache=True, fastmath=True, inline="always")
def _tongue(albedo: Floats, open_: float) -> Surface:
    albedo[0], albedo[1], albedo[2] = 0.50, 0.16, 0.15
    return 0.3, 20.0, 0.0, 0.3, 1.0, open_


@njit(cache=True, fastmath=True, inline="always")
def _eye(
    albedo: Floats, place: tuple[float, float, float], nz: float, open_: float, paint: Paint
) -> Surface:
    """Pupil, iris with its spokes, white with its veins, under the upper lid's shadow."""
    u, v, w = place
    rows, columns = paint.strands.shape
    angle = np.arccos(min(max(-v / np.sqrt(u * u + v * v + w * w + 1e-9), -1.0), 1.0))
    radius = paint.colours[4, 0]
    if angle < 0.40 * radius:
        albedo[0] = albedo[1] = albedo[2] = 0.003
    elif angle < radius:
        t = (angle / radius - 0.40) / 0.60
        spoke = paint.strands[int(t * 9) % rows, int((np.arctan2(w, u) + 3.2) * 30) % columns]
        rim = 1.0 if t < 0.75 else 1.0 - 2.6 * (t - 0.75)
        ring = (0.75 + 0.5 * t) * (0.6 + 0.8 * spoke) * rim
        for k in range(3):
            albedo[k] = paint.colours[3, k] * 1.15 * ring
    else:
        edge = min(max((angle - radius) / 0.07, 0.0), 1.0)
        vein = min(max((angle - 0.5) / 0.6, 0.0), 1.0)
        albedo[0] = 0.16 + 0.36 * edge - 0.08 * vein
        albedo[1] = 0.14 + (0.33 - 0.15 * vein) * edge
        albedo[2] = 0.14 + (0.31 - 0.13 * vein) * edge
    lid = min(max((nz - 0.02) / 0.25, 0.0), 1.0)
    return 1.5, 220.0, 0.15, 0.0, 1.0, open_ * (1.0 - 0.55 * lid)


@njit(cache=True, fastmath=True, inline="always")
def _teeth(albedo: Floats, u: float, v: float, open_: float, tooth: float) -> Surface:
    """Teeth with gaps between them, and gums; enamel lets light through."""
    gap = abs(u - np.floor(u) - 0.5) * 2.0
    tooth = tooth * (1.0 if gap < 0.86 else 0.72)
    albedo[0], albedo[1], albedo[2] = tooth, tooth * 0.94, tooth * 0.83
    if v > 0.74 + 0.12 * gap:
        albedo[0], albedo[1], albedo[2] = 0.36, 0.13, 0.12
    back = 1.0 - 0.7 * min(abs(u) / 6.0, 1.0) ** 1.5
    for k in range(3):
        albedo[k] *= back
    return 0.3, 60.0, 0.2, 0.0, 1.0, 0.35 + 0.65 * open_


@njit(cache=True, fastmath=True, inline="always")
def _hair(albedo: Floats, place: tuple[float, float, float], open_: float, paint: Paint) -> Surface:
    u, v, w = place
    fine = _strand(paint.strands, v * 0.12, abs(u) * 2.2)
    lock = _strand(paint.strands, v * 0.03 + 17, abs(u) * 0.45 + 31)
    shine = 0.45 + 0.65 * fine + 0.5 * lock
    for k in range(3):
        albedo[k] = paint.colours[0, k] * shine
    gloss = 0.12 * shine * (0.3 + paint.colours[0, 0]) + 0.02
    cover = min(max((w + 5.0 * (fine - 0.5) + 7.0 * (lock - 0.5) - 1.0) / 6.0, 0.0), 1.0)
    return gloss, 8.0, 0.3, 0.0, cover, open_ * (0.45 + 0.55 * min(max(w / 14.0, 0.0), 1.0))


@njit(cache=True, fastmath=True, inline="always")
def _cloth(albedo: Floats, u: float, v: float, open_: float, paint: Paint) -> Surface:
    rows, columns = paint.strands.shape
    weave = 0.88 + 0.24 * paint.strands[int(abs(v) * 1.3) % rows, int(abs(u) * 1.3) % columns]
    for k in range(3):
        albedo[k] = paint.colours[1, k] * weave
    return 0.0, 12.0, 0.12, 0.0, 1.0, open_


@njit(cache=True, fastmath=True, inline="always")
def _knitted(
    albedo: Floats, place: tuple[float, float, float], open_: float, paint: Paint
) -> Surface:
    """Hat or scarf."""
    u, v, w = place
    weave = 0.8 + 0.4 * _strand(paint.strands, abs(v) * 0.7, abs(u) * 0.9)
    for k in range(3):
        albedo[k] = paint.colours[6, k] * weave
    return 0.0, 12.0, 0.2, 0.0, min(max(w / 1.2, 0.0), 1.0), open_


@njit(cache=True, fastmath=True, inline="always")
def _hand(albedo: Floats, u: float, v: float, open_: float, paint: Paint) -> Surface:
    rows, columns = paint.strands.shape
    for k in range(3):
        albedo[k] = paint.colours[7, k] * (
            0.93 + 0.14 * paint.strands[int(abs(v) * 3.0) % rows, int(abs(u) * 3.0) % columns]
        )
    return 0.1, 12.0, 0.22, 0.0, 1.0, open_


@njit(cache=True, fastmath=True, inline="always")
def _lens(albedo: Floats, open_: float, tint: float) -> Surface:
    """A tint, and a sheen where it mirrors the light."""
    albedo[0] = albedo[1] = albedo[2] = 0.01
    return 1.2, 90.0, 0.0, 0.0, tint, open_


@njit(cache=True, fastmath=True, inline="always")
def _frame(albedo: Floats, open_: float, paint: Paint) -> Surface:
    """Of glasses."""
    for k in range(3):
        albedo[k] = paint.colours[2, k]
    return 0.8, 40.0, 0.0, 0.0, 1.0, open_


@njit(cache=True, fastmath=True, inline="always")
def _other(
    material: int,
    albedo: Floats,
    place: tuple[float, float, float],
    open_: float,
    paint: Paint,
) -> Surface:
    """Surfaces whose look does not depend on where they face."""
    u, v, _ = place
    if material == TONGUE_MATERIAL:
        return _tongue(albedo, open_)
    if material == TEETH_MATERIAL:
        return _teeth(albedo, u, v, open_, paint.colours[4, 2])
    if material == HAIR_MATERIAL:
        return _hair(albedo, place, open_, paint)
    if material == CLOTH_MATERIAL:
        return _cloth(albedo, u, v, open_, paint)
    if material == COVER_MATERIAL:
        return _knitted(albedo, place, open_, paint)
    if material == HAND_MATERIAL:
        return _hand(albedo, u, v, open_, paint)
    if material == LENS_MATERIAL:
        return _lens(albedo, open_, paint.colours[5, 1])
    return _frame(albedo, open_, paint)


# -- light on them ---------------------------------------------------------------------------------


@njit(cache=True, fastmath=True, inline="always")
def _unit(x: float, y: float, z: float, least: float) -> tuple[float, float, float]:
    length = np.sqrt(x * x + y * y + z * z) + least
    return x / length, y / length, z / length


@njit(cache=True, fastmath=True, inline="always")
def _furrowed(
    furrow: Floats, y: int, x: int, normal: tuple[float, float, float], relief: float
) -> tuple[float, float, float]:
    """The normal of skin, tilted by the slope of its furrows."""
    nx, ny, nz = normal
    side = furrow.shape[0]
    if not (0 < x < side - 1 and 0 < y < side - 1):
        return nx, ny, nz
    slope_x = 0.5 * (furrow[y, x + 1] - furrow[y, x - 1]) * relief
    slope_y = 0.5 * (furrow[y + 1, x] - furrow[y - 1, x]) * relief
    nx += max(-0.8, min(0.8, slope_x))
    nz -= max(-0.8, min(0.8, slope_y))
    return _unit(nx, ny, nz, 1e-9)


@njit(cache=True, fastmath=True, inline="always")
def _light_up(
    out: Floats,
    albedo: Floats,
    surface: Surface,
    geometry: tuple[tuple[float, float, float], tuple[float, float, float], Floats],
    light: Light,
) -> None:
    """Linear RGB and cover (4,) of one pixel; `geometry` is its normal, the half-way vector and the
    pixel's attributes.
    """
    gloss, power, wrap, inside, cover, open_ = surface
    (nx, ny, nz), (hx, hy, hz), pixel = geometry
    lights = light.lights
    facing = nx * lights[0, 0] + ny * lights[0, 1] + nz * lights[0, 2]
    filled = max(nx * lights[4, 0] + ny * lights[4, 1] + nz * lights[4, 2], 0.0)
    lit, shine = 0.0, 0.0
    # elsewhere the main light does not arrive whatever its shadows
    if facing + 1.6 * wrap > 0:
        place = _lit(light.shadow, light.frame, pixel[6], pixel[7], pixel[8])
        lit = place * (1.0 - 0.9 * inside)
    half = nx * hx + ny * hy + nz * hz
    if facing > 0 and lit > 0 and half > 0:
        graze = (1.0 - max(-ny, 0.0)) ** 4
        shine = gloss * (half**power) * lit * (1 + 2.0 * graze)
    ambient = open_ * (1.0 - 0.8 * inside)
    up = 0.5 + 0.5 * nz
    for k in range(3):
        # red light travels furthest under the skin
        soft = wrap * (1.6 if k == 0 else (0.8 if k == 1 else 0.6))
        diffuse = max((facing + soft) / (1.0 + soft), 0.0) * (0.35 + 0.65 * open_)
        around = lights[2, k] * up + lights[3, k] * (1 - up) + lights[5, k] * filled
        arriving = lights[1, k] * diffuse * lit + ambient * around
        sheen = shine * lights[1, k] + 0.05 * gloss * ambient * lights[2, k]
        out[k] = albedo[k] * arriving + sheen
    out[3] = cover


@njit(cache=True, fastmath=True)
def shade(pixels: Pixels, paint: Paint, light: Light) -> Floats:
    """Linear RGB and cover (S, S, 4) of every pixel that something covers."""
    side = pixels.materials.shape[0]
    out = np.zeros((side, side, 4), np.float32)
    key = light.lights[0]
    half = _unit(key[0], key[1] - 1.0, key[2], 1e-6)  # between light and lens, for highlights
    albedo = np.zeros(4, np.float32)
    for y in range(side):
        for x in range(side):
            material = pixels.materials[y, x]
            if material < 0:
                continue
            pixel, open_ = pixels.buffer[y, x], pixels.occlusion[y, x]
            normal = _unit(pixel[0], pixel[1], pixel[2], 1e-9)
            place = (pixel[3], pixel[4], pixel[5])
            if material == SKIN_MATERIAL:
                _sample_all(paint.skin, place[0], place[1], albedo)
                normal = _furrowed(pixels.furrow, y, x, normal, paint.colours[5, 0])
                lashes = paint.colours[4, 1]
                surface = _skin(albedo, pixels.furrow[y, x], place[2], open_, lashes)
            elif material == EYE_MATERIAL:
                surface = _eye(albedo, place, normal[2], open_, paint)
            else:
                surface = _other(material, albedo, place, open_, paint)
            _light_up(out[y, x], albedo, surface, (normal, half, pixel), light)
    return out


@njit(cache=True, fastmath=True)
def lay_over(picture: Floats, over: Floats) -> None:
    """Put (S, S, 4) colour and cover over a picture, in place: colour of `picture` is
    premultiplied, that of `over` is not.
    """
    side = picture.shape[0]
    for y in range(side):
        for x in range(side):
            cover = over[y, x, 3]
            if cover > 0:
                for k in range(3):
                    picture[y, x, k] = over[y, x, k] * cover + picture[y, x, k] * (1 - cover)
                picture[y, x, 3] = cover + picture[y, x, 3] * (1 - cover)


def occlusion(depth: Floats, wide_px: float, far: float) -> Floats:
    """(S, S) in [0, 1]: places deeper than what surrounds them get less of the sky.

    From depth alone, at half size.

    `far` is the depth in metres, as from the lens, at which what is behind counts as lying.
    """
    filled = np.minimum(
        cv2.resize(depth, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_NEAREST), np.float32(far)
    )
    sizes = (
        int(wide_px) | 1,
        int(0.3 * wide_px) | 1,
    )  # three boxes make a bell of about half a box's width
    wide, near = (cv2.blur(cv2.blur(cv2.blur(filled, (k, k)), (k, k)), (k, k)) for k in sizes)
    open_ = np.clip(
        1 - (np.maximum(filled - wide, 0) * 15 + np.maximum(filled - near, 0) * 45), 0.15, 1
    )
    return np.asarray(cv2.resize(open_, depth.shape[::-1], interpolation=cv2.INTER_LINEAR))
