"""What the head model lacks, as meshes in metres: eyeballs, teeth, hair, glasses, shoulders.

Each part is vertices (V, 3), triangles (T, 3), coordinates (V, 2) that the shader reads by material, and the material.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from training.faces.skin import AXIS_Y, hollow, texel_of_vertices
from training.faces.subject import Person
from training.render.geometry import LEFT_EYE, RIGHT_EYE, SKIN, Basis, load_basis
from training.render.raster import vertex_normals

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

SKIN_MATERIAL, TONGUE_MATERIAL, EYE_MATERIAL, TEETH_MATERIAL, HAIR_MATERIAL, CLOTH_MATERIAL, FRAME_MATERIAL = range(7)
EYE_INSET = 0.0008  # metres the eyeball sits behind the lids, so that closed lids cover it


@dataclass(frozen=True)
class Mesh:
    """One part in metres."""

    vertices: Floats
    triangles: Ints
    coordinates: Floats
    material: int
    inside: Floats | None = None  # (V,) how hollow the place is


def eye_centres(vertices: Floats) -> Floats:
    """(2, 3) centres of the subject's left and right eyeball."""
    part = load_basis().part
    left, right = vertices[part == LEFT_EYE], vertices[part == RIGHT_EYE]
    centres = np.stack([0.5 * (eye.min(0) + eye.max(0)) for eye in (left, right)])
    centres[1, 1] = centres[0, 1]  # the right one has only its front half
    return centres.astype(np.float32)


def head(vertices: Floats) -> list[Mesh]:
    """Skin and tongue."""
    basis = load_basis()
    skin = basis.part[basis.triangles[:, 0]] == SKIN
    tongue = basis.part[basis.triangles[:, 0]] == 1
    return [
        Mesh(vertices, basis.triangles[skin], texel_of_vertices(), SKIN_MATERIAL, hollow()),
        Mesh(vertices, basis.triangles[tongue], texel_of_vertices(), TONGUE_MATERIAL, np.ones(len(vertices), np.float32)),
    ]


def eyes(vertices: Floats) -> list[Mesh]:
    """Two spheres."""
    part = load_basis().part
    unit, triangles = _sphere(12, 20)
    meshes = []
    for centre, name in zip(eye_centres(vertices), (LEFT_EYE, RIGHT_EYE), strict=True):
        radius = 0.5 * float(np.ptp(vertices[part == name][:, 0])) - EYE_INSET
        meshes.append(Mesh(centre + radius * unit, triangles, np.zeros((len(unit), 2), np.float32), EYE_MATERIAL))
    return meshes


def teeth(neutral: Floats, jaw: Floats) -> list[Mesh]:
    """Upper teeth fixed to the skull, lower teeth moved by `jaw` (3,) metres; set by the neutral lips."""
    upper_lip, lower_lip = neutral[_vertex_at(0, -70.0)], neutral[_vertex_at(0, -73.0)]
    line = 0.5 * (upper_lip + lower_lip)
    front = line[1] + 0.0055
    upper = _arch(front, line[2] + 0.0022, 0.0105, 0.026)
    lower = _arch(front + 0.002, line[2] - 0.0010, -0.0095, 0.0235)
    lower = Mesh((lower.vertices + jaw).astype(np.float32), lower.triangles, lower.coordinates, TEETH_MATERIAL)
    return [upper, lower]


def hair(person: Person, vertices: Floats, normals: Floats) -> list[Mesh]:
    """A shell over the scalp, and for long hair a curtain round the back and sides."""
    if person.hair_style == "bald":
        return []
    thickness = person.hair_thickness * {"cropped": 0.35, "short": 1.0, "long": 1.0}[person.hair_style]
    amount = _scalp(person)
    basis = load_basis()
    keep = (amount[basis.triangles] > 0).any(1) & (basis.part[basis.triangles[:, 0]] == SKIN)
    rng = np.random.default_rng(person.seed + 1)
    texel = texel_of_vertices()
    phase = rng.uniform(0, 6.3, 4)
    wave = 1 + 0.18 * np.sin(texel[:, 0] * 0.09 + phase[0]) + 0.15 * np.sin(texel[:, 1] * 0.12 + texel[:, 0] * 0.04 + phase[1])
    lift = (np.clip(amount, -0.6, 1) * thickness * wave - 0.0012 * (amount <= 0))[:, None]
    shell = Mesh((vertices + lift * normals).astype(np.float32), basis.triangles[keep], texel, HAIR_MATERIAL)
    return [shell, _curtain(rng, thickness)] if person.hair_style == "long" else [shell]


def glasses(person: Person, vertices: Floats) -> list[Mesh]:
    """Two rims, a bridge and the temples."""
    if person.glasses == "none":
        return []
    left, right = eye_centres(vertices)
    nose = vertices[_vertex_at(0, 0.0)]
    y = float(min(left[1], nose[1] + 0.012)) - 0.021
    power = 2.0 if person.glasses == "round" else 5.0
    meshes = []
    for centre in (left, right):
        angle = np.linspace(0, 2 * np.pi, 33)
        radius = 1 / (np.abs(np.cos(angle)) ** power + np.abs(np.sin(angle)) ** power) ** (1 / power)
        middle = float(np.sign(centre[0])) * 0.034
        rim = np.stack(
            [middle + 0.025 * radius * np.cos(angle), np.full(33, y), centre[2] - 0.004 + 0.020 * radius * np.sin(angle)], axis=1
        )
        meshes.append(_tube(rim, 0.0013))
        side = float(np.sign(centre[0]))
        temple = np.array(
            [[side * 0.059, y, centre[2] + 0.002], [side * 0.078, y + 0.02, centre[2]], [side * 0.084, y + 0.12, centre[2] - 0.003]]
        )
        meshes.append(_tube(temple, 0.0015))
    bridge = np.array([[0.010, y, left[2] + 0.002], [0.0, y - 0.002, left[2] + 0.005], [-0.010, y, left[2] + 0.002]])
    return [*meshes, _tube(bridge, 0.0014)]


def shoulders(vertices: Floats) -> Mesh:
    """Clothes: a cone from the neck outwards."""
    bottom = vertices[load_basis().part == SKIN][:, 2].min()
    rings = [
        (bottom + 0.035, 0.062, 0.062),
        (bottom + 0.012, 0.085, 0.075),
        (bottom - 0.03, 0.17, 0.09),
        (bottom - 0.07, 0.215, 0.11),
        (bottom - 0.3, 0.24, 0.13),
    ]
    angle = np.linspace(0, 2 * np.pi, 29)
    grid = np.array([[[rx * np.sin(a), AXIS_Y + 0.015 - ry * np.cos(a), z] for a in angle] for z, rx, ry in rings], np.float32)
    coordinates = np.array([[[a * 40, z * 800] for a in angle] for z, _, _ in rings], np.float32)
    return Mesh(grid.reshape(-1, 3), _grid_triangles(len(rings), len(angle)), coordinates.reshape(-1, 2), CLOTH_MATERIAL)


def jaw_shift(basis: Basis, opening: float) -> Floats:
    """(3,) metres that the lower teeth move when the jaw opens."""
    chin = _vertex_at(0, -100.0)
    return (0.85 * opening * basis.moves[basis.action_names.index("jawOpen")][chin]).astype(np.float32)


@lru_cache(maxsize=64)
def _vertex_at(x_mm: float, z_mm: float) -> int:
    """The frontmost skin vertex near a frontal position on the mean head."""
    basis = load_basis()
    position = basis.mean * 1000
    cost = np.hypot(position[:, 0] - x_mm, position[:, 2] - z_mm) + 0.15 * (position[:, 1] - position[:, 1].min())
    cost = np.where(basis.part == SKIN, cost, np.inf)
    return int(np.argmin(cost))


@lru_cache(maxsize=1)
def _rest_of_scalp() -> tuple[Floats, Floats, Floats]:
    basis = load_basis()
    x, y, z = basis.mean.T
    angle = np.abs(np.arctan2(x, AXIS_Y - y))
    line = np.interp(
        angle, [0, 0.45, 0.8, 1.05, 1.25, 1.45, 1.7, 2.2, 3.2], [0.060, 0.062, 0.050, 0.036, 0.004, 0.000, -0.02, -0.075, -0.085]
    )
    ear = (np.abs(x) > 0.0725) & (z < 0.012) & (y < 0.115)
    return (z - line).astype(np.float32), np.where(ear, -1.0, 0.0).astype(np.float32), angle.astype(np.float32)


def _scalp(person: Person) -> Floats:
    """(V,) how much hair stands on each vertex: 0 at the hairline, 1 from 2 cm above."""
    above, ear, angle = _rest_of_scalp()
    moved = above - person.hairline * (angle < 1.3) + person.fringe * np.clip(1.1 - angle, 0, 1)
    return np.where(ear < 0, -1, np.clip(moved / 0.02, -1, 1)).astype(np.float32)


def _curtain(rng: np.random.Generator, thickness: float) -> Mesh:
    start, length = rng.uniform(1.0, 1.35), rng.uniform(0.10, 0.26)
    phase = rng.uniform(0, 6.3)
    angle = np.concatenate([np.linspace(start, 2 * np.pi - start, 41)])
    heights = np.linspace(0.05, 0.05 - length, 9)
    grid, coordinates = [], []
    for level, z in enumerate(heights):
        swell = 0.004 * level + 0.3 * thickness
        wave = 0.003 * np.sin(9 * angle + phase + level)
        rx, ry = 0.080 + swell + wave, 0.098 + swell + wave
        grid.append(np.stack([rx * np.sin(angle), AXIS_Y + 0.012 - ry * np.cos(angle), np.full(len(angle), z)], axis=1))
        coordinates.append(np.stack([angle * 60, np.full(len(angle), level * 12.0)], axis=1))
    return Mesh(
        np.concatenate(grid).astype(np.float32),
        _grid_triangles(len(heights), len(angle)),
        np.concatenate(coordinates).astype(np.float32),
        HAIR_MATERIAL,
    )


def _arch(front: float, z: float, height: float, half_width: float) -> Mesh:
    t = np.linspace(-1, 1, 25)
    x = half_width * np.sin(t * 1.3) / np.sin(1.3)
    y = front + 0.024 * (1 - np.cos(t * 1.3)) / (1 - np.cos(1.3))
    rows = np.linspace(0, 1, 4)
    grid = [np.stack([x, y + 0.002 * r, np.full_like(x, z + height * r)], axis=1) for r in rows]
    coordinates = [np.stack([t * 5.5, np.full_like(t, r)], axis=1) for r in rows]
    return Mesh(
        np.concatenate(grid).astype(np.float32), _grid_triangles(4, 25), np.concatenate(coordinates).astype(np.float32), TEETH_MATERIAL
    )


@lru_cache(maxsize=2)
def _sphere(rings: int, sectors: int) -> tuple[Floats, Ints]:
    """Unit sphere whose pole looks forward (-y), where the iris is: fine triangles there."""
    polar = np.pi * np.linspace(0, 1, rings + 1) ** 1.2
    around = np.linspace(0, 2 * np.pi, sectors + 1)
    p, a = np.meshgrid(polar, around, indexing="ij")
    unit = np.stack([np.sin(p) * np.cos(a), -np.cos(p), np.sin(p) * np.sin(a)], axis=-1)
    return unit.reshape(-1, 3).astype(np.float32), _grid_triangles(rings + 1, sectors + 1)


def _grid_triangles(rows: int, columns: int) -> Ints:
    r, c = np.meshgrid(np.arange(rows - 1), np.arange(columns - 1), indexing="ij")
    a = (r * columns + c).ravel()
    return np.concatenate([np.stack([a, a + 1, a + columns], 1), np.stack([a + 1, a + columns + 1, a + columns], 1)]).astype(np.int32)


def _tube(path: NDArray[np.floating], radius: float) -> Mesh:
    """A tube of square section along (N, 3) points: thin enough that nobody counts its sides."""
    offsets = radius * np.array([[0, -1, 1], [0, -1, -1], [0, 1, -1], [0, 1, 1], [0, -1, 1]], np.float64)
    along = np.gradient(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-9
    side = np.cross(along, [0.0, 1.0, 0.0])
    side /= np.linalg.norm(side, axis=1, keepdims=True) + 1e-9
    grid = np.stack([path + o[2] * side + o[1] * np.array([0, 1, 0]) for o in offsets], axis=1)
    return Mesh(
        grid.reshape(-1, 3).astype(np.float32), _grid_triangles(len(path), 5), np.zeros((5 * len(path), 2), np.float32), FRAME_MATERIAL
    )


def normals_of(mesh: Mesh) -> Floats:
    """(V, 3) unit normals, turned outwards from the head's axis where a sheet has no inside."""
    normals = vertex_normals(mesh.vertices, mesh.triangles)
    if mesh.material in (HAIR_MATERIAL, CLOTH_MATERIAL, EYE_MATERIAL):
        middle = mesh.vertices.mean(0) if mesh.material == EYE_MATERIAL else np.array([0, AXIS_Y, 0], np.float32)
        outwards = ((mesh.vertices - middle) * normals).sum(1) < 0
        normals[outwards] *= -1
    if mesh.material in (TEETH_MATERIAL, FRAME_MATERIAL):
        normals[normals[:, 1] > 0] *= -1
    return normals
