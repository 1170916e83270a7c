"""A face drawn: person + scene + state -> picture and truth.

Shape letters: V vertices, T triangles, S side in px.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from affect.faces import EYES
from training.renderer import accessories, meshes, shading
from training.renderer.background import background
from training.renderer.expressions import State, actions
from training.renderer.geometry import load_basis
from training.renderer.landmarks import landmarks
from training.renderer.meshes import Eyeballs, Part
from training.renderer.person import Person
from training.renderer.raster import rasterise, shadow_depth
from training.renderer.scene import Scene
from training.renderer.sensor import expose
from training.renderer.skin import paint, tone
from training.renderer.wrinkles import creases

Floats = NDArray[Any]  # float32
Ints = NDArray[np.int32]

PIVOT = np.array([0.0, 0.07, -0.06], np.float32)  # metres: where the skull sits on the neck
NECK = (
    -0.13,
    -0.08,
)  # metres: below the first height skin follows the body, above the second the head
FOLLOW = 0.35  # share of the head's turn that the body follows
HEAD_HEIGHT = 0.25  # metres from chin to crown
BEHIND = 0.16  # metres behind the eyes from where nothing more darkens
METERED, METERING = (
    (0.16, 0.45),
    0.6,
)  # skin's light that is exposed as it is; how far all else is brought there
OPAQUE = 0.999  # cover from which on nothing shines through
SHADOW_PX, SHADOW_HALF = 160, 0.17  # the light's own picture: side in px, half its width in metres


_THROWS = np.zeros(meshes.MATERIALS, bool)  # a shadow
_THROWS[
    [
        meshes.SKIN_MATERIAL,
        meshes.HAIR_MATERIAL,
        meshes.FRAME_MATERIAL,
        meshes.COVER_MATERIAL,
        meshes.HAND_MATERIAL,
    ]
] = True


class Framing(Enum):
    """How the face sits in the picture."""

    ALIGNED = "aligned"  # pupils at affect.faces.EYES
    LOOSE = "loose"  # the whole head, anywhere, as the scene's placement says


ALIGNED, LOOSE = Framing.ALIGNED, Framing.LOOSE


@dataclass(frozen=True)
class RenderedFace:
    """A picture and what is true of it. Points are px, x right, y down, pixel centres at .5."""

    image: NDArray[np.uint8]  # (S, S, 3) RGB
    landmarks: Floats  # (68, 2) in the iBUG order
    points: Floats  # (5, 2) pupils (open or not), nose tip, mouth corners; the picture's left first
    mask: NDArray[np.bool_]  # (S, S) face: skin, eyes and mouth in sight
    # (S, S) what the middle of each pixel shows: 0 the background, else 1 + the place in
    # meshes.NAMES
    parts: NDArray[np.uint8]
    # degrees of the head in the picture: yaw, pitch, roll as `affect.labels.POSE` says
    pose: tuple[float, float, float]
    light: Floats  # (S, S, 3) linear light before the camera, for exact differences between twins


@dataclass(frozen=True)
class _Camera:
    """Head frame to picture: turn, lens, and a similarity in the picture (complex spin and
    start).
    """

    turn: Floats
    body: Floats
    distance: float
    spin: complex
    start: complex

    def place(self, points: Floats) -> Floats:
        """(V, 3) head frame -> camera frame, metres; the neck bends between body and head."""
        share = np.clip((points[:, 2:] - NECK[0]) / (NECK[1] - NECK[0]), 0, 1)
        arm = points - PIVOT
        return (share * (arm @ self.turn.T) + (1 - share) * (arm @ self.body.T) + PIVOT).astype(
            np.float32
        )

    def project(self, placed: Floats) -> Floats:
        """(V, 3) camera frame -> x px, y px, depth in metres."""
        flat = _lens(placed, self.distance)
        on = (flat[:, 0] + 1j * flat[:, 1]) * self.spin + self.start
        return np.stack([on.real, on.imag, flat[:, 2]], axis=1).astype(np.float32)


@dataclass(frozen=True)
class _Studio:
    """What twins share, made once: paint, neutral shape, unmoving parts, camera, background."""

    person: Person
    scene: Scene
    camera: _Camera
    side: int
    paint: Floats
    neutral: Floats
    resting: Floats  # the neutral head with the person's own lids, brows and lips
    balls: Eyeballs
    still: list[Part]
    translucent: list[Part]  # what lets light through: hair and lenses
    background: Floats
    metering: float  # gain of the camera that looks at this face


def render_face(
    person: Person,
    scene: Scene,
    state: State,
    *,
    size_px: int,
    framing: Framing = ALIGNED,
    supersample: int = 2,
) -> RenderedFace:
    """Draw one face. The same arguments give the same pixels."""
    return render_twins(
        person, scene, [state], size_px=size_px, framing=framing, supersample=supersample
    )[0]


def render_twins(
    person: Person,
    scene: Scene,
    states: Sequence[State],
    *,
    size_px: int,
    framing: Framing = ALIGNED,
    supersample: int = 2,
) -> list[RenderedFace]:
    """One person in one scene in several states; what does not change with the state is made
    once.
    """
    studio = _set_up(person, scene, size_px, size_px * supersample, framing)
    return [_shoot(studio, state, size_px) for state in states]


def changed_mask(
    a: RenderedFace, b: RenderedFace, *, grey_levels: float = 1.0
) -> NDArray[np.bool_]:
    """(S, S) where two twins differ by at least so many grey levels of 255, before the camera's
    noise and compression.
    """
    shown = [np.clip(face.light, 0, 1) ** (1 / 2.2) * 255 for face in (a, b)]
    return np.asarray(np.abs(shown[0] - shown[1]).max(2) >= grey_levels)


def _set_up(person: Person, scene: Scene, size_px: int, side: int, framing: Framing) -> _Studio:
    neutral = load_basis().neutral(person.coefficients)
    balls = meshes.eyeballs(neutral)
    still = [*meshes.eyes(balls, scene.gaze), accessories.shoulders(neutral, scene.collar)]
    translucent = accessories.hair(person, neutral)
    if person.cover is not None:
        translucent = accessories.cover(person.cover, neutral)
    if scene.scarf is not None:
        translucent.append(accessories.scarf(scene.scarf, neutral))
    if scene.hand is not None:
        translucent.extend(accessories.hand(scene.hand, neutral))
    if person.glasses is not None:
        frame = accessories.glasses(person.glasses, neutral, balls)
        still, translucent = [*still, *frame], [*translucent, *accessories.lenses(frame)]
    return _Studio(
        person, scene, _camera(scene, balls, side, framing), side, paint(person), neutral,
        load_basis().moved(neutral, person.motion.rest), balls, still, translucent,
        background(np.random.default_rng(scene.seed), size_px, outdoors=scene.outdoors),
        metering(person, scene),
    )  # fmt: skip


def _shoot(studio: _Studio, state: State, size_px: int) -> RenderedFace:
    moves = actions(state, studio.person.motion.amplitudes)
    vertices = meshes.close_over(load_basis().moved(studio.resting, moves), studio.balls)
    picture, face, materials = _draw(studio, state, vertices, meshes.jaw_move(moves))
    step = studio.side // size_px
    seen = np.ascontiguousarray(materials[step // 2 :: step, step // 2 :: step] + 1).astype(
        np.uint8
    )
    if studio.side != size_px:
        picture, face = (
            cv2.resize(layer, (size_px, size_px), interpolation=cv2.INTER_AREA)
            for layer in (picture, face)
        )
    light = picture[..., :3] + studio.background * (1 - picture[..., 3:])
    light = _lifted(light, studio.metering)
    image = expose(studio.scene.sensor, light, np.random.default_rng([studio.scene.seed, 1]))
    spots = landmarks(vertices)
    left, right = studio.balls.pupils(studio.scene.gaze)
    spots = np.concatenate([spots, np.stack([right, left, spots[30], spots[48], spots[54]])])
    place = studio.camera.project(studio.camera.place(spots))[:, :2] * (size_px / studio.side)
    return RenderedFace(
        image,
        place[:68],
        place[68:],
        face > 0.5,
        seen,
        pose_degrees(studio.camera.turn, studio.camera.spin),
        light,
    )


def metering(person: Person, scene: Scene) -> float:
    """Gain of exposure: who takes pictures of people makes a face in shadow, or a dark one, as
    legible as a light one.
    """
    key, sky, ground, fill = (
        float(np.mean(colour))
        for colour in (scene.key_colour, scene.sky, scene.ground, scene.fill_colour)
    )
    light = 0.6 * key * max(-scene.key[1], 0.2) + 0.4 * sky + 0.3 * ground + 0.5 * fill
    skin = float(tone(person.melanin).mean()) * light * scene.sensor.exposure
    return float(np.clip((np.clip(skin, *METERED) / skin) ** METERING, 0.5, 2.2))


def _lifted(light: Floats, gain: float) -> Floats:
    """Shadows lit up by a gain above 1, whites left as they are; all dimmed by one below."""
    if gain <= 1:
        return np.asarray(gain * light, np.float32)
    return np.asarray(gain * light / (1 + (gain - 1) * np.clip(light, 0, None)), np.float32)


def _draw(
    studio: _Studio, state: State, vertices: Floats, jaw: Floats
) -> tuple[Floats, Floats, Ints]:
    """Premultiplied linear light and cover (side, side, 4), how much of each pixel is face and what
    it shows (side, side).
    """
    side, person = studio.side, studio.person
    solid = _assemble(
        [
            *meshes.head(vertices),
            *studio.still,
            *meshes.teeth(studio.neutral, jaw, person.motion.tooth_drop_mm),
        ],
        studio.camera,
    )
    strands = _assemble(studio.translucent, studio.camera) if studio.translucent else None
    shadow, frame = _shadow(studio.scene, [solid] if strands is None else [solid, strands])
    furrows = creases(person.seed, _crease_depths(person, studio.scene, state))[..., None]
    materials = shading.Paint(studio.paint, _strands(), _colours(studio, side))
    lights = shading.Light(_lights(studio.scene), shadow, frame)
    seen = _see(solid, studio.camera, side)
    if strands is None:
        picture = _light(seen, studio.camera, furrows, materials, lights)
        return picture, _is_face(seen.materials), seen.materials
    translucent = _see(strands, studio.camera, side)
    translucent.materials[
        translucent.depth >= seen.depth
    ] = -1  # what is behind something solid need not be lit
    over = _light(translucent, studio.camera, furrows, materials, lights)
    hidden = over[..., 3] > OPAQUE
    face = _is_face(seen.materials) * (1 - over[..., 3])
    shown = np.where(over[..., 3] > 0.5, translucent.materials, seen.materials)
    seen.materials[cv2.erode(hidden.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0] = -1
    picture = _light(seen, studio.camera, furrows, materials, lights)
    shading.lay_over(picture, over)
    return picture, face, shown


def _crease_depths(person: Person, scene: Scene, state: State) -> dict[str, tuple[float, float]]:
    """Depths of furrows on the left and right, by FACS code and "age": the person's and the
    light's, not the AU's alone.
    """
    age = float(np.interp(person.age, [25, 45, 85], [0.0, 0.3, 1.1]))
    depths = {"age": (age, age)}
    for code in {**state.intensities, **person.motion.lasting}:
        lasting, gain = person.motion.lasting.get(code, 0.0), person.motion.creases[code]
        left, right = (lasting + gain * state.side(code, left=side) for side in (True, False))
        depths[code] = (left, right)
    return {code: (scene.relief * a, scene.relief * b) for code, (a, b) in depths.items()}


def _is_face(materials: Ints) -> Floats:
    return ((materials >= meshes.SKIN_MATERIAL) & (materials <= meshes.TEETH_MATERIAL)).astype(
        np.float32
    )


@dataclass(frozen=True)
class _Seen:
    """What each pixel shows, before light: depth (S, S), attributes (S, S, A), material (S, S), -1
    for nothing.
    """

    depth: Floats
    attributes: Floats
    materials: Ints


def _see(mesh: "_Mesh", camera: _Camera, side: int) -> _Seen:
    position = camera.project(mesh.attributes[:, shading.POSITION :])
    depth, buffer, index = rasterise(position, mesh.triangles, mesh.attributes, side, mesh.closed)
    return _Seen(depth, buffer, np.where(index >= 0, mesh.materials[index], -1).astype(np.int32))


def _light(
    seen: _Seen,
    camera: _Camera,
    furrows: Floats,
    paint: shading.Paint,
    lights: shading.Light,
) -> Floats:
    """Shaded pixels (side, side, 4)."""
    open_ = shading.occlusion(seen.depth, 0.024 * abs(camera.spin), camera.distance + BEHIND)
    depth = shading.furrow_pixels(seen.attributes, seen.materials, furrows)
    pixels = shading.Pixels(seen.attributes, seen.materials, depth, open_)
    return shading.shade(pixels, paint, lights)


@dataclass(frozen=True)
class _Mesh:
    """Several parts as one: attributes (V, A), triangles (T, 3), material (T,); the first `closed`
    triangles are skin.
    """

    attributes: Floats
    triangles: Ints
    materials: Ints
    closed: int


def _assemble(pieces: Sequence[Part], camera: _Camera) -> _Mesh:
    blocks, triangles, materials = [], [], []
    first = 0
    for piece in pieces:
        placed = camera.place(piece.vertices)
        blocks.append(
            np.concatenate([piece.normals @ camera.turn.T, piece.coordinates, placed], axis=1)
        )
        triangles.append(piece.triangles + np.int32(first))
        materials.append(np.full(len(piece.triangles), piece.material, np.int32))
        first += len(placed)
    closed = len(pieces[0].triangles) if pieces[0].material == meshes.SKIN_MATERIAL else 0
    return _Mesh(
        np.concatenate(blocks).astype(np.float32),
        np.concatenate(triangles),
        np.concatenate(materials),
        closed,
    )


def _shadow(scene: Scene, meshes: Sequence[_Mesh]) -> tuple[Floats, Floats]:
    """The depth that the main light sees of skin, hair and glasses, and its frame for the
    shader.
    """
    forward = -np.array(scene.key)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right) + 1e-9
    scale = SHADOW_PX / 2 / SHADOW_HALF
    frame = np.array(
        [
            right,
            np.cross(right, forward),
            forward,
            [SHADOW_PX / 2, scale, 0.006],
            [scene.key_softness, 0, 0],
        ],
        np.float32,
    )
    seen = np.full((SHADOW_PX, SHADOW_PX), 1e9, np.float32)
    for mesh in meshes:
        points = mesh.attributes[:, shading.POSITION :]
        position = np.stack(
            [
                SHADOW_PX / 2 + points @ frame[0] * scale,
                SHADOW_PX / 2 - points @ frame[1] * scale,
                points @ frame[2],
            ],
            axis=1,
        )
        throws = _THROWS[mesh.materials]
        triangles = np.ascontiguousarray(mesh.triangles[throws])
        seen = np.minimum(
            seen, shadow_depth(position.astype(np.float32), triangles, SHADOW_PX, mesh.closed)
        )
    return seen, frame


def _camera(scene: Scene, balls: Eyeballs, side: int, framing: Framing) -> _Camera:
    turn = _rotation(scene.yaw, scene.pitch, scene.roll)
    body = _rotation(FOLLOW * scene.yaw, FOLLOW * scene.pitch, 0.0)
    unplaced = _Camera(turn, body, scene.distance, 1 + 0j, 0j)
    if framing is ALIGNED:
        left, right = (
            complex(*_lens(unplaced.place(centre[None]), scene.distance)[0, :2])
            for centre in balls.pupils(scene.gaze)
        )
        targets = [complex(*eye) * side for eye in EYES]
        spin = (targets[1] - targets[0]) / (left - right)
        start = targets[0] - spin * right
    else:
        dx, dy, share = scene.placement
        spin = complex(share * side / HEAD_HEIGHT)
        middle = _lens(unplaced.place(np.array([[0, 0.03, -0.01]], np.float32)), scene.distance)[
            0, :2
        ]
        start = complex(0.5 + dx, 0.5 + dy) * side - spin * complex(*middle)
    return _Camera(turn, body, scene.distance, spin, start)


def pose_degrees(turn: Floats, spin: complex) -> tuple[float, float, float]:
    """Yaw, pitch and roll of a head in the picture, from its turn (3, 3) before the camera and the
    picture's spin.

    Yaw and pitch say where the nose points in the picture (right and up are positive), roll turns
    the head about that direction (clockwise is positive): turn = about z by yaw, after about x by
    pitch, after about y by roll. An aligned crop's eyes are level, so its roll is near 0.
    """
    seen = _rotation(0.0, 0.0, float(np.angle(spin))) @ turn
    nose = -seen[:, 1]
    yaw, pitch = np.arctan2(nose[0], -nose[1]), np.arcsin(np.clip(nose[2], -1, 1))
    upright = (_rotation(yaw, 0.0, 0.0) @ _rotation(0.0, pitch, 0.0)).T @ seen
    roll = np.arctan2(upright[0, 2], upright[2, 2])
    y, p, r = (float(np.degrees(angle)) for angle in (yaw, pitch, roll))
    return y, p, r


def _lens(placed: Floats, distance: float) -> Floats:
    far = distance + placed[:, 1]
    return np.stack(
        [placed[:, 0] * distance / far, -placed[:, 2] * distance / far, far], axis=1
    ).astype(np.float32)


def _rotation(yaw: float, pitch: float, roll: float) -> Floats:
    cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (np.cos, np.sin))
    about_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    about_y = np.array([[cr, 0, sr], [0, 1, 0], [-sr, 0, cr]])
    return np.asarray(about_y @ about_x @ about_z, np.float32)


def _lights(scene: Scene) -> Floats:
    return np.array(
        [scene.key, scene.key_colour, scene.sky, scene.ground, scene.fill, scene.fill_colour],
        np.float32,
    )


def _colours(studio: _Studio, side: int) -> Floats:
    person = studio.person
    frame = person.glasses.colour if person.glasses else (0.0, 0.0, 0.0)
    iris_angle = float(np.arcsin(0.0060 / studio.balls.radius))
    # furrows are slopes per mm, the shader sees them per px
    px_per_mm = abs(studio.camera.spin) / 1000
    knobs = [
        (iris_angle, person.lashes, person.tooth_shade),
        (0.75 * px_per_mm, person.glasses.tint if person.glasses else 0.0, 0),
    ]
    knitted = (
        studio.scene.scarf.colour
        if studio.scene.scarf
        else person.cover.colour
        if person.cover
        else (0.0, 0.0, 0.0)
    )
    palm = tone(person.melanin) * (1.0, 0.85, 0.82)
    return np.array(
        [person.hair.colour, studio.scene.cloth, frame, person.iris, *knobs, knitted, palm],
        np.float32,
    )


@lru_cache(maxsize=1)
def _strands() -> Floats:
    """(64, 256) noise in [0, 1], stretched along the hair."""
    rng = np.random.default_rng(7)
    stretched = cv2.resize(
        rng.random((8, 256)).astype(np.float32), (256, 64), interpolation=cv2.INTER_LINEAR
    )
    return np.clip(0.75 * stretched + 0.25 * rng.random((64, 256)).astype(np.float32), 0, 1)
