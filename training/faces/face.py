"""One rendered face: person + scene + state in, picture and truth out.

`ALIGNED` is the crop that training and serving share (eye centres at affect.faces.EYES); `LOOSE` shows the whole head
somewhere in the picture, for those who must find it. Shape letters: S side in px, V vertices.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from affect.faces import EYES
from training.faces import parts, shading, skin
from training.faces.landmarks import landmarks
from training.faces.subject import Person, Scene
from training.render.background import background
from training.render.geometry import load_basis
from training.render.raster import rasterise, shadow_depth, vertex_normals
from training.render.sensor import expose
from training.render.states import State, actions

Floats = NDArray[np.float32]

PIVOT = np.array([0.0, 0.06, -0.03], np.float32)  # metres; the head turns about the top of the neck
SHADOW_PX, SHADOW_HALF = 144, 0.17  # the light's own picture: side in px, half its width in metres
HEAD_HEIGHT = 0.25  # metres from chin to crown, with hair


class Framing(Enum):
    """How the face sits in the picture."""

    ALIGNED = "aligned"
    LOOSE = "loose"


ALIGNED, LOOSE = Framing.ALIGNED, Framing.LOOSE


@dataclass(frozen=True)
class RenderedFace:
    """A picture and what is true of it. Points are in px of the picture, x right, y down."""

    image: NDArray[np.uint8]  # (S, S, 3) RGB
    landmarks: Floats  # (68, 2) in the iBUG order
    points: Floats  # (5, 2) picture-left eye centre, picture-right eye centre, nose tip, picture-left and -right mouth corner
    mask: NDArray[np.bool_]  # (S, S) head, hair and glasses


def render_face(
    person: Person, scene: Scene, state: State, *, size_px: int, framing: Framing = ALIGNED, supersample: int = 2, noise_seed: int = 0
) -> RenderedFace:
    """Draw one face. The same arguments give the same pixels."""
    return render_twins(person, scene, [state], size_px=size_px, framing=framing, supersample=supersample, noise_seed=noise_seed)[0]


def render_twins(
    person: Person,
    scene: Scene,
    states: Sequence[State],
    *,
    size_px: int,
    framing: Framing = ALIGNED,
    supersample: int = 2,
    noise_seed: int = 0,
) -> list[RenderedFace]:
    """One person in one scene in several states; what does not change with the state is made once."""
    side = size_px * supersample
    texture = skin.paint(person)
    behind = background(np.random.default_rng(scene.background_seed), size_px)
    neutral = load_basis().neutral(person.coefficients)
    faces = []
    for state in states:
        light, alpha, place = _draw(person, scene, state, neutral, texture, side, framing)
        if supersample > 1:
            light = cv2.resize(light, (size_px, size_px), interpolation=cv2.INTER_AREA)
            alpha = cv2.resize(alpha, (size_px, size_px), interpolation=cv2.INTER_AREA)
            place = place / supersample
        rng = np.random.default_rng((scene.background_seed, noise_seed))
        image = expose(scene.sensor, light + behind * (1 - alpha[..., None]), rng)
        faces.append(RenderedFace(image, place[5:], place[:5], alpha > 0.5))
    return faces


def changed_mask(a: RenderedFace, b: RenderedFace, threshold: int = 10) -> NDArray[np.bool_]:
    """(S, S) where two twins truly differ: by more than `threshold` grey levels in some channel."""
    return np.asarray(np.abs(a.image.astype(np.int16) - b.image.astype(np.int16)).max(2) > threshold)


def _draw(
    person: Person, scene: Scene, state: State, neutral: Floats, texture: Floats, side: int, framing: Framing
) -> tuple[Floats, Floats, Floats]:
    """Linear light (side, side, 3) without background, coverage (side, side), and 5 + 68 points (73, 2) in px."""
    basis = load_basis()
    moved = actions(state)
    vertices = basis.moved(neutral, moved)
    normals = vertex_normals(vertices, basis.triangles)
    meshes = [
        *parts.head(vertices),
        *parts.eyes(neutral),
        *parts.teeth(neutral, parts.jaw_shift(basis, moved.get("jawOpen", 0.0))),
        *parts.hair(person, vertices, normals),
        *parts.glasses(person, neutral),
        parts.shoulders(neutral),
    ]
    turn = _rotation(scene)
    to_camera = _projector(scene, parts.eye_centres(neutral), neutral, turn, side, framing)
    attributes, triangles, material = _assemble(meshes, turn, normals)
    position = to_camera(attributes[:, shading.POSITION : shading.POSITION + 3])
    depth, buffer, index = rasterise(position, triangles, attributes, side)
    covered = index >= 0
    materials = np.where(covered, material[index], -1).astype(np.int32)
    frame, seen = _light_view(scene, attributes[:, 5:8], triangles, material)
    centres = _turned(parts.eye_centres(neutral), turn)
    light = shading.shade(
        buffer,
        materials,
        shading.occlusion(depth, 0.03 * side if framing is ALIGNED else 0.02 * side),
        skin.wrinkle(texture, state.intensities, person),
        _strands(),
        _colours(person, scene, float(centres[:, 0].mean())),
        np.array([scene.key, scene.key_colour, scene.sky, scene.ground, scene.fill, (0, 0, 1)], np.float32),
        _gaze(scene, turn),
        seen,
        frame,
    )
    spots = np.concatenate([_five(neutral, vertices), landmarks(vertices)])
    return light, covered.astype(np.float32), to_camera(_turned(spots, turn))[:, :2]


def _five(neutral: Floats, vertices: Floats) -> Floats:
    left, right = parts.eye_centres(neutral)
    lines = landmarks(vertices)
    return np.stack([right, left, lines[30], lines[48], lines[54]])


def _rotation(scene: Scene) -> Floats:
    """Head to camera: the picture's x is the subject's left."""
    cy, sy, cp, sp, cr, sr = (f(a) for a in (scene.yaw, scene.pitch, scene.roll) for f in (np.cos, np.sin))
    yaw = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    pitch = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    roll = np.array([[cr, 0, sr], [0, 1, 0], [-sr, 0, cr]])
    return (roll @ pitch @ yaw).astype(np.float32)


def _turned(points: Floats, turn: Floats) -> Floats:
    return ((points - PIVOT) @ turn.T + PIVOT).astype(np.float32)


def _projector(scene: Scene, eyes: Floats, neutral: Floats, turn: Floats, side: int, framing: Framing):  # type: ignore[no-untyped-def]
    """A function from camera-frame metres (V, 3) to (V, 3): x px, y px, depth in metres."""

    def lens(points: Floats) -> Floats:
        far = scene.distance + points[:, 1]
        return np.stack([points[:, 0] * scene.distance / far, -points[:, 2] * scene.distance / far, far], axis=1).astype(np.float32)

    left, right = lens(_turned(eyes, turn))[:, :2]
    if framing is ALIGNED:
        target = np.array(EYES) * side
        a, b = complex(*(left - right)), complex(*(target[1] - target[0]))
        spin = b / a
        start = complex(*target[0]) - spin * complex(*right)
    else:
        dx, dy, share = scene.placement
        spin = complex(share * side / HEAD_HEIGHT, 0)
        middle = lens(_turned(np.array([[0, 0.03, -0.02]], np.float32), turn))[0, :2]
        start = complex((0.5 + dx) * side, (0.5 + dy) * side) - spin * complex(*middle)

    def project(points: Floats) -> Floats:
        flat = lens(points)
        placed = (flat[:, 0] + 1j * flat[:, 1]) * spin + start
        return np.stack([placed.real, placed.imag, flat[:, 2]], axis=1).astype(np.float32)

    return project


def _assemble(meshes: Sequence[parts.Mesh], turn: Floats, skin_normals: Floats) -> tuple[Floats, NDArray[np.int32], NDArray[np.int32]]:
    """All parts as one: attributes (V, A), triangles (T, 3), material (T,)."""
    attributes, triangles, materials = [], [], []
    first = 0
    for mesh in meshes:
        normals = skin_normals if mesh.material <= parts.TONGUE_MATERIAL else parts.normals_of(mesh)
        block = np.zeros((len(mesh.vertices), shading.ATTRIBUTES), np.float32)
        block[:, 0:3] = normals @ turn.T
        block[:, 3:5] = mesh.coordinates
        block[:, 5:8] = _turned(mesh.vertices, turn)
        if mesh.inside is not None:
            block[:, 8] = mesh.inside
        attributes.append(block)
        triangles.append(mesh.triangles + first)
        materials.append(np.full(len(mesh.triangles), mesh.material, np.int32))
        first += len(block)
    return np.concatenate(attributes), np.concatenate(triangles).astype(np.int32), np.concatenate(materials)


def _light_view(scene: Scene, points: Floats, triangles: NDArray[np.int32], material: NDArray[np.int32]) -> tuple[Floats, Floats]:
    """The light's frame for the shader, and the depth it sees. Clothes, eyes and teeth throw no shadow that matters."""
    forward = -np.array(scene.key, np.float64)
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right) + 1e-9
    up = np.cross(right, forward)
    scale = SHADOW_PX / 2 / SHADOW_HALF
    frame = np.array([right, up, forward, [SHADOW_PX / 2, scale, 0.006]], np.float32)
    seen = np.stack([SHADOW_PX / 2 + points @ frame[0] * scale, SHADOW_PX / 2 - points @ frame[1] * scale, points @ frame[2]], axis=1)
    throws = (material == parts.SKIN_MATERIAL) | (material == parts.HAIR_MATERIAL) | (material == parts.FRAME_MATERIAL)
    return frame, shadow_depth(seen.astype(np.float32), np.ascontiguousarray(triangles[throws]), SHADOW_PX)


def _gaze(scene: Scene, turn: Floats) -> Floats:
    left, up = scene.gaze
    ahead = np.array([np.sin(left) * np.cos(up), -np.cos(left) * np.cos(up), np.sin(up)], np.float32)
    return np.stack([turn @ ahead, turn @ ahead])


def _colours(person: Person, scene: Scene, between_eyes: float) -> Floats:
    knobs = [(person.iris_radius, person.gloss, 0.0), (between_eyes, 0.0, 0.0)]
    return np.array([person.hair_colour, scene.cloth, person.frame_colour, person.iris, *knobs], np.float32)


@lru_cache(maxsize=1)
def _strands() -> Floats:
    """(64, 256) noise stretched along the hair."""
    rng = np.random.default_rng(7)
    noise = cv2.resize(rng.random((8, 256)).astype(np.float32), (256, 64), interpolation=cv2.INTER_LINEAR)
    return np.clip(0.7 * noise + 0.3 * rng.random((64, 256)).astype(np.float32), 0, 1)
