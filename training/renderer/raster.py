"""A z-buffer rasteriser: triangles in, one interpolated attribute vector per pixel out.

Shape letters: V vertices, T triangles, A attributes, S side in px. Interpolation is affine within a
triangle: a head's triangles are a few pixels wide, so the perspective error is far below a grey
level.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

EMPTY = np.float32(1e9)  # depth where nothing was drawn


@njit(cache=True, fastmath=True)
def rasterise(
    position: Floats, triangles: Ints, attributes: Floats, side: int, closed: int = 0
) -> tuple[Floats, Floats, Ints]:
    """Draw triangles (T, 3) over vertices at position (V, 3: x px, y px, depth, smaller is nearer)
    with attributes (V, A).

    The first `closed` triangles belong to closed surfaces: their far sides are hidden by their near
    sides, and left out. Returns depth (S, S), attributes (S, S, A) and the index of the nearest
    triangle (S, S), -1 where nothing is.
    """
    depth, index, weights = _nearest(position, triangles, side, closed)
    return depth, _interpolated(index, weights, triangles, attributes), index


@njit(cache=True, fastmath=True)
def _nearest(
    position: Floats, triangles: Ints, side: int, closed: int
) -> tuple[Floats, Ints, Floats]:
    """Depth (S, S) and index (S, S) of the nearest triangle, and where in it a pixel lies: the
    weights (S, S, 2) of its second and third corner.
    """
    depth = np.full((side, side), EMPTY, np.float32)
    index = np.full((side, side), -1, np.int32)
    weights = np.zeros((side, side, 2), np.float32)
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay = position[a, 0], position[a, 1]
        bx, by = position[b, 0] - ax, position[b, 1] - ay
        cx, cy = position[c, 0] - ax, position[c, 1] - ay
        area = bx * cy - by * cx
        if abs(area) < 1e-9 or (t < closed and area > 0):
            continue
        inverse = 1.0 / area
        left = max(0, int(np.ceil(ax + min(0.0, bx, cx) - 0.5)))
        right = min(side - 1, int(np.floor(ax + max(0.0, bx, cx) - 0.5)))
        top = max(0, int(np.ceil(ay + min(0.0, by, cy) - 0.5)))
        bottom = min(side - 1, int(np.floor(ay + max(0.0, by, cy) - 0.5)))
        za = position[a, 2]
        zb, zc = position[b, 2] - za, position[c, 2] - za
        for y in range(top, bottom + 1):
            py = y + 0.5 - ay
            for x in range(left, right + 1):
                px = x + 0.5 - ax
                u = (px * cy - py * cx) * inverse
                if u < -1e-5:
                    continue
                v = (bx * py - by * px) * inverse
                if v >= -1e-5 and u + v <= 1.00001:
                    z = za + u * zb + v * zc
                    if z < depth[y, x]:
                        depth[y, x] = z
                        index[y, x] = t
                        weights[y, x, 0] = u
                        weights[y, x, 1] = v
    return depth, index, weights


@njit(cache=True, fastmath=True)
def _interpolated(index: Ints, weights: Floats, triangles: Ints, attributes: Floats) -> Floats:
    """(S, S, A) attributes between the corners of each pixel's triangle."""
    side, width = index.shape[0], attributes.shape[1]
    buffer = np.zeros((side, side, width), np.float32)
    for y in range(side):
        for x in range(side):
            t = index[y, x]
            if t >= 0:
                a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                u, v = weights[y, x, 0], weights[y, x, 1]
                w = 1.0 - u - v
                for k in range(width):
                    buffer[y, x, k] = (
                        w * attributes[a, k] + u * attributes[b, k] + v * attributes[c, k]
                    )
    return buffer


@njit(cache=True, fastmath=True)
def shadow_depth(position: Floats, triangles: Ints, side: int, closed: int = 0) -> Floats:
    """Depth (S, S) alone: what the light sees. `closed` as in `rasterise`."""
    depth = np.full((side, side), EMPTY, np.float32)
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay, za = position[a, 0], position[a, 1], position[a, 2]
        bx, by, zb = position[b, 0] - ax, position[b, 1] - ay, position[b, 2] - za
        cx, cy, zc = position[c, 0] - ax, position[c, 1] - ay, position[c, 2] - za
        area = bx * cy - by * cx
        if abs(area) < 1e-9 or (t < closed and area > 0):
            continue
        inverse = 1.0 / area
        left = max(0, int(np.floor(ax + min(0.0, bx, cx))))
        right = min(side - 1, int(np.ceil(ax + max(0.0, bx, cx))))
        top = max(0, int(np.floor(ay + min(0.0, by, cy))))
        bottom = min(side - 1, int(np.ceil(ay + max(0.0, by, cy))))
        for y in range(top, bottom + 1):
            py = y + 0.5 - ay
            for x in range(left, right + 1):
                px = x + 0.5 - ax
                u = (px * cy - py * cx) * inverse
                v = (bx * py - by * px) * inverse
                if u >= -0.02 and v >= -0.02 and u + v <= 1.02:
                    z = za + u * zb + v * zc
                    if z < depth[y, x]:
                        depth[y, x] = z
    return depth


@njit(cache=True, fastmath=True)
def vertex_normals(vertices: Floats, triangles: Ints) -> Floats:
    """(V, 3) area-weighted unit normals."""
    normals = np.zeros_like(vertices)
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        e, f = vertices[b] - vertices[a], vertices[c] - vertices[a]
        x = e[1] * f[2] - e[2] * f[1]
        y = e[2] * f[0] - e[0] * f[2]
        z = e[0] * f[1] - e[1] * f[0]
        for i in (a, b, c):
            normals[i, 0] += x
            normals[i, 1] += y
            normals[i, 2] += z
    for i in range(len(normals)):
        length = np.sqrt(normals[i, 0] ** 2 + normals[i, 1] ** 2 + normals[i, 2] ** 2) + 1e-12
        normals[i] /= length
    return normals
