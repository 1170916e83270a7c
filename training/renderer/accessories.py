"""What people wear around the face, as meshes in metres: hair, hats, scarves, glasses, clothes, a
hand.

Parts and frame as in `parts`.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.renderer.atlas import AXIS_M, load_atlas, smooth
from training.renderer.geometry import SKIN, load_basis
from training.renderer.meshes import (
    CLOTH_MATERIAL,
    COVER_MATERIAL,
    FRAME_MATERIAL,
    HAIR_MATERIAL,
    HAND_MATERIAL,
    LENS_MATERIAL,
    Eyeballs,
    Part,
    grid_triangles,
    triangles_of,
    vertex_at,
)
from training.renderer.person import Cover, Glasses, Hair, Person
from training.renderer.raster import vertex_normals
from training.renderer.scene import Hand, Scarf

Floats = NDArray[Any]  # float32


def hair(person: Person, neutral: Floats) -> list[Part]:
    """A shell over the scalp and, for long hair, a curtain.

    Coordinates: column, row of the strands, mm inside the hairline.
    """
    style = person.hair
    if style.kind == "bald":
        return []
    basis = load_basis()
    inside = _inside_hairline(style)
    keep = (inside[basis.triangles] > -7).any(1) & (basis.part[basis.triangles[:, 0]] == SKIN)
    texel = load_atlas().coordinates
    rng = np.random.default_rng([person.seed, 2])
    phase = rng.uniform(0, 6.3, 6)
    wave = 1 + style.waves * 0.25 * (
        np.sin(texel[:, 0] * 0.09 + phase[0])
        + np.sin(texel[:, 1] * 0.11 + texel[:, 0] * 0.05 + phase[1])
    )
    high = smooth(0.02, 0.11, basis.mean[:, 2])
    lift = style.thickness * smooth(-2, 16, inside) * wave * (0.55 + 0.75 * high) + 0.0006
    normals = vertex_normals(neutral, basis.triangles)
    vertices = (neutral + lift[:, None] * normals).astype(np.float32)
    triangles = basis.triangles[keep]
    shell = Part(
        vertices,
        triangles,
        np.column_stack([texel, inside]).astype(np.float32),
        HAIR_MATERIAL,
        vertex_normals(vertices, triangles),
    )
    return [shell, *_curtain(rng, style, neutral)]


def _inside_hairline(style: Hair) -> Floats:
    """(V,) mm by which a vertex lies inside the hair, negative outside."""
    basis = load_basis()
    x, y, z = (basis.mean * 1000).T
    angle = np.abs(np.arctan2(x, AXIS_M * 1000 - y))
    top, temple = style.hairline_mm, style.hairline_mm - 12 + 1.2 * style.recession_mm
    line = np.interp(
        angle,
        [0, 0.5, 0.85, 1.05, 1.25, 1.45, 1.7, 2.2, 3.2],
        [top, temple, temple - 2, 34, 2, -4, -20, -75, -85],
    )
    if style.fringe_mm is not None:
        line = np.where(angle < 0.9, np.minimum(line, style.fringe_mm + 8 * angle), line)
    ear = (np.abs(x) > 72) & (z < 10) & (z > -60) & (y < 115)
    return np.where(ear, -20, z - line).astype(np.float32)


def _curtain(rng: np.random.Generator, style: Hair, neutral: Floats) -> list[Part]:
    """What hangs down behind and beside the face."""
    if style.length <= 0:
        return []
    start, count, levels = rng.uniform(0.95, 1.3), 49, 11
    phase, flare = rng.uniform(0, 6.3), rng.uniform(-0.006, 0.03)
    half_width = float(np.ptp(neutral[load_basis().part == SKIN][:, 0])) * 0.45
    angle = np.linspace(start, 2 * np.pi - start, count)
    top = 0.055
    grid, coordinates = [], []
    for level in np.linspace(0, 1, levels):
        z = top - level * (style.length + top)
        wave = 0.005 * style.waves * np.sin(11 * angle + 7 * level + phase)
        out = 0.5 * style.thickness + 0.003 + flare * level + wave
        rx, ry = half_width + out, 0.098 + out
        x, y = rx * np.sin(angle), AXIS_M + 0.014 - ry * np.cos(angle)
        grid.append(np.column_stack([x, y, np.full(count, z)]))
        ragged = 16 - 26 * max(0.0, level - 0.7) / 0.3
        down = np.full(count, 100 + level * 160)
        coordinates.append(np.column_stack([angle * 130, down, np.full(count, ragged)]))
    vertices = np.concatenate(grid).astype(np.float32)
    triangles = grid_triangles(levels, count)
    normals = _outwards(vertices, vertex_normals(vertices, triangles))
    texture = np.concatenate(coordinates).astype(np.float32)
    return [Part(vertices, triangles, texture, HAIR_MATERIAL, normals)]


def cover(style: Cover, neutral: Floats) -> list[Part]:
    """A hat or a headscarf: a shell over what it covers.

    Coordinates: column, row of the knitting, mm inside its edge.
    """
    basis = load_basis()
    x, y, z = (basis.mean * 1000).T
    angle = np.abs(np.arctan2(x, AXIS_M * 1000 - y))
    if style.kind == "hat":
        inside = z - np.interp(
            angle,
            [0, 1.2, 1.8, 3.2],
            [style.edge_mm, style.edge_mm - 8, style.edge_mm - 30, style.edge_mm - 50],
        )
    else:
        line = np.interp(
            angle, [0, 0.5, 0.85, 1.0], [style.edge_mm, style.edge_mm - 4, style.edge_mm - 22, 0]
        )
        inside = np.maximum(z - line, np.minimum((angle - 1.0) * 80, z + 150))
    keep = (inside[basis.triangles] > -6).any(1) & (basis.part[basis.triangles[:, 0]] == SKIN)
    lift = 0.001 * style.thickness_mm * smooth(-3, 3, inside) + 0.0012
    ears = (np.abs(x) > 68) & (z < 25) & (z > -65) & (y < 115)
    vertices = neutral + lift[:, None] * vertex_normals(neutral, basis.triangles)
    vertices[ears, 0] = np.sign(vertices[ears, 0]) * np.minimum(
        np.abs(vertices[ears, 0]) + 0.002, 0.078
    )  # pressed flat
    triangles = basis.triangles[keep]
    coordinates = np.column_stack([load_atlas().coordinates, inside]).astype(np.float32)
    shell = vertices.astype(np.float32)
    return [Part(shell, triangles, coordinates, COVER_MATERIAL, vertex_normals(shell, triangles))]


def scarf(style: Scarf, neutral: Floats) -> Part:
    """Wound around the neck. Coordinates: around, down, 100."""
    loop = neutral[_neck_loop()]
    middle_y = float(loop[:, 1].mean())
    chin = float(neutral[vertex_at(0, -108)][1])
    around = np.linspace(-np.pi, np.pi, 61)
    top = style.height_mm / 1000
    rings, coordinates = [], []
    for level in np.linspace(0, 1, 9):
        bulge = 0.010 * np.sin(np.pi * level) + 0.004 * np.sin(
            2 * np.pi * 2 * level + 3 * around + style.folds
        )
        rx, ry = 0.068 + 0.02 * level + bulge, middle_y - chin + 0.012 + 0.012 * level + bulge
        sag = 0.012 * np.sin(around + style.folds) + 0.02 * (1 - np.cos(around)) / 2
        rings.append(
            np.column_stack(
                [rx * np.sin(around), middle_y - ry * np.cos(around), top + sag - 0.085 * level]
            )
        )
        coordinates.append(
            np.column_stack(
                [around * 60, np.full_like(around, level * 60), np.full_like(around, 100)]
            )
        )
    vertices = np.concatenate(rings).astype(np.float32)
    triangles = grid_triangles(len(rings), len(around))
    normals = _outwards(vertices, vertex_normals(vertices, triangles))
    return Part(
        vertices, triangles, np.concatenate(coordinates).astype(np.float32), COVER_MATERIAL, normals
    )


def hand(pose: Hand, neutral: Floats) -> list[Part]:
    """Fingers that lie on the cheek or the jaw, and the back of the hand below them.

    Coordinates: along, around, 0.
    """
    lengths = (0.86, 1.0, 0.94, 0.76)
    found = []
    for k in range(pose.fingers):
        lean = pose.fan * (k - 0.5)
        tip_z = pose.top_mm - 62 * (1 - lengths[k])
        heights = np.linspace(tip_z, -150, 9)
        x = pose.x_mm + 15.5 * k + np.sin(lean) * (heights - tip_z) * -0.6
        front = np.array(
            [
                float(neutral[vertex_at(round(float(a)), round(float(max(b, -104.0))))][1])
                for a, b in zip(x, heights, strict=True)
            ]
        )
        front = np.minimum.accumulate(front[::-1])[::-1]
        path = np.column_stack([pose.side * x / 1000, front - 0.0055, heights / 1000])
        thickness = np.interp(np.arange(9), [0, 0.6, 3, 8], [0.0045, 0.0068, 0.0078, 0.0088])
        found.append(_finger(path, thickness))
    return found


def _finger(path: NDArray[np.floating], radius: Floats) -> Part:
    """A round tube along (N, 3) points with (N,) radii."""
    angle = np.linspace(0, 2 * np.pi, 11)
    ring = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    grid = path[:, None] + radius[:, None, None] * ring[None]
    normals = np.tile(ring, (len(path), 1)).astype(np.float32)
    normals[: len(angle)] += np.array([0, 0, 1.5], np.float32)  # the tip is round
    along = np.repeat(np.linspace(0, 60, len(path)), len(angle))
    coordinates = np.column_stack([along, np.tile(angle, len(path)), 0 * along]).astype(np.float32)
    return Part(
        grid.reshape(-1, 3).astype(np.float32),
        grid_triangles(len(path), len(angle)),
        coordinates,
        HAND_MATERIAL,
        normals,
    )


def glasses(frame: Glasses, neutral: Floats, balls: Eyeballs) -> list[Part]:
    """Two rims, a bridge and the temples. Coordinates are not used."""
    left, right = balls.centres
    y = float(neutral[vertex_at(0, 2)][1]) - 0.006
    z = float(left[2] + right[2]) / 2 - 0.003
    angle = np.linspace(0, 2 * np.pi, 41)
    power = frame.squareness
    radius = 1 / (np.abs(np.cos(angle)) ** power + np.abs(np.sin(angle)) ** power) ** (1 / power)
    parts = []
    for side, centre in ((1.0, left), (-1.0, right)):
        middle = side * max(abs(float(centre[0])), frame.width / 2 + 0.008)
        rim = np.column_stack(
            [
                middle + frame.width / 2 * radius * np.cos(angle),
                np.full(41, y),
                z + frame.height / 2 * radius * np.sin(angle),
            ]
        )
        rim[:, 1] += 0.9 * np.maximum(0, side * rim[:, 0] - 0.03) * 0.25
        end = side * (abs(middle) + frame.width / 2)
        temple = np.array(
            [
                [end, y + 0.006, z + 0.008],
                [side * 0.079, y + 0.035, z + 0.006],
                [side * 0.085, y + 0.11, z + 0.004],
            ]
        )
        parts += [_tube(rim, frame.rim), _tube(temple, max(frame.rim, 0.0012))]
    gap = max(abs(float(left[0])), frame.width / 2 + 0.008) - frame.width / 2
    bridge = np.array([[gap, y, z + 0.003], [0.0, y - 0.002, z + 0.006], [-gap, y, z + 0.003]])
    return [*parts, _tube(bridge, frame.rim)]


def lenses(rims: list[Part]) -> list[Part]:
    """The glass inside the first and third of the parts that `glasses` made.

    Coordinates are not used.
    """
    glass = []
    for rim in (rims[0], rims[2]):
        ring = rim.vertices.reshape(-1, 5, 3)[:, :4].mean(1)
        vertices = np.concatenate([ring, ring.mean(0, keepdims=True)]).astype(np.float32)
        around = np.arange(len(ring) - 1)
        triangles = np.column_stack([around, around + 1, np.full_like(around, len(ring))]).astype(
            np.int32
        )
        normals = (
            np.tile(np.array([0, -1, 0], np.float32), (len(vertices), 1))
            + (vertices - ring.mean(0)) * 8
        )  # a little curved
        glass.append(
            Part(
                vertices,
                triangles,
                np.zeros_like(vertices),
                LENS_MATERIAL,
                normals.astype(np.float32),
            )
        )
    return glass


# Of the clothes below the collar: how far down, and the radii from side to side and to the front.
SHOULDER_RINGS_M = (
    (0.030, 0.13, 0.075),
    (0.055, 0.185, 0.095),
    (0.10, 0.225, 0.115),
    (0.9, 0.27, 0.14),
)


def shoulders(neutral: Floats, collar: float) -> Part:
    """Clothes: from a ring around the neck out to the shoulders. Coordinates: around, down, 0."""
    loop = neutral[_neck_loop()]
    centre = loop.mean(0)
    around = np.linspace(-np.pi, np.pi, 45)
    place = np.arctan2(loop[:, 0] - centre[0], centre[1] - loop[:, 1])
    order = np.argsort(place)
    neck = np.column_stack(
        [np.interp(around, place[order], loop[order, k], period=2 * np.pi) for k in range(3)]
    )
    out = np.column_stack([np.sin(around), -np.cos(around), np.zeros_like(around)])
    open_front = 0.018 * (1 - collar) * np.clip(np.cos(around), 0, 1)
    rings = [
        neck + spread * out + np.column_stack([0 * around, 0 * around, rise - open_front])
        for rise, spread in ((0.010 + 0.02 * collar, 0.004), (0.004, 0.012), (-0.006, 0.026))
    ]
    for down, rx, ry in SHOULDER_RINGS_M:
        x, y = rx * np.sin(around), centre[1] + 0.01 - ry * np.cos(around)
        rings.append(np.column_stack([x, y, np.full_like(around, centre[2] - down)]))
    vertices = np.concatenate(rings).astype(np.float32)
    triangles = grid_triangles(len(rings), len(around))
    coordinates = np.concatenate(
        [
            np.column_stack([around * 60, np.full_like(around, k * 30.0), 0 * around])
            for k in range(len(rings))
        ]
    )
    return Part(
        vertices,
        triangles,
        coordinates.astype(np.float32),
        CLOTH_MATERIAL,
        _outwards(vertices, vertex_normals(vertices, triangles)),
    )


@lru_cache(maxsize=1)
def _neck_loop() -> NDArray[np.intp]:
    """The open edge at the neck's foot."""
    triangles = triangles_of(SKIN)
    edges = np.sort(np.concatenate([triangles[:, :2], triangles[:, 1:], triangles[:, ::2]]), axis=1)
    unique, count = np.unique(edges, axis=0, return_counts=True)
    return np.unique(unique[count == 1])


def _tube(path: NDArray[np.floating], radius: float) -> Part:
    """A tube of square section along (N, 3) points: thin enough that nobody counts its sides."""
    along = np.gradient(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-9
    side = np.cross(along, [0.0, 1.0, 0.0])
    side /= np.linalg.norm(side, axis=1, keepdims=True) + 1e-9
    deep = np.cross(along, side)
    offsets = [side - deep, side + deep, -side + deep, -side - deep, side - deep]
    grid = (
        np.stack([path + radius * offset for offset in offsets], axis=1)
        .reshape(-1, 3)
        .astype(np.float32)
    )
    normals = np.stack(offsets, axis=1).reshape(-1, 3).astype(np.float32) / np.float32(np.sqrt(2))
    return Part(
        grid,
        grid_triangles(len(path), 5),
        np.zeros((len(grid), 3), np.float32),
        FRAME_MATERIAL,
        normals,
    )


def _outwards(vertices: Floats, normals: Floats) -> Floats:
    inward = (
        (vertices - np.array([0, AXIS_M, vertices[:, 2].min() - 0.1], np.float32)) * normals
    ).sum(1) < 0
    normals[inward] *= -1
    return normals
