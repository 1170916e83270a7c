"""Faces that can be trusted: where the eyes are, which side is left, what an Action Unit changes,
what it does not.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from affect.faces import EYES
from training.renderer.expressions import AU_CODES, NEUTRAL_STATE, State, single
from training.renderer.face import (
    ALIGNED,
    LOOSE,
    Framing,
    RenderedFace,
    changed_mask,
    render_face,
    render_twins,
)
from training.renderer.person import Beard, Cover, Person, draw_person
from training.renderer.scene import Hand, Scarf, Scene, draw_scene

SIZE = 96
GREEN = (0.0, 0.9, 0.0)


@pytest.fixture(scope="module")
def person() -> Person:
    """A bare face with irises that nothing else in the picture looks like."""
    drawn = draw_person(np.random.default_rng(5))
    hair = replace(drawn.hair, fringe_mm=None)
    beard = Beard(0.0, 0.0, 0.0, 0.0, drawn.beard.colour)
    return replace(
        drawn,
        iris=GREEN,
        glasses=None,
        cover=None,
        hair=hair,
        beard=beard,
        eye_shadow=0.0,
        lipstick=None,
    )


@pytest.fixture(scope="module")
def scene() -> Scene:
    """Straight on, in plain white light, through a good camera."""
    drawn = draw_scene(np.random.default_rng(5))
    sensor = replace(
        drawn.sensor,
        exposure=1.0,
        balance=(1.0, 1.0, 1.0),
        blur=0.0,
        shot_noise=0.0,
        read_noise=0.0,
        jpeg_quality=None,
        contrast=1.0,
    )
    white = (0.6, 0.6, 0.6)
    return replace(
        drawn,
        yaw=0.0,
        pitch=0.0,
        roll=0.0,
        gaze=(0.0, 0.0),
        scarf=None,
        hand=None,
        distance=1.5,
        key=(0.0, -0.9, 0.436),
        key_colour=white,
        sky=white,
        ground=white,
        sensor=sensor,
    )


@pytest.fixture(scope="module")
def neutral(person: Person, scene: Scene) -> RenderedFace:
    return render_face(person, scene, NEUTRAL_STATE, size_px=SIZE)


def irises(face: RenderedFace) -> NDArray[np.bool_]:
    """Pixels around the eyes that are clearly green."""
    r, g, b = (face.image[..., k].astype(int) for k in range(3))
    green = (g > r + 25) & (g > b + 25)
    green[int(0.5 * len(green)) :] = False
    return green


def test_the_same_arguments_give_the_same_pixels(
    person: Person, scene: Scene, neutral: RenderedFace
) -> None:
    assert np.array_equal(
        render_face(person, scene, NEUTRAL_STATE, size_px=SIZE).image, neutral.image
    )


def test_irises_are_seen_where_an_aligned_crop_has_its_eyes(neutral: RenderedFace) -> None:
    rows, columns = np.nonzero(irises(neutral))
    for (x, y), seen in zip(EYES, (columns < SIZE / 2, columns > SIZE / 2), strict=True):
        assert seen.sum() > 8
        assert abs(columns[seen].mean() + 0.5 - x * SIZE) < 0.025 * SIZE
        assert abs(rows[seen].mean() + 0.5 - y * SIZE) < 0.025 * SIZE


@pytest.mark.parametrize("seed", range(4))
def test_eye_centres_of_any_scene_land_on_the_aligned_places(seed: int) -> None:
    rng = np.random.default_rng(seed)
    face = render_face(draw_person(rng), draw_scene(rng), NEUTRAL_STATE, size_px=SIZE)
    assert np.abs(face.points[:2] / SIZE - np.array(EYES)).max() < 0.005


def test_closed_eyes_hide_the_irises(person: Person, scene: Scene, neutral: RenderedFace) -> None:
    closed = render_face(person, scene, single("AU43", 1.0), size_px=SIZE)
    assert irises(closed).sum() < 0.05 * irises(neutral).sum()


def test_the_subjects_left_is_the_pictures_right(
    person: Person, scene: Scene, neutral: RenderedFace
) -> None:
    wink = render_face(
        person, scene, State({"AU43": 0.5}, {"AU43": 2.0}, None, None, None), size_px=SIZE
    )
    hidden = irises(neutral) & ~irises(wink)
    assert hidden[:, SIZE // 2 :].sum() > 5 * max(hidden[:, : SIZE // 2].sum(), 1)


def bands(face: RenderedFace) -> dict[str, tuple[float, float]]:
    """Rows (top, bottom) of the parts of a frontal face, from its landmarks."""
    brow, eye, nose, mouth = (
        face.landmarks[17:27, 1].min(),
        face.points[:2, 1].mean(),
        face.points[2, 1],
        face.points[3:, 1].mean(),
    )
    between = mouth - eye
    return {
        "upper": (brow - 0.5 * between, eye),
        "eye": (brow, eye + 0.35 * between),
        "middle": (brow, mouth),
        "lower": (nose - 0.2 * between, SIZE),
    }


BANDS = (
    dict.fromkeys(("AU1", "AU2", "AU4"), "upper")
    | dict.fromkeys(("AU5", "AU7", "AU43"), "eye")
    | dict.fromkeys(("AU6", "AU9"), "middle")
)


@pytest.mark.parametrize("code", AU_CODES)
def test_an_action_unit_is_seen_and_changes_its_own_part_of_the_face(
    code: str, person: Person, scene: Scene, neutral: RenderedFace
) -> None:
    moved = render_face(person, scene, single(code, 1.0), size_px=SIZE)
    difference = np.abs(moved.image.astype(float) - neutral.image).mean(2)
    top, bottom = bands(neutral)[BANDS.get(code, "lower")]
    rows = np.arange(SIZE)
    assert changed_mask(neutral, moved, grey_levels=6).sum() > 0.005 * SIZE**2
    assert difference[(rows >= top) & (rows <= bottom)].sum() > 0.6 * difference.sum()


def test_twins_share_every_pixel_that_the_mask_does_not_name(person: Person, scene: Scene) -> None:
    a, b = render_twins(person, scene, [NEUTRAL_STATE, single("AU12", 1.0)], size_px=SIZE)
    assert changed_mask(a, b)[a.mask].any()
    assert changed_mask(a, b)[: SIZE // 4].mean() < 0.005  # a smile leaves the forehead as it is
    outside = ~changed_mask(a, b)
    assert outside.mean() > 0.2
    assert np.abs(a.image[outside].astype(int) - b.image[outside]).max() <= 2


COVERS = (Cover("hat", (0.0, 0.0, 0.8), 45.0, 6.0), Cover("headscarf", (0.0, 0.0, 0.8), 50.0, 4.0))
WORN: list[dict[str, Any]] = [{"cover": cover} for cover in COVERS]
WORN += [{"scarf": Scarf((0.0, 0.0, 0.8), -86.0, 0.0)}, {"hand": Hand(-1.0, 22.0, -40.0, 0.05, 4)}]


@pytest.mark.parametrize("worn", WORN, ids=["hat", "headscarf", "scarf", "hand"])
def test_what_is_worn_hides_what_is_behind_it_and_moves_nothing(
    worn: dict[str, Any], person: Person, scene: Scene, neutral: RenderedFace
) -> None:
    dressed = replace(person, **{k: v for k, v in worn.items() if hasattr(person, k)})
    placed = replace(scene, **{k: v for k, v in worn.items() if hasattr(scene, k)})
    face = render_face(dressed, placed, NEUTRAL_STATE, size_px=SIZE)
    hidden = neutral.mask & ~face.mask
    assert 0.01 < hidden.mean() < 0.35
    assert np.array_equal(face.landmarks, neutral.landmarks)
    assert irises(face).sum() > 0.9 * irises(neutral).sum()  # never the eyes


def test_a_loose_picture_shows_the_whole_head_where_the_scene_puts_it(
    person: Person, scene: Scene
) -> None:
    face = render_face(
        person,
        replace(scene, placement=(0.1, -0.05, 0.5)),
        NEUTRAL_STATE,
        size_px=SIZE,
        framing=LOOSE,
    )
    assert face.landmarks.min() > 0
    assert face.landmarks.max() < SIZE
    assert 0.5 * SIZE < face.points[:, 0].mean() < 0.7 * SIZE


@pytest.mark.parametrize("framing", [ALIGNED, LOOSE])
def test_landmarks_turn_with_the_head(framing: Framing, person: Person, scene: Scene) -> None:
    faces = [
        render_face(person, replace(scene, yaw=yaw), NEUTRAL_STATE, size_px=SIZE, framing=framing)
        for yaw in (-0.4, 0.4)
    ]
    nose_from_eyes = [face.points[2, 0] - face.points[:2, 0].mean() for face in faces]
    assert nose_from_eyes[0] < 0 < nose_from_eyes[1]


@pytest.mark.parametrize(("yaw", "pitch"), [(0.5, 0.0), (-0.5, 0.2), (0.0, 0.3), (0.8, -0.3)])
def test_pose_says_where_the_nose_points_in_the_picture(
    yaw: float, pitch: float, person: Person, scene: Scene
) -> None:
    turned = replace(scene, yaw=yaw, pitch=pitch, roll=0.1)
    face = render_face(person, turned, NEUTRAL_STATE, size_px=SIZE, framing=LOOSE)
    assert np.allclose(
        face.pose[:2], np.degrees([yaw, pitch]), atol=6
    )  # a roll turns both a little
    tip = face.points[2] - face.points[:2].mean(0)
    assert np.sign(tip[0]) == np.sign(face.pose[0]) or abs(yaw) < 0.1


def test_pose_counts_a_clockwise_roll_as_positive_and_a_level_face_as_none(
    person: Person, scene: Scene
) -> None:
    rolled = replace(scene, roll=0.3)
    loose, aligned = (
        render_face(person, rolled, NEUTRAL_STATE, size_px=SIZE, framing=framing)
        for framing in (LOOSE, ALIGNED)
    )
    eyes = loose.points[1] - loose.points[0]
    assert np.degrees(np.arctan2(eyes[1], eyes[0])) == pytest.approx(loose.pose[2], abs=2)
    assert loose.pose[2] == pytest.approx(np.degrees(0.3), abs=2)
    assert aligned.pose == pytest.approx((0.0, 0.0, 0.0), abs=2)


def test_looking_up_is_a_positive_pitch(person: Person, scene: Scene) -> None:
    up, down = (
        render_face(person, replace(scene, pitch=pitch), NEUTRAL_STATE, size_px=SIZE)
        for pitch in (0.3, -0.3)
    )
    assert up.pose[2] == pytest.approx(0, abs=2) and up.pose[1] > 15 > -15 > down.pose[1]
    drop = [face.points[2, 1] - face.points[:2, 1].mean() for face in (up, down)]
    assert drop[0] < drop[1]  # the nose's tip comes nearer to the eyes


def test_furrows_are_the_persons_and_not_the_action_units(person: Person, scene: Scene) -> None:
    smooth = replace(person.motion, creases=dict.fromkeys(AU_CODES, 0.0), lasting={})
    folded = replace(smooth, creases=dict.fromkeys(AU_CODES, 1.0))
    worn = replace(smooth, lasting={"AU4": 1.0})
    frown = single("AU4", 1.0)
    bare, deep = (
        render_face(replace(person, motion=motion), scene, frown, size_px=SIZE)
        for motion in (smooth, folded)
    )
    calm, lined = (
        render_face(replace(person, motion=motion), scene, NEUTRAL_STATE, size_px=SIZE)
        for motion in (smooth, worn)
    )
    assert changed_mask(bare, deep, grey_levels=6).any()
    assert changed_mask(calm, lined, grey_levels=6).any()
    assert (
        changed_mask(calm, bare, grey_levels=6).sum()
        > changed_mask(bare, deep, grey_levels=6).sum()
    )


def test_a_dark_face_is_exposed_as_legibly_as_a_light_one(person: Person, scene: Scene) -> None:
    light, dark = (
        render_face(replace(person, melanin=m), scene, NEUTRAL_STATE, size_px=SIZE)
        for m in (2.0, 9.5)
    )
    assert dark.image[dark.mask].mean() > 0.4 * light.image[light.mask].mean()
    assert dark.image[dark.mask].std() > 0.5 * light.image[light.mask].std()
