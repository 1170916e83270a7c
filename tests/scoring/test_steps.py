"""What is done to readings in the order of time: track, smooth, take off a neutral face, find
blinks.
"""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from affect.card import ModelCard
from affect.local.reading import LocalReading
from affect.model import smoke_card
from scoring.baseline import Medians, Neutral, corrected
from scoring.events import COLUMNS, Blinks, save_events
from scoring.smoothing import Smoother
from scoring.tracking import SURVIVES, People
from tests.support.readings import CLOSED_EYES, SMILE, reading


@pytest.fixture
def card() -> ModelCard:
    return smoke_card(vocabulary=(SMILE, CLOSED_EYES))


# -- tracking --------------------------------------------------------------------------------------


def _tracks(frames: list[list[LocalReading]]) -> list[list[int | None]]:
    people = People()
    return [[entry.track for entry in people.number(entries)] for entries in frames]


def test_two_who_cross_keep_their_numbers() -> None:
    frames = []
    for step in range(60):
        left, right = 10.0 * step, 590.0 - 10.0 * step
        faces = [(left, 0), (right, 1)]
        if abs(left - right) < 80:
            faces = faces[:1]  # the second is behind the first
        entries = [reading(step, face=n, x=x, person=who) for n, (x, who) in enumerate(faces)]
        frames.append(entries if step % 2 else entries[::-1])

    people = [[_who(one) for one in entries] for entries in frames]
    first = people[0]  # are numbered in the order in which they were seen
    assert _tracks(frames) == [[first.index(who) for who in entries] for entries in people]


def test_who_is_hidden_for_a_while_is_known_again() -> None:
    frames = [[reading(step, person=2)] for step in range(SURVIVES)]
    hidden = [[_nobody(step)] for step in range(SURVIVES, SURVIVES + 20)]
    back = [[reading(SURVIVES + 20, x=60.0, person=2)]]
    assert _tracks(frames + hidden + back)[-1] == [0]


def test_somebody_else_in_the_same_place_is_somebody_else() -> None:
    assert _tracks([[reading(0, person=0)], [reading(1, person=1)]]) == [[0], [1]]


def test_who_is_partly_covered_is_nobody_new() -> None:
    alone = [[reading(0, person=0), reading(0, face=1, x=150.0, person=1)]]
    covered = [[reading(1, person=0), reading(1, face=1, x=90.0, person=3)]]
    assert _tracks(alone + covered) == [[0, 1], [0, 1]]


def test_who_is_far_away_at_once_is_somebody_else() -> None:
    assert _tracks([[reading(0, x=0.0)], [reading(1, x=900.0)]]) == [[0], [1]]


def test_two_who_walk_far_between_two_looks_keep_their_numbers() -> None:
    frames = []
    for look in range(20):
        walked = 440 * (1 - math.cos(2 * math.pi * look / 10))  # up to 270 px in two seconds
        places = enumerate((walked, 880 - walked))
        frames.append([reading(50 * look, face=who, x=x, person=who) for who, x in places])
    assert _tracks(frames) == [[0, 1]] * 20


def test_whose_looks_change_little_by_little_stays_the_same() -> None:
    frames = []
    for number, angle in enumerate(np.linspace(0, math.pi, 13)):
        looks = np.array([math.cos(angle), math.sin(angle)], np.float32)
        frames.append([replace(reading(number), identity=looks)])
    assert _tracks(frames) == [[0]] * 13


def test_who_comes_after_somebody_a_little_alike_went_is_somebody_else() -> None:
    other = replace(reading(30), identity=np.eye(8, dtype=np.float32)[0])
    alike = replace(other, identity=np.array([0.15, 0.989, *[0] * 6], np.float32))
    frames = [[reading(step)] for step in range(20)] + [[_nobody(step)] for step in range(20, 30)]
    assert _tracks([*frames, [other]])[-1] == [0] and _tracks([*frames, [alike]])[-1] == [1]


def test_somebody_new_is_new_between_two_looks_far_apart_too() -> None:
    assert _tracks([[reading(0, person=0)], [reading(50, person=1)]]) == [[0], [1]]


def test_who_is_hidden_is_expected_as_long_at_more_frames_a_second() -> None:
    looks = [*range(150), *range(150 + SURVIVES + 40, 400)]  # hidden for 1.7 seconds of 60 frames
    hidden = [[reading(n, seconds=n / 60) if n in looks else _nobody(n, 60)] for n in range(400)]
    assert _tracks(hidden)[-1] == [0]


def _who(entry: LocalReading) -> int:
    assert entry.identity is not None
    return int(np.argmax(entry.identity))


def _nobody(frame: int, rate: int = 25) -> LocalReading:
    return LocalReading("clip.mp4", frame, frame / rate, error="no_face")


# -- smoothing -------------------------------------------------------------------------------------


def test_a_step_is_followed_with_the_time_constant(card: ModelCard) -> None:
    smoother = Smoother(0.5, card)
    smoother.apply(reading(0, smile=0.0))
    after = [smoother.apply(reading(n, smile=1.0)) for n in range(1, 51)]
    expected = [1 - math.exp(-n / 25 / 0.5) for n in range(1, 51)]
    assert [one.aus[SMILE].intensity for one in after] == pytest.approx(expected)
    assert [one.aus[SMILE].present for one in after] == [value >= 0.5 for value in expected]


def test_a_varying_frame_rate_smooths_alike(card: ModelCard) -> None:
    results = []
    for times in ([0.0, 0.1, 0.2, 0.3, 0.4], [0.0, 0.05, 0.4]):
        smoother = Smoother(0.5, card)
        for number, seconds in enumerate(times):
            last = smoother.apply(reading(number, valence=float(number > 0), seconds=seconds))
        results.append(last.valence)
    assert results[0] == pytest.approx(results[1])


def test_people_are_smoothed_apart_and_pictures_not_at_all(card: ModelCard) -> None:
    smoother = Smoother(5.0, card)
    smoother.apply(replace(reading(0, valence=0.0), track=0))
    other = replace(reading(1, valence=1.0), track=1)
    picture = replace(reading(2, valence=1.0), frame=None, time_seconds=None)
    assert smoother.apply(other).valence == smoother.apply(picture).valence == 1.0


# -- baselines -------------------------------------------------------------------------------------


def test_a_neutral_face_is_taken_off(card: ModelCard) -> None:
    neutral = Neutral(reading(0, smile=0.4, valence=-0.3))
    after = corrected(reading(1, smile=0.9, valence=0.2), neutral, card)
    assert after.aus[SMILE].intensity == pytest.approx(0.5)
    assert after.aus[SMILE].probability == pytest.approx(0.5)
    assert after.valence == pytest.approx(0.5)
    rest = corrected(reading(2, smile=0.1), neutral, card).aus[SMILE]
    assert (rest.intensity, rest.present) == (0.0, False) and rest.probability < 1e-6


def test_each_person_has_a_median_of_its_own(card: ModelCard) -> None:
    medians = Medians()
    smiles = {0: [0.1, 0.3, 0.9, 0.3, 0.2], 1: [0.8, 0.8, 0.1]}
    for track, values in smiles.items():
        for value in values:
            medians.add(replace(reading(0, smile=value), track=track))
    for track, values in smiles.items():
        median = medians.of(replace(reading(0), track=track))[SMILE]
        assert median == pytest.approx(np.median(values), abs=1e-3)


# -- events ----------------------------------------------------------------------------------------


def test_a_blink_has_an_onset_a_length_and_a_peak() -> None:
    closed = [0.1, 0.6, 0.9, 0.7, 0.2, 0.1] + [0.8] * 20 + [0.1] + [0.9] * 3
    blinks = Blinks()
    events = [
        event for n, value in enumerate(closed) for event in blinks.add(reading(n, closed=value))
    ]
    events += blinks.finish()
    assert [(one.event, one.frame, one.peak) for one in events] == [
        ("blink", 1, 0.9),
        ("eyes_closed", 6, 0.8),
        ("blink", 27, 0.9),
    ]
    lengths = [one.length_seconds for one in events]
    assert lengths == pytest.approx([3 / 25, 20 / 25, 2 / 25])


def test_eyes_that_nobody_saw_open_end_with_their_video() -> None:
    blinks = Blinks()
    assert not list(blinks.add(reading(0, closed=0.9)))
    (event,) = blinks.add(replace(reading(0, closed=0.1), input="next.mp4"))
    assert event.input == "clip.mp4" and event.length_seconds == 0


@pytest.mark.parametrize("name", ["blinks.csv", "BLINKS.CSV"])
def test_a_table_of_events_is_of_the_kind_that_its_name_says(name: str, tmp_path: Path) -> None:
    save_events([], tmp_path / name)
    head = (tmp_path / name).read_text().splitlines()[0]
    assert head.replace('"', "") == ",".join(COLUMNS)
