"""From a photograph to the aligned crop: find faces, find their eyes, turn and scale.

The same in training and serving.

OpenCV's cascade draws rough boxes, and MediaPipe's BlazeFace where none of them is a firm face; a
small network (affect/landmarks.py) refines each into five points with a confidence, and says
whether eyes or mouth are hidden or the face is drawn. "Eyes" are pupils throughout. Where only the
largest face is needed, large faces are searched first, since the cost of a search grows with the
inverse square of the smallest face; and a photograph much larger than a crop needs is decoded at a
fraction.
"""

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from affect.blazeface import default_blazeface
from affect.cascade import NEIGHBOURS, HeadCascade, HeadSearch, Square
from affect.images import LONGEST_PX, DecodedImage, Header, ImageError, decode_header, reduction_of
from affect.landmarks import (
    NO_DEFECTS,
    Box,
    Defects,
    Landmarks,
    Refined,
    box_of_points,
    default_landmarks,
    warp,
)

U8 = NDArray[np.uint8]
Floats = NDArray[np.float32]
# Which faces of a picture; a number is an index into `all`, 0 the largest.
Faces = Literal["largest", "all", "none"] | int

# Where the pupils of an aligned crop lie, x and y in shares of its side, the picture's left
# eye first.
EYES = ((0.32, 0.36), (0.68, 0.36))
CASCADES = Path(cv2.__file__).parent / "data"  # ships inside the 4.x wheels
# Longest sides searched, one after the other until a face is found: the cost of a search grows with
# the area.
SEARCHES_PX = (320, 640, 1280)
FINEST_PX = 2000  # the same of the search for small faces in a large picture
SMALLEST_FACE_PX = 24
# Least sides that are searched for one after the other when the largest face will do.
DESCENT_PX = (128, 96, 64, 48, 36, SMALLEST_FACE_PX)
OVERLAP = 1.25  # ratio of the sizes that two searches share: hits of one face differ by as much
# A picture is decoded at a fraction that leaves so many sides of a crop, and faces of LARGE_FACE_PX
# of the first search are cut from it: twice as long there, so no crop is scaled up.
LARGE_FACE_PX, LARGE_FACE_CROPS = 64, 5
ALIGNED_CROPS = 4  # the same of a picture that is a crop already
LEAST_CONFIDENCE = 0.7
TURNED_CONFIDENCE = 0.9  # least confidence of a head that no cascade found
# least confidence of a face that no finder found: round objects that fill a picture reach 0.99
SURE = 0.999
FILLING = (0.75, 1.0)  # sides of faces that fill the picture, in shares of its shorter side
FIRM = 0.99  # upright faces rarely have a lower confidence
TILTS = (-40.0, 40.0)  # degrees by which a box is turned where the landmark network is not sure
TURNS = (-30.0, 30.0)  # degrees by which the picture is turned when no upright head was found
SAME_FACE = 0.4  # boxes that share this much of their union are one face


class NoFaceError(ValueError):
    """No face was found in the picture."""

    code, title = "no_face", "No face found"

    def __init__(self, width: int, height: int, reduction: int = 1) -> None:
        least = smallest_face_px(width, height, reduction)
        self.detail = (
            f"no face of at least {least} px in {width} x {height} px; send an "
            "upright face that is mostly visible, "
            'or set faces to "none" if the picture is an aligned crop already'
        )
        super().__init__(f"{self.title}: {self.detail}")


class NoSuchFaceError(NoFaceError):
    """The picture has fewer faces than the requested index."""

    code, title = "no_such_face", "No such face"

    def __init__(self, face: int, count: int) -> None:
        self.detail = (
            f"face {face} of {count}; faces are counted from 0, the largest first: 0 to {count - 1}"
        )
        ValueError.__init__(self, f"{self.title}: {self.detail}")


@dataclass(frozen=True)
class Face:
    """One face of a picture."""

    box: tuple[float, float, float, float]  # x, y, width, height in px of the picture
    # (5, 2) px: picture-left pupil, picture-right pupil, nose tip, picture-left and -right mouth
    # corner
    points: Floats
    confidence: float  # of the landmark network that this is a face, in [0, 1]
    defects: Defects = NO_DEFECTS

    @property
    def firm(self) -> bool:
        """Whether the confidence is that of an upright face."""
        return self.confidence >= FIRM

    def enlarged(self, times: int) -> "Face":
        """The same face in a picture whose sides are so many times as long."""
        if times == 1:
            return self
        x, y, width, height = (round(side * times, 1) for side in self.box)
        points = self.points * np.float32(times)
        return replace(self, box=(x, y, width, height), points=points)


def _no_checkpoint() -> None:
    """A checkpoint that never ends the search."""


class FaceFinder:
    """Finds the faces of a picture. Thread-safe.

    With `yunet` (OpenCV's face_detection_yunet .onnx) that finder replaces the cascade.
    """

    def __init__(self, *, yunet: Path | None = None, landmarks: Landmarks | None = None) -> None:
        if yunet is not None and not yunet.is_file():
            raise FileNotFoundError(
                f"{yunet} is missing: give the path of a YuNet .onnx file, or none to use "
                "the built-in cascade"
            )
        self.yunet = yunet
        self.landmarks = landmarks or default_landmarks()
        self._local = threading.local()

    def find(
        self,
        image: U8,
        *,
        thorough: bool = False,
        checkpoint: Callable[[], None] = _no_checkpoint,
        search: HeadSearch | None = None,
    ) -> list[Face]:
        """Faces of an RGB picture (H, W, 3), the largest first; an empty list when there is none.

        The search stops at the first scale that shows a face, and looks for the smallest faces
        last; a thorough one looks for small faces beside large ones too. `checkpoint` is called
        every second or so; whatever it raises ends the search. `search` is the one of upright heads
        at the first scale, where it has begun.
        """
        self._local.checkpoint = checkpoint
        faces: list[Face] = []
        for longest in SEARCHES_PX:
            small, scale = _shrunk(image, longest)
            boxes = [box.scaled(1 / scale) for box in self._boxes(small, search)]
            faces, search = faces + self._refined(image, boxes), None
            if scale == 1.0 or (faces and not thorough):
                break
        for otherwise in (self._turned, self._tilted):
            if any(face.firm for face in faces):
                break
            further = otherwise(image)
            faces = further if not faces or any(face.firm for face in further) else faces
        faces = faces or self._filling(image)
        return _ordered(faces + self._small(image) if thorough or not faces else faces)

    def largest(
        self,
        image: U8,
        *,
        least_px: int = SMALLEST_FACE_PX,
        checkpoint: Callable[[], None] = _no_checkpoint,
    ) -> list[Face]:
        """The largest firm face, as `find` has it, found without searching for smaller ones.

        Where there is no upright one, what `find` finds. With `least_px`, a side in px of the first
        search, only faces that are as large are searched for, and nothing else is tried.
        """
        if self.yunet is not None:
            return self.find(image, checkpoint=checkpoint)
        self._local.checkpoint = checkpoint
        small, scale = _shrunk(image, SEARCHES_PX[0])
        search = HeadSearch(
            self._heads(), _grey(small), smallest_px=SMALLEST_FACE_PX, checkpoint=checkpoint
        )
        for box in self._descent(search, least_px):
            face = self._refined(image, [box.scaled(1 / scale)])
            if face and face[0].firm:
                return face
        if least_px > SMALLEST_FACE_PX:
            return []
        return self.find(image, checkpoint=checkpoint, search=search)

    def follow(self, image: U8, previous: Sequence[Face]) -> list[Face]:
        """The faces of the previous frame, found from where they were, at a tenth of the cost of a
        search. Faces that are no longer firm, or hidden behind another, are left out.
        """
        self._local.checkpoint = _no_checkpoint
        boxes = [box_of_points(face.points) for face in previous]
        return _ordered(self._refined(image, boxes, FIRM))

    def _turned(self, image: U8) -> list[Face]:
        """Heads that the cascades do not know, most of them turned far to a side."""
        if self.yunet is not None:
            return []
        boxes = [_box(square) for square in default_blazeface().boxes(image)]
        return self._refined(image, boxes, TURNED_CONFIDENCE)

    def _tilted(self, image: U8) -> list[Face]:
        """Heads that lean to a side: the cascade detects upright heads only, so the picture is
        rotated.
        """
        if self.yunet is not None:
            return []
        small, scale = _shrunk(image, SEARCHES_PX[0])
        height, width = small.shape[:2]
        for degrees in TURNS:
            rotation = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
            rotated = np.asarray(
                cv2.warpAffine(small, rotation, (width, height), borderMode=cv2.BORDER_REPLICATE),
                np.uint8,
            )
            inverse = cv2.invertAffineTransform(rotation)
            boxes = [(box, inverse @ [box.x, box.y, 1.0] / scale) for box in self._boxes(rotated)]
            faces = self._refined(
                image,
                [
                    Box(float(x), float(y), b.side / scale, float(np.deg2rad(degrees)))
                    for b, (x, y) in boxes
                ],
            )
            if faces:
                return faces
        return []

    def _filling(self, image: U8) -> list[Face]:
        """A face that fills the picture, without the margin that a cascade needs: the landmark
        network alone decides.
        """
        height, width = image.shape[:2]
        return self._refined(
            image,
            [Box(width / 2, height / 2, share * min(height, width)) for share in FILLING],
            SURE,
        )

    def _small(self, image: U8) -> list[Face]:
        """Faces too small for the searches of a large picture. It is searched by the first cascade
        alone, and these must be firm: at this size texture resembles faces more often.
        """
        longest = max(image.shape[:2])
        if longest <= SEARCHES_PX[-1]:
            return []
        small, scale = _shrunk(image, FINEST_PX)
        most_px = math.ceil(OVERLAP * SMALLEST_FACE_PX * max(small.shape[:2]) / SEARCHES_PX[-1])
        if self.yunet is not None:
            boxes = self._yunet_boxes(small)
        else:
            small_faces = self._cascade("frontalface_alt2").detectMultiScale(
                _grey(small),
                1.1,
                NEIGHBOURS,
                minSize=(SMALLEST_FACE_PX, SMALLEST_FACE_PX),
                maxSize=(most_px, most_px),
            )
            boxes = [_box(Square(int(x), int(y), int(side))) for x, y, side, _ in small_faces]
        return self._refined(image, [box.scaled(1 / scale) for box in boxes], FIRM)

    def _refined(
        self, image: U8, boxes: Sequence[Box], least: float = LEAST_CONFIDENCE
    ) -> list[Face]:
        faces: list[Face] = []
        for box in boxes:
            self._local.checkpoint()
            refined = self.landmarks.refine(image, box)
            # the box may be that of a head that leans
            for degrees in TILTS if refined.confidence < FIRM else ():
                leaning = replace(box, angle=box.angle + float(np.deg2rad(degrees)))
                upright = self.landmarks.refine(image, leaning)
                if upright.confidence >= FIRM:
                    refined = upright
                    break
            if refined.confidence >= least:
                faces.append(_face(refined))
        return faces

    def _boxes(self, image: U8, search: HeadSearch | None = None) -> list[Box]:
        """Rough boxes of heads; `search` is that of the first cascade, where it has begun."""
        if self.yunet is not None:
            return self._yunet_boxes(image)
        if search is not None and (boxes := search.all_boxes()):
            return [_box(box) for box in boxes]
        grey = _grey(image)
        searches: list[tuple[str, Callable[[], object], int]] = [
            ("frontalface_alt2", lambda: grey, NEIGHBOURS),
            ("frontalface_alt2", lambda: cv2.equalizeHist(grey), 2),
            ("frontalface_default", lambda: cv2.equalizeHist(grey), NEIGHBOURS),
        ]
        for name, picture, neighbours in searches[0 if search is None else 1 :]:
            self._local.checkpoint()
            hits = self._cascade(name).detectMultiScale(
                np.asarray(picture(), np.uint8),
                1.1,
                neighbours,
                minSize=(SMALLEST_FACE_PX, SMALLEST_FACE_PX),
            )
            if len(hits):
                return [_box(Square(int(x), int(y), int(side))) for x, y, side, _ in hits]
        return []

    def _descent(self, search: HeadSearch, least_px: int) -> Iterator[Box]:
        """Boxes of upright heads, those of large ones first."""
        reported = set[Square]()
        for least in (side for side in DESCENT_PX if side >= least_px):
            boxes = [box for box in search.boxes(least) if box not in reported]
            reported |= set(boxes)
            yield from map(_box, boxes)

    def _heads(self) -> HeadCascade:
        if not hasattr(self._local, "heads"):
            self._local.heads = HeadCascade(CASCADES / "haarcascade_frontalface_alt2.xml")
        heads: HeadCascade = self._local.heads
        return heads

    def _cascade(
        self, name: str
    ) -> "cv2.CascadeClassifier":  # OpenCV 5 has none; rendering needs none
        cascades: dict[str, cv2.CascadeClassifier] = self._local.__dict__.setdefault("cascades", {})
        if name not in cascades:
            cascades[name] = cv2.CascadeClassifier(str(CASCADES / f"haarcascade_{name}.xml"))
        return cascades[name]

    def _yunet_boxes(self, image: U8) -> list[Box]:
        height, width = image.shape[:2]
        if not hasattr(self._local, "yunet"):
            self._local.yunet = cv2.FaceDetectorYN.create(str(self.yunet), "", (width, height), 0.6)
        self._local.yunet.setInputSize((width, height))
        _, detections = self._local.yunet.detect(np.ascontiguousarray(image[..., ::-1]))
        return (
            [Box(x + w / 2, y + h / 2, float(max(w, h))) for x, y, w, h in detections[:, :4]]
            if detections is not None
            else []
        )


def _box(square: Square) -> Box:
    x, y, side = square
    return Box(x + side / 2, y + side / 2, float(side))


def smallest_face_px(width: int, height: int, reduction: int = 1) -> int:
    """The least face that is looked for in a picture, which may be read so many times smaller:
    large pictures are searched at a smaller size.
    """
    return math.ceil(SMALLEST_FACE_PX * max(float(reduction), max(width, height) / FINEST_PX))


def crops(
    finder: FaceFinder,
    image: U8 | DecodedImage | Header,
    *,
    faces: Faces = "largest",
    size_px: int,
    checkpoint: Callable[[], None] = _no_checkpoint,
) -> list[tuple[Face | None, U8]]:
    """Aligned crops (S, S, 3) of a picture with the face each shows, in px of the upright original.

    `largest` is the largest firm face, or the largest at all where none is firm; `all` are all of
    them, the largest first, or one by its place among these; `none` says that the picture is a crop
    already: it is scaled as it is. A header's picture is decoded here, at the size that this needs.
    Raises NoFaceError, and ImageError for a broken file or a crop in which no face could be made
    out. For `checkpoint` see FaceFinder.find.
    """
    if isinstance(image, Header):
        return _crops_of_file(finder, image, faces, size_px, checkpoint)
    picture = image if isinstance(image, DecodedImage) else DecodedImage(image, *image.shape[1::-1])
    pixels = picture.pixels
    if faces == "none":
        if min(picture.width, picture.height) < SMALLEST_FACE_PX:
            raise ImageError(
                "too_small",
                "Image too small",
                f"a crop of {picture.width} x {picture.height} px; send {SMALLEST_FACE_PX} px "
                "or more a side",
            )
        interpolation = cv2.INTER_AREA if max(pixels.shape[:2]) > size_px else cv2.INTER_CUBIC
        return [
            (
                None,
                np.ascontiguousarray(
                    cv2.resize(pixels, (size_px, size_px), interpolation=interpolation)
                ),
            )
        ]
    if faces == "largest":
        faces_found = finder.largest(pixels, checkpoint=checkpoint)
    else:
        faces_found = finder.find(pixels, thorough=True, checkpoint=checkpoint)
    return crops_of(picture, faces_found, faces=faces, size_px=size_px)


def _crops_of_file(
    finder: FaceFinder,
    header: Header,
    faces: Faces,
    size_px: int,
    checkpoint: Callable[[], None],
) -> list[tuple[Face | None, U8]]:
    """`crops` of a file, decoded no larger than they need."""
    if faces == "largest" and finder.yunet is None:
        least_px = LARGE_FACE_CROPS * size_px
        if reduction_of(header, least_px) > reduction_of(header, LONGEST_PX):
            small = decode_header(header, longest_px=least_px)
            faces_found = finder.largest(
                small.pixels, least_px=LARGE_FACE_PX, checkpoint=checkpoint
            )
            if faces_found and abs(_spin(faces_found[0].points, size_px)) <= 1:
                return crops_of(small, faces_found, faces=faces, size_px=size_px)
    longest_px = ALIGNED_CROPS * size_px if faces == "none" else LONGEST_PX
    image = decode_header(header, longest_px=longest_px)
    return crops(finder, image, faces=faces, size_px=size_px, checkpoint=checkpoint)


def crops_of(
    picture: DecodedImage, detected: Sequence[Face], *, faces: Faces, size_px: int
) -> list[tuple[Face | None, U8]]:
    """The same of faces that are found already. Raises NoFaceError when there are none."""
    if not detected:
        raise NoFaceError(picture.width, picture.height, picture.reduction)
    return [
        (face.enlarged(picture.reduction), align(picture.pixels, face.points, size_px))
        for face in _chosen(detected, faces)
    ]


def _chosen(detected: Sequence[Face], faces: Faces) -> Sequence[Face]:
    if faces == "all":
        return detected
    if isinstance(faces, int):
        if faces >= len(detected):
            raise NoSuchFaceError(faces, len(detected))
        return [detected[faces]]
    return [next((face for face in detected if face.firm), detected[0])]


def align(image: U8, points: Floats, size_px: int) -> U8:
    """(S, S, 3) the similarity that brings the pupils (points[:2]) to EYES; what lies outside
    the picture repeats its edge.
    """
    spin = _spin(points, size_px)
    start = complex(*EYES[0]) * size_px - spin * complex(*np.asarray(points[0], np.float64))
    transform = np.array([[spin.real, -spin.imag, start.real], [spin.imag, spin.real, start.imag]])
    return warp(image, transform, size_px, abs(spin))


def _spin(points: Floats, size_px: int) -> complex:
    """The turn, and the scale as its size, that brings the eyes of a picture to those of a crop."""
    left, right = (complex(*point) for point in np.asarray(points[:2], np.float64))
    return (complex(*EYES[1]) - complex(*EYES[0])) * size_px / (right - left)


def _shrunk(image: U8, longest_px: int) -> tuple[U8, float]:
    """The picture with no side longer than that, and its scale."""
    scale = min(1.0, longest_px / max(image.shape[:2]))
    if scale == 1.0:
        return image, scale
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    return np.asarray(
        cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8
    ), scale


def _grey(image: U8) -> U8:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def _face(refined: Refined) -> Face:
    box = _upright(box_of_points(refined.points))
    defects = Defects(*(round(share, 4) for share in vars(refined.defects).values()))
    return Face(box, refined.points, round(refined.confidence, 4), defects)


def _upright(box: Box) -> tuple[float, float, float, float]:
    half = box.side / 2
    return (round(box.x - half, 1), round(box.y - half, 1), round(box.side, 1), round(box.side, 1))


def _ordered(faces: Sequence[Face]) -> list[Face]:
    """Distinct faces, the largest first."""
    return sorted(_distinct(faces), key=lambda face: -face.box[2] * face.box[3])


def _distinct(faces: Sequence[Face]) -> list[Face]:
    """One face for every place: the most confident."""
    distinct: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.confidence):
        if all(_overlap(face.box, other.box) < SAME_FACE for other in distinct):
            distinct.append(face)
    return distinct


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)
