"""Skin in canonical coordinates: a texture wrapped round the mean head, which every head wears and every AU moves.

Column: angle round the head's axis, +-1.75 rad; row: height, +.12 m to -.15 m. About 1 mm a texel.
"""

from functools import lru_cache

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from training.faces.subject import Person
from training.render.geometry import SKIN, load_basis
from training.render.raster import vertex_normals

Floats = NDArray[np.float32]
Curve = list[tuple[float, float]]

WIDTH, HEIGHT = 320, 288
HALF_ANGLE, TOP, BOTTOM, AXIS_Y = 1.75, 0.12, -0.15, 0.07

# Curves in frontal millimetres (x to the subject's left, z up, 0 between the eyes); x is mirrored for the other side.
EYE: Curve = [(46, -1), (39, 3.6), (30, 3.6), (21, -3), (29, -5.4), (38, -5.4)]
LIPS: Curve = [
    (-24.5, -71.5),
    (-15, -67),
    (-6, -64.8),
    (0, -66),
    (6, -64.8),
    (15, -67),
    (24.5, -71.5),
    (14, -81),
    (6, -84),
    (-6, -84),
    (-14, -81),
]
BROW: Curve = [(12, 12), (20, 17), (32, 20.5), (43, 18.5), (53, 12)]
BROW_HEIGHTS = (2.0, 4.0, 3.8, 2.8, 1.0)
MOUSTACHE: Curve = [(-27, -66), (-14, -56), (0, -54), (14, -56), (27, -66), (24, -70), (0, -66), (-24, -70)]
# Wrinkles: curves, width in mm, depth. All but those in CENTRED are mirrored.
GROOVES: dict[str, tuple[list[Curve], float, float]] = {
    "forehead": (
        [[(-38, 36), (-15, 33), (0, 34), (15, 33), (38, 36)], [(-40, 45), (0, 43), (40, 45)], [(-36, 54), (0, 52), (36, 54)]],
        1.8,
        0.5,
    ),
    "frown": ([[(5, 6), (6, 15), (5, 24)], [(-5, 6), (-6, 15), (-5, 24)], [(-12, 2), (0, 4), (12, 2)]], 2.0, 0.6),
    "crow": ([[(49, 1), (58, 6), (66, 11)], [(50, -3), (60, -3), (68, -3)], [(49, -7), (57, -12), (65, -17)]], 1.3, 0.5),
    "bag": ([[(22, -8), (30, -12), (40, -11), (47, -7)], [(20, -11), (29, -17), (40, -17), (50, -12)]], 1.8, 0.4),
    "nose": ([[(3, -4), (10, -8), (15, -16)], [(3, -10), (10, -14), (15, -22)], [(2, 2), (8, -2), (13, -8)]], 1.6, 0.7),
    "nasolabial": ([[(16, -38), (22, -47), (28, -58), (32, -70), (33, -78)]], 2.6, 0.6),
    "dimple": ([[(30, -64), (32.5, -70), (31, -77)]], 2.6, 0.8),
    "corner": ([[(26, -72), (28.5, -79), (30, -88)]], 2.2, 0.7),
    "chin": ([[(-14, -90), (0, -88.5), (14, -90)]], 2.6, 0.6),
    "lips": ([[(x, -65), (x * 1.02, -72), (x, -82)] for x in (-14, -9, -4.5, 0, 4.5, 9, 14)], 1.0, 0.5),
    "lid": ([[(20, 5), (30, 9), (40, 8.5), (48, 3)]], 1.2, 0.35),
}
CENTRED = ("forehead", "frown", "chin", "lips")
AGEING = {"bag": 0.5, "nasolabial": 0.6, "forehead": 0.6, "crow": 0.6, "frown": 0.5, "chin": 0.3}
# Which AU deepens which groove, and how much: what skin shows that the linear head does not.
AU_GROOVES: dict[str, dict[str, float]] = {
    "AU1": {"forehead": 0.8},
    "AU2": {"forehead": 0.7},
    "AU4": {"frown": 1.0},
    "AU6": {"crow": 1.0, "bag": 0.9, "nasolabial": 0.3},
    "AU7": {"bag": 0.6, "crow": 0.2},
    "AU9": {"nose": 1.0, "frown": 0.4, "nasolabial": 0.5},
    "AU10": {"nasolabial": 0.9},
    "AU12": {"nasolabial": 0.8, "crow": 0.15},
    "AU14": {"dimple": 1.0},
    "AU15": {"corner": 1.0},
    "AU17": {"chin": 1.0},
    "AU20": {"corner": 0.4, "nasolabial": 0.25},
    "AU23": {"lips": 1.0},
    "AU24": {"lips": 0.4, "chin": 0.3},
}


@lru_cache(maxsize=1)
def texel_of_vertices() -> Floats:
    """(V, 2) column and row of every vertex of the mean head."""
    return _texel(load_basis().mean)


@lru_cache(maxsize=1)
def hollow() -> Floats:
    """(V,) 1 inside the mouth and the nostrils, 0 outside: where skin is wet and light hardly gets."""
    basis = load_basis()
    x, y, z = basis.mean.T * 1000
    backwards = vertex_normals(basis.mean, basis.triangles)[:, 1] > 0.2  # only what lies behind an opening looks back
    within = (np.abs(x) < 32) & (z > -100) & (z < -36) & (y < 50)
    return np.where(backwards & within & (basis.part == SKIN), 1.0, 0.0).astype(np.float32)


def trace(points: Curve, samples: int = 12) -> Floats:
    """(N, 2) texels along a curve given in frontal millimetres."""
    fine = _spline(np.array(points, np.float64), samples)
    mean = _front()
    distance = ((fine[:, None] - mean[None, :, [0, 2]] * 1000) ** 2).sum(2)
    depth = mean[np.argmin(distance, axis=1), 1]
    return _texel(np.stack([fine[:, 0] / 1000, depth, fine[:, 1] / 1000], axis=1).astype(np.float32))


@lru_cache(maxsize=1)
def grooves() -> dict[str, Floats]:
    """Each groove as relief (H, W): negative in the furrow, positive on its banks."""
    return {name: _relief(curves, width, depth, mirrored=name not in CENTRED) for name, (curves, width, depth) in GROOVES.items()}


def paint(person: Person) -> Floats:
    """(H, W, 3) linear albedo of a person at rest."""
    rng = np.random.default_rng(person.seed)
    texture = np.empty((HEIGHT, WIDTH, 3), np.float32)
    texture[:] = person.skin
    coarse, fine = _noise(rng)
    texture *= np.exp(person.blotches * coarse + 0.05 * fine)[..., None]
    blush = 0.30 * person.redness * _blush()[..., None] * np.float32(0.35 + 0.65 * person.skin[0])
    texture *= 1 + blush * np.array([0.35, -0.45, -0.35], np.float32)
    aged = float(np.clip((person.age - 28) / 45, 0, 1.1))
    relief = 0.5 * grooves()["lid"]
    for name, weight in AGEING.items():
        relief = relief + np.float32(weight * aged) * grooves()[name]
    texture *= 1 + np.maximum(relief, -0.8)[..., None]
    if person.freckles:
        _freckle(texture, person, rng)
    texture *= 1 + _mask("lips")[..., None] * (np.array(person.lips, np.float32) * np.float32(0.8) - 1)
    if person.makeup > 0.5:
        shade = np.array(np.exp(rng.normal(-0.4, 0.3, 3)), np.float32)
        texture *= 1 + 0.5 * _mask("lids")[..., None] * (shade - 1)
    texture *= 1 - 0.85 * np.clip(_mask("lash") * (0.55 + 0.45 * person.makeup), 0, 1)[..., None]
    _grow_brows(texture, person, rng, fine)
    _grow_beard(texture, person, fine)
    return np.clip(texture, 0.002, 0.9)


def wrinkle(texture: Floats, intensities: dict[str, float], person: Person) -> Floats:
    """The texture with the grooves of a state, deeper in older skin."""
    depth: dict[str, float] = {}
    for code, intensity in intensities.items():
        for name, share in AU_GROOVES.get(code, {}).items():
            depth[name] = max(depth.get(name, 0.0), share * intensity)
    strength = 0.75 + 0.4 * float(np.clip((person.age - 25) / 50, 0, 1))
    relief = np.zeros((HEIGHT, WIDTH), np.float32)
    for name, value in depth.items():
        relief += np.float32(value * strength) * grooves()[name]
    return np.clip(texture * (1 + np.maximum(relief, -0.85))[..., None], 0.001, 0.95)


def _texel(points: Floats) -> Floats:
    angle = np.arctan2(points[:, 0], AXIS_Y - points[:, 1])
    column = (angle / HALF_ANGLE + 1) / 2 * WIDTH
    row = (TOP - points[:, 2]) / (TOP - BOTTOM) * HEIGHT
    return np.stack([column, row], axis=1).astype(np.float32)


@lru_cache(maxsize=1)
def _front() -> Floats:
    basis = load_basis()
    normals = vertex_normals(basis.mean, basis.triangles)
    front = (basis.part == SKIN) & (normals[:, 1] < -0.15) & (hollow() == 0) & (basis.mean[:, 1] < 0.05)
    front &= (np.abs(basis.mean[:, 0]) > 0.020) | (basis.mean[:, 1] < -0.02)  # not the inside of the nose
    return basis.mean[front]


def _spline(points: NDArray[np.float64], samples: int) -> NDArray[np.float64]:
    from scipy.interpolate import make_interp_spline

    along = np.linspace(0, len(points) - 1, samples * (len(points) - 1) + 1)
    return np.asarray(make_interp_spline(np.arange(len(points)), points, k=min(3, len(points) - 1))(along))


def _mirror(points: Curve) -> Curve:
    return [(-x, z) for x, z in points]


def _fixed(texels: Floats) -> NDArray[np.int32]:
    """Sixteenths of a texel, as OpenCV draws them with shift=4."""
    return np.round(texels * 16).astype(np.int32)[:, None]


def _relief(curves: list[Curve], width_mm: float, depth: float, *, mirrored: bool) -> Floats:
    canvas = np.zeros((HEIGHT, WIDTH), np.float32)
    for curve in curves:
        for points in (curve, _mirror(curve)) if mirrored else (curve,):
            cv2.polylines(canvas, [_fixed(trace(points))], False, 1.0, max(1, round(width_mm * 0.8)), cv2.LINE_AA, shift=4)
    inner = cv2.GaussianBlur(canvas, (0, 0), 0.55 * width_mm)
    outer = cv2.GaussianBlur(canvas, (0, 0), 1.6 * width_mm)
    relief = -inner / max(float(inner.max()), 1e-6) + 0.45 * outer / max(float(outer.max()), 1e-6)
    return (depth * relief).astype(np.float32)


@lru_cache(maxsize=8)
def _mask(name: str) -> Floats:
    """lips, lids or lash, in [0, 1]."""
    canvas = np.zeros((HEIGHT, WIDTH), np.float32)
    if name == "lips":
        cv2.fillPoly(canvas, [_fixed(np.concatenate([trace(LIPS[:7], 6), trace([*LIPS[6:], LIPS[0]], 6)]))], 1.0, cv2.LINE_AA, shift=4)
        return cv2.GaussianBlur(canvas, (0, 0), 1.0)
    for side in (EYE, _mirror(EYE)):
        if name == "lids":
            raised = [(x, z + (7 if z > 0 else 1)) for x, z in [*side, side[0]]]
            cv2.fillPoly(canvas, [_fixed(trace(raised, 6))], 1.0, cv2.LINE_AA, shift=4)
        else:
            cv2.polylines(canvas, [_fixed(trace(side[:4]))], False, 1.0, 2, cv2.LINE_AA, shift=4)
            cv2.polylines(canvas, [_fixed(trace([*side[3:], side[0]]))], False, 0.45, 1, cv2.LINE_AA, shift=4)
    return np.clip(cv2.GaussianBlur(canvas, (0, 0), 2.5 if name == "lids" else 0.7), 0, 1)


@lru_cache(maxsize=1)
def _noise_bank() -> tuple[list[Floats], list[Floats]]:
    rng = np.random.default_rng(20)
    coarse = [
        np.asarray(sum(_zoomed(rng, cells) * weight for cells, weight in ((6, 0.7), (16, 0.5), (40, 0.35))), np.float32) for _ in range(24)
    ]
    fine = [_zoomed(rng, 120) * 0.6 + rng.standard_normal((HEIGHT, WIDTH)).astype(np.float32) * 0.6 for _ in range(24)]
    return coarse, fine


def _zoomed(rng: Generator, cells: int) -> Floats:
    return cv2.resize(rng.standard_normal((cells, cells)).astype(np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


def _noise(rng: Generator) -> tuple[Floats, Floats]:
    coarse, fine = (bank[int(rng.integers(len(bank)))] for bank in _noise_bank())
    return coarse[:, :: 1 - 2 * int(rng.integers(2))], fine[:, :: 1 - 2 * int(rng.integers(2))]


@lru_cache(maxsize=1)
def _blush() -> Floats:
    total = np.zeros((HEIGHT, WIDTH), np.float32)
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    for x, z, radius, weight in (
        (42, -32, 17, 1.0),
        (-42, -32, 17, 1.0),
        (0, -40, 9, 1.0),
        (0, -100, 12, 0.4),
        (33, 0, 14, 0.5),
        (-33, 0, 14, 0.5),
    ):
        column, row = trace([(x, z), (x, z + 0.1)], 1)[0]
        total += weight * np.exp(-((columns - column) ** 2 + (rows - row) ** 2) / (2 * radius**2))
    return total


def _freckle(texture: Floats, person: Person, rng: Generator) -> None:
    canvas = np.zeros((HEIGHT, WIDTH), np.float32)
    count = int(160 * person.freckles)
    spots = list(zip(rng.normal(0, 28, count).tolist(), rng.normal(-25, 18, count).tolist(), strict=True))
    for column, row in trace(spots, 1) if count > 2 else []:
        cv2.circle(
            canvas, (int(column * 16), int(row * 16)), int(rng.uniform(8, 20)), float(rng.uniform(0.2, 0.6)), -1, cv2.LINE_AA, shift=4
        )
    texture *= 1 - cv2.GaussianBlur(canvas, (0, 0), 0.7)[..., None] * np.array([0.4, 0.6, 0.7], np.float32)


def _grow_brows(texture: Floats, person: Person, rng: Generator, fine: Floats) -> None:
    lift, tail = rng.normal(0, 1.2), rng.normal(0, 1.5)
    canvas = np.zeros((HEIGHT, WIDTH), np.float32)
    centre = [(x, z + lift + tail * (x - 12) / 40) for x, z in BROW]
    heights = [h * person.brow_thickness for h in BROW_HEIGHTS]
    upper = [(x, z + h) for (x, z), h in zip(centre, heights, strict=True)]
    lower = [(x, z - h) for (x, z), h in zip(centre, heights, strict=True)][::-1]
    for top, bottom in ((upper, lower), (_mirror(upper), _mirror(lower))):
        cv2.fillPoly(canvas, [_fixed(np.concatenate([trace(top, 6), trace(bottom, 6)]))], 1.0, cv2.LINE_AA, shift=4)
    alpha = np.clip(cv2.GaussianBlur(canvas, (0, 0), 1.1) * (person.brow_density + 0.25 * fine), 0, 0.97)[..., None]
    texture *= 1 - alpha
    texture += alpha * np.array(person.brow_colour, np.float32)


@lru_cache(maxsize=2)
def _beard_mask(full: bool) -> Floats:
    canvas = np.zeros((HEIGHT, WIDTH), np.float32)
    cv2.fillPoly(canvas, [_fixed(np.concatenate([trace(MOUSTACHE[:5], 6), trace(MOUSTACHE[5:], 6)]))], 1.0, cv2.LINE_AA, shift=4)
    if full:
        rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
        z = (TOP - rows / HEIGHT * (TOP - BOTTOM)) * 1000
        angle = np.abs((columns / WIDTH * 2 - 1) * HALF_ANGLE)
        line = np.interp(angle, [0, 0.28, 0.55, 0.9, 1.2, 1.4, 1.75], [-88, -84, -66, -50, -25, 0, 0])
        sides = np.clip(1 - np.abs(angle - 0.40) / 0.10, 0, 1) * (z < -60) * (z > -90)
        canvas = np.maximum(np.maximum(canvas, np.clip((line - z) / 8, 0, 1) * (angle < 1.45)), sides).astype(np.float32)
    return np.clip(cv2.GaussianBlur(canvas, (0, 0), 2.2), 0, 1)


def _grow_beard(texture: Floats, person: Person, fine: Floats) -> None:
    if person.beard == "none":
        return
    density = {"stubble": 0.38, "moustache": 0.9, "full": 0.92}[person.beard]
    mask = _beard_mask(person.beard != "moustache") * (1 - 0.9 * _mask("lips"))
    alpha = np.clip(mask * (density + 0.2 * fine), 0, 0.96)[..., None]
    texture *= 1 - alpha
    texture += alpha * np.array(person.hair_colour, np.float32)
