"""Light on surfaces: one pass over the pixels, linear light out. Shape letters: S side, A attributes, H x W texture."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from training.render.raster import EMPTY

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

# Attributes of a vertex, in the camera's frame (x right in the picture, y away from the lens, z up).
NORMAL, COORDINATE, POSITION, INSIDE = 0, 3, 5, 8
ATTRIBUTES = 9


@njit(cache=True, fastmath=True)  # type: ignore[untyped-decorator]
def shade(
    buffer: Floats,
    materials: Ints,
    occlusion: Floats,
    texture: Floats,
    strands: Floats,
    colours: Floats,
    lights: Floats,
    gaze: Floats,
    shadow: Floats,
    shadow_frame: Floats,
) -> Floats:
    """Linear RGB (S, S, 3) of every covered pixel.

    buffer (S, S, A); materials (S, S), -1 where nothing is; occlusion (S, S) in [0, 1]; texture (H, W, 3) of the skin;
    strands (h, w) noise; colours (8, 3): hair, cloth, frame, iris, [iris radius, gloss, 0]...; lights (6, 3): direction to
    the key, key, sky, ground, fill, camera's up; gaze (2, 3) unit vectors of left and right eye; shadow (D, D) depth seen
    from the light; shadow_frame (4, 3): right, up, forward of the light, and [centre, scale, bias].
    """
    side = materials.shape[0]
    out = np.zeros((side, side, 3), np.float32)
    height, width = texture.shape[0], texture.shape[1]
    cells_y, cells_x = strands.shape
    depth_side = shadow.shape[0]
    key = lights[0]
    # Half way between light and lens, for highlights.
    hx, hy, hz = key[0], key[1] - 1.0, key[2]
    length = np.sqrt(hx * hx + hy * hy + hz * hz) + 1e-6
    hx, hy, hz = hx / length, hy / length, hz / length
    albedo = np.zeros(3, np.float32)
    for y in range(side):
        for x in range(side):
            material = materials[y, x]
            if material < 0:
                continue
            pixel = buffer[y, x]
            nx, ny, nz = pixel[0], pixel[1], pixel[2]
            length = np.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9
            nx, ny, nz = nx / length, ny / length, nz / length
            u, v = pixel[3], pixel[4]
            inside = pixel[8]
            gloss, power, wrap = 0.0, 12.0, 0.0
            if material == 0 or material == 1:  # skin, tongue
                if material == 0:
                    cx = min(max(u, 0.0), width - 1.001)
                    cy = min(max(v, 0.0), height - 1.001)
                    ix, iy = int(cx), int(cy)
                    fx, fy = cx - ix, cy - iy
                    for k in range(3):
                        upper = texture[iy, ix, k] * (1 - fx) + texture[iy, ix + 1, k] * fx
                        lower = texture[iy + 1, ix, k] * (1 - fx) + texture[iy + 1, ix + 1, k] * fx
                        albedo[k] = upper * (1 - fy) + lower * fy
                    gloss = colours[4, 1]
                    wrap = 0.22
                else:
                    albedo[0], albedo[1], albedo[2] = 0.35, 0.10, 0.09
                    gloss = 0.25
                    inside = 0.45
                if inside > 0.01:
                    dark = 1.0 - 0.86 * inside
                    albedo[0] = albedo[0] * (1 - inside) + 0.22 * inside * dark
                    albedo[1] = albedo[1] * (1 - inside) + 0.05 * inside * dark
                    albedo[2] = albedo[2] * (1 - inside) + 0.045 * inside * dark
                    gloss = gloss * (1 - inside)
            elif material == 2:  # eye: by the angle between the surface and the gaze
                which = 0 if pixel[5] > colours[5, 0] else 1
                toward = nx * gaze[which, 0] + ny * gaze[which, 1] + nz * gaze[which, 2]
                angle = np.arccos(min(max(toward, -1.0), 1.0))
                radius = colours[4, 0]
                if angle < 0.40 * radius:
                    albedo[0] = albedo[1] = albedo[2] = 0.004
                elif angle < radius:
                    ring = 1.0 if angle < 0.82 * radius else 0.35
                    ray = 0.8 + 0.4 * strands[int(angle * 90) % cells_y, int(abs(nx * 71 + nz * 53) * 20) % cells_x]
                    for k in range(3):
                        albedo[k] = colours[3, k] * ring * ray
                else:
                    edge = min(max((angle - radius) / 0.12, 0.0), 1.0)
                    vein = min(max((angle - 0.55) / 0.6, 0.0), 1.0)
                    albedo[0] = 0.35 + 0.32 * edge
                    albedo[1] = 0.33 + (0.30 - 0.10 * vein) * edge
                    albedo[2] = 0.33 + (0.29 - 0.09 * vein) * edge
                gloss, power, wrap = 1.6, 160.0, 0.1
            elif material == 3:  # teeth and gums
                gap = abs(u - np.floor(u) - 0.5) * 2.0
                tooth = 0.62 if gap < 0.9 else 0.42
                albedo[0], albedo[1], albedo[2] = tooth, tooth * 0.94, tooth * 0.82
                if v > 0.78:
                    albedo[0], albedo[1], albedo[2] = 0.34, 0.12, 0.11
                shade_back = 1.0 - 0.55 * min(abs(u) / 5.5, 1.0) ** 1.5
                for k in range(3):
                    albedo[k] *= shade_back
                gloss, power = 0.35, 60.0
            elif material == 4:  # hair
                strand = strands[int(v * 0.25) % cells_y, int(u * 3.0) % cells_x]
                amount = 0.55 + 0.75 * strand
                for k in range(3):
                    albedo[k] = colours[0, k] * amount
                gloss, power, wrap = 0.10 * amount, 9.0, 0.35
            elif material == 5:  # cloth
                weave = 0.9 + 0.2 * strands[int(abs(v) * 1.0) % cells_y, int(abs(u) * 1.0) % cells_x]
                for k in range(3):
                    albedo[k] = colours[1, k] * weave
                wrap = 0.15
            else:  # frame
                for k in range(3):
                    albedo[k] = colours[2, k]
                gloss, power = 0.7, 40.0
            # Is the key light seen from here? Four neighbours soften the edge.
            lx = pixel[5] * shadow_frame[0, 0] + pixel[6] * shadow_frame[0, 1] + pixel[7] * shadow_frame[0, 2]
            lz = pixel[5] * shadow_frame[1, 0] + pixel[6] * shadow_frame[1, 1] + pixel[7] * shadow_frame[1, 2]
            ly = pixel[5] * shadow_frame[2, 0] + pixel[6] * shadow_frame[2, 1] + pixel[7] * shadow_frame[2, 2]
            sx = shadow_frame[3, 0] + lx * shadow_frame[3, 1]
            sy = shadow_frame[3, 0] - lz * shadow_frame[3, 1]
            lit = 0.0
            for dy in range(-1, 2):
                for dx in range(-1, 2):
                    jx, jy = int(sx + 0.9 * dx), int(sy + 0.9 * dy)
                    seen = 1.0
                    if 0 <= jx < depth_side and 0 <= jy < depth_side and shadow[jy, jx] + shadow_frame[3, 2] < ly:
                        seen = 0.0
                    lit += seen / 9.0
            lit *= 1.0 - 0.92 * inside
            facing = nx * key[0] + ny * key[1] + nz * key[2]
            up = 0.5 + 0.5 * nz
            front = max(-ny, 0.0)
            half = max(nx * hx + ny * hy + nz * hz, 0.0)
            shine = gloss * half**power * lit * (1.0 if facing > 0 else 0.0)
            ambient = occlusion[y, x] * (1.0 - 0.75 * inside)
            for k in range(3):
                soft = wrap * (1.6 if k == 0 else (0.8 if k == 1 else 0.6))  # red light travels furthest under the skin
                diffuse = max((facing + soft) / (1.0 + soft), 0.0)
                light = (
                    lights[1, k] * diffuse * lit + ambient * (lights[2, k] * up + lights[3, k] * (1 - up)) + ambient * lights[4, k] * front
                )
                out[y, x, k] = albedo[k] * light + shine * lights[1, k] * 0.35
    return out


def occlusion(depth: Floats, sigma_px: float) -> Floats:
    """(S, S) in [0, 1]: places deeper than their surroundings get less of the sky. From depth alone."""
    import cv2

    far = np.float32(np.median(depth[depth < EMPTY])) + np.float32(0.12) if (depth < EMPTY).any() else np.float32(1)
    filled = np.where(depth < EMPTY, depth, far).astype(np.float32)
    wide, near = (cv2.GaussianBlur(filled, (0, 0), s) for s in (sigma_px, max(sigma_px * 0.3, 0.5)))
    deeper = np.maximum(filled - wide, 0) * 16 + np.maximum(filled - near, 0) * 45
    return np.clip(1 - deeper, 0.15, 1).astype(np.float32)
