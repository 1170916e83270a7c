"""From photograph to aligned crop: one face, several, turned, small, none."""

import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from affect.cascade import HeadCascade, HeadSearch, Square
from affect.faces import (
    CASCADES,
    EYES,
    SMALLEST_FACE_PX,
    Face,
    FaceFinder,
    NoFaceError,
    NoSuchFaceError,
    align,
    crops,
)
from affect.images import checked_header, decode, decode_header
from affect.landmarks import Box, Landmarks, box_of_points, cut
from training.renderer.expressions import NEUTRAL_STATE
from training.renderer.face import LOOSE, render_face
from training.renderer.person import draw_person
from training.renderer.scene import draw_scene

U8 = NDArray[np.uint8]
# Eye centres of the portrait that scikit-image ships, found by eye on the picture.
PORTRAIT_EYES = np.array([[203.5, 103.5], [245.0, 105.0]])


@pytest.fixture(scope="module")
def portrait() -> NDArray[np.uint8]:
    picture: NDArray[np.uint8] = data.astronaut()
    return picture


@pytest.fixture(scope="module")
def finder() -> FaceFinder:
    return FaceFinder()


def test_the_eyes_of_a_photograph_are_found(
    portrait: NDArray[np.uint8], finder: FaceFinder
) -> None:
    (face,) = finder.find(portrait)
    between = np.linalg.norm(PORTRAIT_EYES[1] - PORTRAIT_EYES[0])
    assert (
        np.linalg.norm(face.points[:2] - PORTRAIT_EYES, axis=1).max() < 0.1 * between
        and face.confidence > 0.9
    )


def test_aligned_eyes_lie_where_they_must() -> None:
    image = np.zeros((200, 200, 3), np.uint8)
    eyes = np.array([[60.0, 90.0], [120.0, 70.0]], np.float32)
    for x, y in eyes:
        cv2.circle(image, (int(x), int(y)), 4, (255, 255, 255), -1)
    crop = align(image, eyes, 100)
    for x, y in EYES:
        window = crop[
            round(y * 100) - 8 : round(y * 100) + 8, round(x * 100) - 8 : round(x * 100) + 8, 0
        ].astype(float)
        centre = np.array([(window * axis).sum() / window.sum() for axis in np.mgrid[0:16, 0:16]])
        assert np.abs(centre + 0.5 - 8).max() < 0.7


def test_a_crop_maps_points_there_and_back() -> None:
    box = Box(50.0, 60.0, 40.0, 0.3)
    _, transform = cut(np.zeros((120, 120, 3), np.uint8), box)
    assert transform @ [50.0, 60.0, 1.0] == pytest.approx([32.0, 32.0])


def test_a_box_of_points_turns_with_the_eyes() -> None:
    points = np.array([[0, 0], [10, 10], [4, 8], [-2, 10], [5, 17]], np.float32)
    assert box_of_points(points).angle == pytest.approx(np.pi / 4)


@pytest.mark.parametrize("degrees", [-40, -15, 15, 40])
def test_a_tilted_head_is_put_upright(
    portrait: NDArray[np.uint8], finder: FaceFinder, degrees: float
) -> None:
    turn = cv2.getRotationMatrix2D((224, 110), degrees, 1.0)
    tilted = np.asarray(
        cv2.warpAffine(portrait, turn, (512, 512), borderMode=cv2.BORDER_REPLICATE), np.uint8
    )
    eyes = PORTRAIT_EYES @ turn[:, :2].T + turn[:, 2]
    face = finder.find(tilted)[0]
    assert np.linalg.norm(face.points[:2] - eyes, axis=1).max() < 0.15 * np.linalg.norm(
        eyes[1] - eyes[0]
    )


def test_a_face_without_room_around_it_is_found(
    portrait: NDArray[np.uint8], finder: FaceFinder
) -> None:
    tight = np.ascontiguousarray(portrait[70:170, 177:272])
    face = finder.find(tight)[0]
    assert np.linalg.norm(face.points[:2] + [177, 70] - PORTRAIT_EYES, axis=1).max() < 5


def test_a_photograph_taken_with_the_camera_turned_has_the_same_face(
    portrait: NDArray[np.uint8], finder: FaceFinder
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise to view
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(np.rot90(portrait))).save(out, "PNG", exif=exif)
    assert np.array_equal(
        finder.find(decode(out.getvalue()))[0].points, finder.find(portrait)[0].points
    )


def test_a_head_turned_far_aside_is_found_whole_or_not_at_all(finder: FaceFinder) -> None:
    scene = replace(draw_scene(np.random.default_rng(1)), yaw=1.5, placement=(0.0, 0.0, 0.7))
    profile = render_face(
        draw_person(np.random.default_rng(1)), scene, NEUTRAL_STATE, size_px=200, framing=LOOSE
    )
    for face in finder.find(profile.image):
        assert (
            np.isfinite(face.points).all()
            and np.linalg.norm(face.points[2] - profile.points[2]) < 30
        )


def test_heads_turned_by_seventy_degrees_are_found(finder: FaceFinder) -> None:
    located = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        scene = replace(draw_scene(rng), yaw=1.22 * (-1) ** seed, placement=(0.0, 0.0, 0.7))
        head = render_face(draw_person(rng), scene, NEUTRAL_STATE, size_px=240, framing=LOOSE)
        middle = box_of_points(head.points)
        faces = [box_of_points(face.points) for face in finder.largest(head.image)]
        located += any(np.hypot(f.x - middle.x, f.y - middle.y) < 0.3 * middle.side for f in faces)
    assert located >= 5


@pytest.mark.parametrize("shape", [(8, 8), (8, 60_000), (60_000, 8), (1000, 9)])
def test_a_picture_of_any_shape_is_searched(finder: FaceFinder, shape: tuple[int, int]) -> None:
    assert finder.find(np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)) == []


def test_a_crop_costs_what_it_shows_not_what_the_picture_holds(portrait: NDArray[np.uint8]) -> None:
    face = Box(224.0, 120.0, 96.0, 0.2)
    wide = cv2.copyMakeBorder(portrait, 512, 512, 1024, 1024, cv2.BORDER_REFLECT)
    assert (
        np.abs(
            cut(np.asarray(wide, np.uint8), Box(1248.0, 632.0, 96.0, 0.2))[0].astype(int)
            - cut(portrait, face)[0]
        ).max()
        <= 1
    )


def test_what_lies_outside_the_picture_repeats_its_edge(portrait: NDArray[np.uint8]) -> None:
    crop, _ = cut(portrait, Box(-500.0, 256.0, 60.0))
    assert crop.std(axis=1).max() == 0 and crop.std() > 0


def test_several_faces_come_largest_first(portrait: NDArray[np.uint8], finder: FaceFinder) -> None:
    head = portrait[20:240, 110:340]
    small = cv2.resize(head, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
    both = np.full((230, 420, 3), 128, np.uint8)
    both[5 : 5 + small.shape[0], 5 : 5 + small.shape[1]] = small
    both[5:225, 180:410] = head
    located = crops(finder, both, faces="all", size_px=64)
    assert len(located) == 2
    sizes = [face.box[2] for face, _ in located if face]
    assert sizes[0] > sizes[1]
    assert len(crops(finder, both, faces="largest", size_px=64)) == 1


def test_a_thorough_search_finds_small_faces_beside_large_ones(
    portrait: NDArray[np.uint8], finder: FaceFinder
) -> None:
    scene = np.full((1000, 1200, 3), 128, np.uint8)
    scene[100:980, 200:1120] = cv2.resize(
        portrait[20:240, 110:340], (920, 880), interpolation=cv2.INTER_CUBIC
    )
    tiny = cv2.resize(portrait[20:240, 110:340], (76, 73), interpolation=cv2.INTER_AREA)
    scene[10:83, 20:96] = tiny
    assert len(finder.find(scene)) == 1
    assert len(crops(finder, scene, faces="all", size_px=64)) == 2


def test_a_face_of_32_px_is_found(portrait: NDArray[np.uint8], finder: FaceFinder) -> None:
    small = cv2.resize(portrait, (190, 190), interpolation=cv2.INTER_AREA)
    assert len(finder.find(np.asarray(small, np.uint8))) == 1


@pytest.mark.parametrize("kind", ["flat", "noise", "bricks"])
def test_no_face_is_reported_with_a_remedy(finder: FaceFinder, kind: str) -> None:
    pictures = {
        "flat": np.full((300, 300, 3), 90, np.uint8),
        "noise": np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8),
        "bricks": np.repeat(np.asarray(data.brick()[..., None], np.uint8), 3, axis=2),
    }
    with pytest.raises(NoFaceError, match="upright face"):
        crops(finder, pictures[kind], size_px=64)


def test_an_aligned_crop_is_taken_as_it_is(finder: FaceFinder) -> None:
    image = np.full((128, 128, 3), 60, np.uint8)
    ((face, crop),) = crops(finder, image, faces="none", size_px=64)
    assert face is None and crop.shape == (64, 64, 3) and np.all(crop == 60)


def test_threads_share_a_finder(portrait: NDArray[np.uint8], finder: FaceFinder) -> None:
    with ThreadPoolExecutor(3) as pool:
        located = list(pool.map(lambda _: finder.find(portrait)[0].points, range(6)))
    assert all(np.array_equal(points, located[0]) for points in located)


def test_a_face_is_chosen_by_its_place_among_all(
    portrait: NDArray[np.uint8], finder: FaceFinder
) -> None:
    small = cv2.resize(portrait, (256, 256), interpolation=cv2.INTER_AREA)
    pair = np.full((520, 800, 3), 128, np.uint8)
    pair[:512, :512], pair[100:356, 530:786] = portrait[:512, :512], small
    ((large, _), (little, crop)) = crops(finder, pair, faces="all", size_px=64)
    ((chosen, same),) = crops(finder, pair, faces=1, size_px=64)
    assert chosen is not None and little is not None and large is not None
    assert chosen.box == little.box != large.box and np.array_equal(crop, same)
    with pytest.raises(NoSuchFaceError, match="face 2 of 2"):
        crops(finder, pair, faces=2, size_px=64)


@pytest.mark.parametrize(("kind", "side"), [("JPEG", 3200), ("PNG", 3200), ("WEBP", 3200)])
def test_boxes_are_in_px_of_the_original_at_whatever_size_it_is_decoded(
    portrait: NDArray[np.uint8], finder: FaceFinder, kind: str, side: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    out = io.BytesIO()
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(portrait))).resize((side, side))
    stored.save(out, kind, quality=90, exif=exif)
    picture = decode_header(checked_header(out.getvalue()), longest_px=800)
    ((face, _),) = crops(finder, picture, size_px=64)
    ((reference, _),) = crops(finder, portrait, size_px=64)
    assert face is not None and reference is not None and picture.reduction == 4
    assert np.abs(np.array(face.box) * 512 / side - reference.box).max() < 3
    assert np.abs(face.points * 512 / side - reference.points).max() < 3


class _FixedFaces(FaceFinder):
    """Finds the faces that it is given."""

    def __init__(self, *faces: Face) -> None:
        super().__init__()
        self.faces = list(faces)

    def find(self, *_: object, **__: object) -> list[Face]:
        return self.faces


@pytest.mark.parametrize(
    ("confidences", "chosen"), [((0.9, 0.999), 1), ((0.999, 1.0), 0), ((0.8, 0.9), 0)]
)
def test_the_largest_firm_face_wins_and_the_largest_where_none_is(
    confidences: tuple[float, float], chosen: int
) -> None:
    eyes = np.array([[20, 20], [40, 20], [30, 30], [24, 40], [36, 40]], np.float32)
    sizes = (60.0, 30.0)
    faces = [
        Face((0.0, 0.0, side, side), eyes, sure)
        for side, sure in zip(sizes, confidences, strict=True)
    ]
    ((face, _),) = crops(_FixedFaces(*faces), np.zeros((99, 99, 3), np.uint8), size_px=32)
    assert face is faces[chosen]


@pytest.mark.parametrize(
    ("size", "least"), [((400, 300), SMALLEST_FACE_PX), ((4000, 3000), 48), ((3000, 4000), 48)]
)
def test_who_finds_no_face_says_from_what_size_on_one_is_found(
    size: tuple[int, int], least: int
) -> None:
    assert f"at least {least} px in {size[0]} x {size[1]} px" in str(NoFaceError(*size))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_small_faces_of_a_large_picture_are_found_where_there_is_no_larger_one(
    portrait: NDArray[np.uint8], finder: FaceFinder, kind: str
) -> None:
    head = Image.fromarray(portrait[20:240, 110:340]).resize((143, 137), Image.Resampling.BOX)
    picture, places = Image.new("RGB", (4000, 3000), (90, 110, 120)), (300, 1700, 3400)
    for x in places:
        picture.paste(head, (x, 1500))
    out = io.BytesIO()
    picture.save(out, kind)
    located = crops(finder, checked_header(out.getvalue()), faces="all", size_px=32)
    boxes = sorted(face.box for face, _ in located if face is not None)
    assert len(boxes) == len(places) and all(50 < width < 70 for *_, width in boxes)
    assert all(x < box[0] < x + 100 for x, box in zip(places, boxes, strict=True))


@pytest.mark.parametrize("side", [60, 190, 512, 900])
def test_the_largest_face_is_the_one_that_a_whole_search_finds(
    portrait: NDArray[np.uint8], finder: FaceFinder, side: int
) -> None:
    head = portrait[20:240, 110:340]
    image = np.asarray(cv2.resize(head, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
    (largest,), (located, *_) = finder.largest(image), finder.find(image)
    assert largest.box == located.box and np.array_equal(largest.points, located.points)


def test_where_no_large_face_is_only_the_least_size_asked_for_is_searched(
    portrait: NDArray[np.uint8], finder: FaceFinder
) -> None:
    assert finder.largest(portrait, least_px=96) == [] and len(finder.largest(portrait)) == 1


@pytest.mark.parametrize("side", [1300, 2600])
def test_a_crop_of_a_file_decoded_at_a_fraction_is_that_of_the_whole_file(
    portrait: NDArray[np.uint8], finder: FaceFinder, side: int
) -> None:
    out = io.BytesIO()
    Image.fromarray(portrait[20:240, 110:330]).resize((side, side)).save(out, "JPEG", quality=95)
    header = checked_header(out.getvalue())
    ((face, crop),) = crops(finder, header, size_px=64)
    ((reference, whole),) = crops(finder, decode_header(header), size_px=64)
    assert face is not None and reference is not None
    assert np.abs(np.array(face.box) - reference.box).max() < 0.03 * reference.box[2]
    apart = np.linalg.norm(reference.points[1] - reference.points[0])
    # The network answers to another interpolation by hundredths of the distance between the eyes.
    assert np.abs(face.points - reference.points)[:2].max() < 0.03 * apart
    assert np.abs(crop.astype(int) - whole).mean() < 8


class _CountedCascade(HeadCascade):
    """Notes the least windows that whole pictures are searched for."""

    def __init__(self) -> None:
        super().__init__(CASCADES / "haarcascade_frontalface_alt2.xml")
        self.least: list[int] = []

    def hits(self, grey: U8, step: float, least_px: int, most_px: int) -> set[Square]:
        self.least.append(least_px)
        return super().hits(grey, step, least_px, most_px)


class _Counted(FaceFinder):
    """Notes what is searched for, and pictures searched for every size."""

    def __init__(self) -> None:
        super().__init__()
        self.cascade = _CountedCascade()
        self.boxes: list[U8] = []

    def _heads(self) -> HeadCascade:
        return self.cascade

    def _boxes(self, image: U8, search: HeadSearch | None = None) -> list[Box]:
        self.boxes.append(image)
        return super()._boxes(image, search)


@pytest.mark.parametrize("side", [300, 512, 2000])
def test_a_portrait_is_not_searched_for_small_faces(portrait: NDArray[np.uint8], side: int) -> None:
    counted = _Counted()
    head = cv2.resize(portrait[20:240, 110:330], (side, side), interpolation=cv2.INTER_AREA)
    crops(counted, np.asarray(head, np.uint8), size_px=64)
    assert min(counted.cascade.least) >= 64 and counted.boxes == []


class _CountedLandmarks(Landmarks):
    """Counts passes of the network."""

    passes = 0

    def _locate(
        self, crop: U8, transform: NDArray[np.float64], *, mirrored: bool = False
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self.passes += 1
        return super()._locate(crop, transform, mirrored=mirrored)


def test_a_portrait_takes_four_passes_of_the_landmark_network(
    portrait: NDArray[np.uint8],
) -> None:
    landmarks = _CountedLandmarks()
    FaceFinder(landmarks=landmarks).largest(portrait)
    assert landmarks.passes == 4


def test_a_search_ends_at_its_next_checkpoint(finder: FaceFinder) -> None:
    def end() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        finder.find(np.zeros((400, 400, 3), np.uint8), checkpoint=end)
