"""The same person keeps the same number through a video.

norfair matches faces to people frame by frame: a Kalman filter follows each box (Bewley et al.
2016, arXiv 1602.00763). The distance is ours: how far a face is from where a person is expected or
was last, and how dissimilar the faces are, by the model's identity embedding (Wojke et al. 2017,
arXiv 1703.07402). The longer ago a person was seen, the less position counts and the more
similarity: with few frames a second it decides alone. A hidden person stays tracked for SURVIVES
frames and SURVIVES_SECONDS.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from norfair import Detection, Tracker
from norfair.distances import Distance
from norfair.tracker import TrackedObject
from numpy.typing import NDArray

from affect.local.reading import LocalReading

SURVIVES, SURVIVES_SECONDS = 60, 2.4  # frames that are read
REMEMBERED = 12  # faces of a person; what is like one of them is like that person
FARTHEST = 1.0  # distance beyond which a face is a new person
# box sides that a face may be away at once, and more for each second since it was seen
REACH, REACH_GROWS = 0.8, 5.0
# weights of the distance in space, at the end of that reach, and in looks
POSITION, APPEARANCE = 0.5, 1.0
# added to the distance of a person who was not in the frame before: it may be a new person
HIDDEN = 0.2
# A face of which another covers this share shows some of that one. Its distances count half: it is
# assigned to the nearest and most similar person, and starts no new one.
COVERED, HALF = 0.02, 0.5


class People:
    """The people of one video."""

    def __init__(self) -> None:
        self._tracker = Tracker(
            distance_function="iou",
            distance_threshold=FARTHEST,
            hit_counter_max=SURVIVES,
            initialization_delay=0,
            past_detections_length=REMEMBERED,
        )
        # of people by norfair's ids, which count on from video to video
        # The constructor takes names and scalar functions alone, and warns of the latter.
        self._tracker.distance_function = _PositionAndAppearance()
        self._numbers: dict[int, int] = {}
        self._seconds = 0.0  # of the frame before

    def number(self, entries: Sequence[LocalReading]) -> list[LocalReading]:
        """The entries of a frame with their `track`: 0 for the first person seen, and so on."""
        self._pass(entries[0].time_seconds or 0.0)
        detections = _detections(entries)
        tracks: dict[int, int] = {}
        for person in self._tracker.update(detections or None):
            if person.last_detection.age == person.age:  # seen in this frame
                assert person.id is not None
                number = self._numbers.setdefault(person.id, len(self._numbers))
                tracks[person.last_detection.data.face] = number
        return [
            entry if entry.face is None else replace(entry, track=tracks.get(entry.face))
            for entry in entries
        ]

    def _pass(self, seconds: float) -> None:
        """Let norfair, which counts frames, expect for as long where there are more a second."""
        step, self._seconds = seconds - self._seconds, seconds
        frames = max(SURVIVES, round(SURVIVES_SECONDS / step)) if step > 0 else SURVIVES
        self._tracker.hit_counter_max = frames
        for person in self._tracker.tracked_objects:
            person.hit_counter_max = frames


@dataclass(frozen=True)
class _Face:
    """What norfair keeps of a face for us."""

    face: int | None
    covered: bool
    seconds: float


def _detections(entries: Sequence[LocalReading]) -> list[Detection]:
    faces = [entry for entry in entries if entry.box is not None]
    boxes = np.array([entry.box for entry in faces]).reshape(-1, 4)
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    shared = np.minimum(high[:, None], high) - np.maximum(low[:, None], low)  # (F, F, 2)
    shares = shared.clip(0).prod(2) / boxes[:, 2:].prod(1)[:, None]
    np.fill_diagonal(shares, 0)
    covered = (shares > COVERED).any(1).tolist()
    return [
        Detection(
            corners,
            data=_Face(entry.face, hidden, entry.time_seconds or 0.0),
            embedding=entry.identity,
        )
        for corners, entry, hidden in zip(np.stack([low, high], 1), faces, covered, strict=True)
    ]


class _PositionAndAppearance(Distance):
    """0: the same place and looks; more than FARTHEST: not this person."""

    def get_distances(
        self, objects: Sequence[TrackedObject], candidates: Any
    ) -> NDArray[np.float64]:
        """(faces, people)"""
        return np.array([[_distance(face, person) for person in objects] for face in candidates])


def _distance(face: Detection, person: TrackedObject) -> float:
    last = person.last_detection
    hidden = person.age - (last.age or 0) > 1
    side = float(np.mean(face.points[1] - face.points[0]))
    places = (person.estimate, last.points)
    shift = min(float(np.linalg.norm((face.points - points).mean(0))) for points in places) / side
    passed = float(max(0.0, face.data.seconds - last.data.seconds))  # streams may begin again
    share = shift / (REACH + REACH_GROWS * passed)
    if share > 1:
        return FARTHEST + share
    difference = APPEARANCE * (1 - _likeness(face, person))
    distance = POSITION * share + difference + (HIDDEN if hidden else 0)
    return HALF * distance if face.data.covered else distance


def _likeness(face: Detection, person: TrackedObject) -> float:
    """The largest cosine with a remembered face: the embedding follows expression and pose too, so
    a mean is like none of them (Wojke et al. 2017, equation 2).
    """
    remembered = (person.last_detection, *person.past_detections)
    return max(float(face.embedding @ one.embedding) for one in remembered)
