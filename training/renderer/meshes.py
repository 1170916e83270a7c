"""What the head model lacks inside its openings, as meshes in metres: eyeballs under closing lids,
teeth on a moving jaw.

A part is vertices (V, 3), triangles (T, 3), three coordinates a vertex (V, 3) that the shader reads
by material, and that material. Frame as in `geometry`: x to the subject's left, y backwards, z up.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.renderer.atlas import load_atlas, smooth
from training.renderer.geometry import LEFT_EYE, RIGHT_EYE, SKIN, TONGUE, load_basis
from training.renderer.raster import rasterise, vertex_normals

Floats = NDArray[Any]  # float32
Ints = NDArray[np.int32]

(
    SKIN_MATERIAL,
    TONGUE_MATERIAL,
    EYE_MATERIAL,
    TEETH_MATERIAL,
    HAIR_MATERIAL,
    CLOTH_MATERIAL,
    FRAME_MATERIAL,
    LENS_MATERIAL,
) = range(8)
COVER_MATERIAL, HAND_MATERIAL = 8, 9
NAMES = (
    "skin",
    "tongue",
    "eye",
    "teeth",
    "hair",
    "clothes",
    "frame",
    "lens",
    "hat or scarf",
    "hand",
)  # of the materials
MATERIALS = len(NAMES)
LID_M = 0.0006  # the thinnest a lid gets over the eyeball
# metres the tongue is drawn back behind the teeth
TONGUE_REST = np.array([0.0, 0.003, 0.001], np.float32)


@dataclass(frozen=True)
class Part:
    """One part of the picture."""

    vertices: Floats
    triangles: Ints
    coordinates: Floats
    material: int
    normals: Floats


@dataclass(frozen=True)
class Eyeballs:
    """Centres (2, 3) of the subject's left and right eyeball, and their radius in metres."""

    centres: Floats
    radius: float

    def pupils(self, gaze: tuple[float, float]) -> Floats:
        """Middles (2, 3) of the pupils: where eyes that look `gaze` (left, up; radians) are
        meant.
        """
        front = _looking(gaze) @ np.array([0.0, -1.0, 0.0])
        return np.asarray(self.centres + self.radius * front, np.float32)


def eyeballs(vertices: Floats) -> Eyeballs:
    """Spheres fitted to the fronts of the head model's eyes."""
    centres, radii = [], []
    for indices in _eye_fronts():
        points = vertices[indices]
        terms = np.column_stack([2 * points, np.ones(len(points))])
        fit = np.linalg.lstsq(terms, (points**2).sum(1), rcond=None)[0]
        centres.append(fit[:3])
        radii.append(np.sqrt(fit[3] + (fit[:3] ** 2).sum()))
    return Eyeballs(np.array(centres, np.float32), float(np.mean(radii)))


@lru_cache(maxsize=1)
def _eye_fronts() -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    basis = load_basis()
    left, right = (
        np.flatnonzero((basis.part == part) & (basis.mean[:, 1] < 0.006))
        for part in (LEFT_EYE, RIGHT_EYE)
    )
    return left, right


def close_over(vertices: Floats, balls: Eyeballs) -> Floats:
    """The head with its lids lying on the eyeballs: facial actions move lids on straight lines,
    through the ball.
    """
    vertices = vertices.copy()
    for indices, centre in zip(_lids(), balls.centres, strict=True):
        away = vertices[indices] - centre
        distance = np.linalg.norm(away, axis=1, keepdims=True)
        least = balls.radius + LID_M
        inside = (distance < least) & (away[:, 1:2] < 0.0)
        vertices[indices] = np.where(inside, centre + away * (least / distance), vertices[indices])
    return vertices


@lru_cache(maxsize=1)
def _lids() -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Skin around each eye that lies outside the ball at rest."""
    basis = load_basis()
    balls = eyeballs(basis.mean)
    found = []
    for centre in balls.centres:
        distance = np.linalg.norm(basis.mean - centre, axis=1) - balls.radius
        found.append(
            np.flatnonzero(
                (basis.part == SKIN)
                & (distance > -0.0002)
                & (distance < 0.012)
                & (basis.mean[:, 1] < centre[1])
            )
        )
    return found[0], found[1]


@lru_cache(maxsize=1)
def lash_line() -> Floats:
    """(V,) 1 on the rims of the lids, 0 elsewhere: strong above, weak below."""
    basis = load_basis()
    balls = eyeballs(basis.mean)
    rim = np.zeros(len(basis.mean), np.float32)
    for centre in balls.centres:
        away = basis.mean - centre
        gap = np.linalg.norm(away, axis=1) - balls.radius
        near = smooth(0.0028, 0.0013, gap) * (away[:, 1] < -0.004) * (basis.part == SKIN)
        rim = np.maximum(rim, near * np.where(basis.mean[:, 2] > -0.0035, 1.0, 0.4))
    return rim.astype(np.float32)


@lru_cache(maxsize=1)
def hollow() -> Floats:
    """(V,) 0 outside, to 1 deep inside the mouth."""
    basis = load_basis()
    x, y, z = basis.mean.T
    in_mouth = (
        (np.abs(x) < 0.034) & (z > -0.105) & (z < -0.045) & (y > -0.022) & ~_seen_from_front()
    )
    return np.where(in_mouth, np.clip((y + 0.026) / 0.012, 0.15, 1), 0).astype(np.float32)


def _seen_from_front() -> NDArray[np.bool_]:
    """(V,) skin that the average head's front shows, within 2 mm."""
    basis = load_basis()
    side = 700
    column, row = side / 2 + basis.mean[:, 0] * 3000, side / 2 - (basis.mean[:, 2] + 0.02) * 3000
    position = np.column_stack([column, row, basis.mean[:, 1]]).astype(np.float32)
    depth, _, _ = rasterise(
        position, basis.triangles[basis.part[basis.triangles[:, 0]] == SKIN], basis.mean, side
    )
    inside = (column > 0) & (column < side - 1) & (row > 0) & (row < side - 1)
    nearest = depth[np.clip(row, 0, side - 1).astype(int), np.clip(column, 0, side - 1).astype(int)]
    return np.asarray(inside & (basis.mean[:, 1] < nearest + 0.002))


@lru_cache(maxsize=4)
def triangles_of(part: int) -> Ints:
    basis = load_basis()
    return np.asarray(basis.triangles[basis.part[basis.triangles[:, 0]] == part])


def head(vertices: Floats) -> list[Part]:
    """Skin (coordinates: texel column and row, then lash line, or minus the hollowness of the
    mouth) and tongue.
    """
    basis = load_basis()
    normals = vertex_normals(vertices, basis.triangles)
    third = np.where(hollow() > 0, -hollow(), lash_line())
    coordinates = np.column_stack([load_atlas().coordinates, third]).astype(np.float32)
    tongue = (vertices + TONGUE_REST).astype(np.float32)
    return [
        Part(vertices, triangles_of(SKIN), coordinates, SKIN_MATERIAL, normals),
        Part(tongue, triangles_of(TONGUE), coordinates, TONGUE_MATERIAL, normals),
    ]


def eyes(balls: Eyeballs, gaze: tuple[float, float]) -> list[Part]:
    """Two spheres; coordinates: the unit direction in the frame of the gaze (-y is the middle of
    the pupil).
    """
    unit, triangles = _sphere(14, 24)
    local = (unit @ _looking(gaze)).astype(np.float32)
    return [
        Part(
            (centre + balls.radius * unit).astype(np.float32), triangles, local, EYE_MATERIAL, unit
        )
        for centre in balls.centres
    ]


def _looking(gaze: tuple[float, float]) -> Floats:
    """(3, 3) from the frame of the gaze to that of the head."""
    left, up = gaze
    return np.asarray(_about_z(left) @ _about_x(up))


def teeth(neutral: Floats, jaw: Floats, drop_mm: float = 0.0) -> list[Part]:
    """Upper teeth fixed to the skull, lower teeth moved by jaw (4, 3): x, y, z, 1 -> the shift.

    Coordinates: tooth, height, 0.
    """
    corner_left, corner_right = neutral[vertex_at(24, -71.5)], neutral[vertex_at(-24, -71.5)]
    lips = 0.5 * (neutral[vertex_at(0, -69.0)] + neutral[vertex_at(0, -75.0)])
    width = 0.5 * float(np.linalg.norm(corner_left - corner_right)) / 0.0245
    front, line, middle = lips[1] + 0.0095, lips[2] - 0.0005, lips[0]
    upper = _arch(middle, front, line - 0.0008 - 0.001 * drop_mm, 0.0120, 0.0255 * width)
    lower = _arch(middle, front + 0.0020, line - 0.0022, -0.0110, 0.0235 * width)
    ends = np.column_stack([lower.vertices, np.ones(len(lower.vertices))])
    moved = (lower.vertices + ends @ jaw).astype(np.float32)
    return [upper, Part(moved, lower.triangles, lower.coordinates, TEETH_MATERIAL, lower.normals)]


def jaw_move(actions: dict[str, float]) -> Floats:
    """(4, 3) affine map from a place on the jaw to how far the facial actions shift it: what they
    do to the tongue.
    """
    basis = load_basis()
    total = np.zeros((4, 3), np.float32)
    for name in ("jawOpen", "jawLeft", "jawRight", "jawForward"):
        if actions.get(name):
            total += np.float32(actions[name]) * _jaw_fit(basis.action_names.index(name))
    return total


@lru_cache(maxsize=8)
def _jaw_fit(row: int) -> Floats:
    basis = load_basis()
    low = (
        (basis.part == SKIN)
        & (basis.mean[:, 2] < -0.085)
        & (basis.mean[:, 2] > -0.110)
        & (np.abs(basis.mean[:, 0]) < 0.03)
        & (basis.mean[:, 1] < 0.03)
    )
    terms = np.column_stack([basis.mean[low], np.ones(low.sum())])
    return np.asarray(np.linalg.lstsq(terms, basis.moves[row][low], rcond=None)[0], np.float32)


@lru_cache(maxsize=64)
def vertex_at(x_mm: float, z_mm: float) -> int:
    """The frontmost skin vertex near a frontal position on the average head."""
    basis = load_basis()
    place = basis.mean * 1000
    cost = np.hypot(place[:, 0] - x_mm, place[:, 2] - z_mm) + 0.15 * (
        place[:, 1] - place[:, 1].min()
    )
    return int(np.argmin(np.where(basis.part == SKIN, cost, np.inf)))


def _arch(middle: float, front: float, z: float, height: float, half_width: float) -> Part:
    t = np.linspace(-1, 1, 25)
    x = middle + half_width * np.sin(t * 1.3) / np.sin(1.3)
    y = front + 0.024 * (1 - np.cos(t * 1.3)) / (1 - np.cos(1.3))
    rows = np.linspace(0, 1, 4)
    grid = [np.column_stack([x, y + 0.001 * r, np.full_like(x, z + height * r)]) for r in rows]
    coordinates = [np.column_stack([t * 6, np.full_like(t, r), 0 * t]) for r in rows]
    normal = np.column_stack([np.sin(t * 1.2), -np.cos(t * 1.2), 0 * t])
    vertices = np.concatenate(grid).astype(np.float32)
    return Part(
        vertices,
        grid_triangles(4, 25),
        np.concatenate(coordinates).astype(np.float32),
        TEETH_MATERIAL,
        np.tile(normal, (4, 1)).astype(np.float32),
    )


@lru_cache(maxsize=2)
def _sphere(rings: int, sectors: int) -> tuple[Floats, Ints]:
    """Unit sphere whose pole looks forward (-y), where the iris is: fine triangles there."""
    polar = np.pi * np.linspace(0, 1, rings + 1) ** 1.2
    p, a = np.meshgrid(polar, np.linspace(0, 2 * np.pi, sectors + 1), indexing="ij")
    unit = np.stack([np.sin(p) * np.cos(a), -np.cos(p), np.sin(p) * np.sin(a)], axis=-1)
    return unit.reshape(-1, 3).astype(np.float32), grid_triangles(rings + 1, sectors + 1)


def grid_triangles(rows: int, columns: int) -> Ints:
    r, c = np.meshgrid(np.arange(rows - 1), np.arange(columns - 1), indexing="ij")
    a = (r * columns + c).ravel()
    return np.concatenate(
        [np.stack([a, a + 1, a + columns], 1), np.stack([a + 1, a + columns + 1, a + columns], 1)]
    ).astype(np.int32)


def _about_z(angle: float) -> Floats:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], np.float32)


def _about_x(angle: float) -> Floats:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, c, s], [0, -s, c]], np.float32)
