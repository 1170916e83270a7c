"""Light on surfaces: one pass over the pixels, linear light out. Shape letters: S side, A attributes, H x W skin sheet."""

from typing import Any

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[Any]  # float32
Ints = NDArray[np.int32]

# Attributes of a vertex: normal (camera frame), three coordinates by material, position (camera frame, metres).
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
            if materials[y, x] == 0:
                out[y, x] = _sample(furrows, buffer[y, x, 3], buffer[y, x, 4], 0)
    return out


@njit(cache=True, fastmath=True)
def _lit(shadow: Floats, frame: Floats, px: float, py: float, pz: float) -> float:
    """Share of the main light that reaches a place: nine looks at the shadow map, `frame[4, 0]` texels apart."""
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


@njit(cache=True, fastmath=True)
def shade(
    buffer: Floats,
    materials: Ints,
    furrow: Floats,
    occlusion: Floats,
    skin: Floats,
    strands: Floats,
    colours: Floats,
    lights: Floats,
    shadow: Floats,
    frame: Floats,
) -> Floats:
    """Linear RGB and cover (S, S, 4) of every pixel that something covers.

    buffer (S, S, A); materials (S, S), -1 where nothing is; furrow (S, S) depth; occlusion (S, S), 1 is open; skin (H, W, 4)
    colour and gloss; strands (h, w) noise in [0, 1]; colours (8, 3): hair, cloth, frame, iris, [iris angle, lashes, teeth],
    [furrow relief, tint of lenses, 0], hat and scarf, hand; lights (6, 3): towards the key, key, sky, ground, towards the fill,
    fill; shadow (D, D) depth that the key sees; frame (5, 3): right, up and forward of the key, [centre, scale, bias], [softness, 0, 0].
    """
    side = materials.shape[0]
    out = np.zeros((side, side, 4), np.float32)
    rows, columns = strands.shape
    key, fill = lights[0], lights[4]
    hx, hy, hz = key[0], key[1] - 1.0, key[2]  # half way between light and lens, for highlights
    length = np.sqrt(hx * hx + hy * hy + hz * hz) + 1e-6
    hx, hy, hz = hx / length, hy / length, hz / length
    albedo = np.zeros(4, np.float32)
    for y in range(side):
        for x in range(side):
            material = materials[y, x]
            if material < 0:
                continue
            pixel = buffer[y, x]
            nx, ny, nz = pixel[0], pixel[1], pixel[2]
            length = np.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9
            nx, ny, nz = nx / length, ny / length, nz / length
            u, v, w = pixel[3], pixel[4], pixel[5]
            gloss, power, wrap, inside, cover = 0.0, 12.0, 0.0, 0.0, 1.0
            open_ = occlusion[y, x]
            if material == 0:
                _sample_all(skin, u, v, albedo)
                gloss = 0.16 * albedo[3]
                power, wrap = 14.0, 0.22
                depth = furrow[y, x]
                if 0 < x < side - 1 and 0 < y < side - 1:
                    slope_x = 0.5 * (furrow[y, x + 1] - furrow[y, x - 1]) * colours[5, 0]
                    slope_y = 0.5 * (furrow[y + 1, x] - furrow[y - 1, x]) * colours[5, 0]
                    nx += max(-0.8, min(0.8, slope_x))
                    nz -= max(-0.8, min(0.8, slope_y))
                    length = np.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9
                    nx, ny, nz = nx / length, ny / length, nz / length
                depth = min(max(depth, -0.5), 1.6)
                albedo[0] *= 1.0 - 0.20 * depth
                albedo[1] *= 1.0 - 0.30 * depth
                albedo[2] *= 1.0 - 0.30 * depth
                open_ *= 1.0 - 0.22 * max(depth, 0.0)
                if w > 0:  # lashes
                    dark = min(1.0, 1.25 * w) * colours[4, 1]
                    for k in range(3):
                        albedo[k] = albedo[k] * (1 - 0.94 * dark) + 0.006 * dark
                    gloss *= 1 - dark
                elif w < 0:
                    inside = -w
                    for k in range(3):
                        albedo[k] = albedo[k] * (1 - inside) + inside * (0.16 if k == 0 else 0.035)
                    gloss *= 1 - inside
            elif material == 1:  # tongue
                albedo[0], albedo[1], albedo[2] = 0.50, 0.16, 0.15
                gloss, power, inside = 0.3, 20.0, 0.3
            elif material == 2:  # eye
                angle = np.arccos(min(max(-v / np.sqrt(u * u + v * v + w * w + 1e-9), -1.0), 1.0))
                radius = colours[4, 0]
                if angle < 0.40 * radius:
                    albedo[0] = albedo[1] = albedo[2] = 0.003
                elif angle < radius:
                    t = (angle / radius - 0.40) / 0.60
                    spoke = strands[int(t * 9) % rows, int((np.arctan2(w, u) + 3.2) * 30) % columns]
                    ring = (
                        (0.75 + 0.5 * t)
                        * (0.6 + 0.8 * spoke)
                        * (1.0 if t < 0.75 else 1.0 - 2.6 * (t - 0.75))
                    )
                    for k in range(3):
                        albedo[k] = colours[3, k] * 1.15 * ring
                else:
                    edge = min(max((angle - radius) / 0.07, 0.0), 1.0)
                    vein = min(max((angle - 0.5) / 0.6, 0.0), 1.0)
                    albedo[0] = 0.16 + 0.36 * edge - 0.08 * vein
                    albedo[1] = 0.14 + (0.33 - 0.15 * vein) * edge
                    albedo[2] = 0.14 + (0.31 - 0.13 * vein) * edge
                gloss, power, wrap = 1.5, 220.0, 0.15
                lid = min(max((nz - 0.02) / 0.25, 0.0), 1.0)  # the upper lid's shadow
                open_ *= 1.0 - 0.55 * lid
            elif material == 3:  # teeth and gums
                gap = abs(u - np.floor(u) - 0.5) * 2.0
                tooth = colours[4, 2] * (1.0 if gap < 0.86 else 0.72)
                albedo[0], albedo[1], albedo[2] = tooth, tooth * 0.94, tooth * 0.83
                if v > 0.74 + 0.12 * gap:
                    albedo[0], albedo[1], albedo[2] = 0.36, 0.13, 0.12
                back = 1.0 - 0.7 * min(abs(u) / 6.0, 1.0) ** 1.5
                for k in range(3):
                    albedo[k] *= back
                gloss, power, inside, wrap = 0.3, 60.0, 0.0, 0.2
                open_ = 0.35 + 0.65 * open_  # enamel lets light through
            elif material == 4:  # hair
                fine = _strand(strands, v * 0.12, abs(u) * 2.2)
                lock = _strand(strands, v * 0.03 + 17, abs(u) * 0.45 + 31)
                shine = 0.45 + 0.65 * fine + 0.5 * lock
                for k in range(3):
                    albedo[k] = colours[0, k] * shine
                gloss, power, wrap = 0.12 * shine * (0.3 + colours[0, 0]) + 0.02, 8.0, 0.3
                cover = min(
                    max((w + 5.0 * (fine - 0.5) + 7.0 * (lock - 0.5) - 1.0) / 6.0, 0.0), 1.0
                )
                open_ *= 0.45 + 0.55 * min(max(w / 14.0, 0.0), 1.0)
            elif material == 5:  # cloth
                weave = 0.88 + 0.24 * strands[int(abs(v) * 1.3) % rows, int(abs(u) * 1.3) % columns]
                for k in range(3):
                    albedo[k] = colours[1, k] * weave
                wrap = 0.12
            elif material == 8:  # hat or scarf: knitted
                weave = 0.8 + 0.4 * _strand(strands, abs(v) * 0.7, abs(u) * 0.9)
                for k in range(3):
                    albedo[k] = colours[6, k] * weave
                wrap = 0.2
                cover = min(max(w / 1.2, 0.0), 1.0)
            elif material == 9:  # hand
                for k in range(3):
                    albedo[k] = colours[7, k] * (
                        0.93 + 0.14 * strands[int(abs(v) * 3.0) % rows, int(abs(u) * 3.0) % columns]
                    )
                gloss, wrap = 0.1, 0.22
            elif material == 7:  # lens: a tint, and a sheen where it mirrors the light
                albedo[0] = albedo[1] = albedo[2] = 0.01
                gloss, power = 1.2, 90.0
                cover = colours[5, 1]
            else:  # frame of the glasses
                for k in range(3):
                    albedo[k] = colours[2, k]
                gloss, power = 0.8, 40.0
            facing = nx * key[0] + ny * key[1] + nz * key[2]
            filled = max(nx * fill[0] + ny * fill[1] + nz * fill[2], 0.0)
            lit, shine = 0.0, 0.0
            if (
                facing + 1.6 * wrap > 0
            ):  # elsewhere the main light does not arrive whatever its shadows
                lit = _lit(shadow, frame, pixel[6], pixel[7], pixel[8]) * (1.0 - 0.9 * inside)
            half = nx * hx + ny * hy + nz * hz
            if facing > 0 and lit > 0 and half > 0:
                graze = (1.0 - max(-ny, 0.0)) ** 4
                shine = gloss * (half**power) * lit * (1 + 2.0 * graze)
            ambient = open_ * (1.0 - 0.8 * inside)
            up = 0.5 + 0.5 * nz
            for k in range(3):
                soft = wrap * (
                    1.6 if k == 0 else (0.8 if k == 1 else 0.6)
                )  # red light travels furthest under the skin
                diffuse = max((facing + soft) / (1.0 + soft), 0.0) * (0.35 + 0.65 * open_)
                light = lights[1, k] * diffuse * lit + ambient * (
                    lights[2, k] * up + lights[3, k] * (1 - up) + lights[5, k] * filled
                )
                out[y, x, k] = (
                    albedo[k] * light + shine * lights[1, k] + 0.05 * gloss * ambient * lights[2, k]
                )
            out[y, x, 3] = cover
    return out


@njit(cache=True, fastmath=True)
def lay_over(picture: Floats, over: Floats) -> None:
    """Put (S, S, 4) colour and cover over a picture, in place: colour of `picture` is premultiplied, that of `over` is not."""
    side = picture.shape[0]
    for y in range(side):
        for x in range(side):
            cover = over[y, x, 3]
            if cover > 0:
                for k in range(3):
                    picture[y, x, k] = over[y, x, k] * cover + picture[y, x, k] * (1 - cover)
                picture[y, x, 3] = cover + picture[y, x, 3] * (1 - cover)


def occlusion(depth: Floats, wide_px: float, far: float) -> Floats:
    """(S, S) in [0, 1]: places deeper than what surrounds them get less of the sky. From depth alone, at half size.

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
