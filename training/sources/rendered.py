"""The rendered source: person after person, each in a few sittings, each sitting in several states.

Person i of a seed is a pure function of (seed, i): the same pixels on any number of workers, in any
order.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.random import Generator

from affect.labels import POSE, Vocabulary
from training.database.annotations import EXPRESSION, POSE_DEGREES, SIDES
from training.database.masks import encode
from training.database.sample import Sample
from training.renderer.affect_rule import rater
from training.renderer.expressions import (
    AU_CODES,
    State,
    annotated,
    can_turn,
    draw_state,
    expression_of,
    turned,
)
from training.renderer.face import ALIGNED, RenderedFace, changed_mask, render_twins
from training.renderer.person import Person, draw_person
from training.renderer.scene import Scene, draw_scene

SCENES_PER_PERSON = 2
SOURCE = "rendered"
VOCABULARY = Vocabulary(AU_CODES)
PNG = [
    cv2.IMWRITE_PNG_COMPRESSION,
    6,
    cv2.IMWRITE_PNG_STRATEGY,
    cv2.IMWRITE_PNG_STRATEGY_RLE,
]  # smaller and faster than the default
PERSON, SCENE, STATE, CHANGE = range(4)  # independent streams of randomness of one seed


def samples(*, seed: int, first: int, count: int, size_px: int, twins: int = 4) -> Iterator[Sample]:
    """Samples of groups first ... first + count - 1.

    A group is one person in one sitting, in `twins` states.
    """
    for group in range(first, first + count):
        number = group // SCENES_PER_PERSON
        person = draw_person(np.random.default_rng((seed, PERSON, number)))
        scene = draw_scene(np.random.default_rng((seed, SCENE, group)))
        rng = np.random.default_rng((seed, STATE, group))
        states = [draw_state(rng) for _ in range(twins)]
        faces = render_twins(person, scene, states, size_px=size_px, framing=ALIGNED)
        for index, (state, face) in enumerate(zip(states, faces, strict=True)):
            yield _sample(seed, group, index, person, scene, state, face)


def pairs(
    *, seed: int, first: int, count: int, size_px: int, change: Sequence[str]
) -> Iterator[Sample]:
    """Twins of groups first ... first + count - 1: a state, then the same with one of the AUs of
    `change` turned, or with another expression where `change` is empty. The people and sittings are
    those of `samples`; the second of each pair knows what is `changed`: the AUs, and the mask of
    the pixels that differ by a grey level before the camera's noise.
    """
    for group in range(first, first + count):
        number = group // SCENES_PER_PERSON
        person = draw_person(np.random.default_rng((seed, PERSON, number)))
        scene = draw_scene(np.random.default_rng((seed, SCENE, group)))
        rng = np.random.default_rng((seed, CHANGE, group))
        before, after = _change(rng, change)
        faces = render_twins(person, scene, [before, after], size_px=size_px, framing=ALIGNED)
        yield _sample(seed, group, 0, person, scene, before, faces[0])
        moved = {
            code: after.intensities.get(code, 0.0) - before.intensities.get(code, 0.0)
            for code in AU_CODES
        }
        changed = {
            "aus": {code: round(by, 4) for code, by in moved.items() if by},
            "mask": encode(changed_mask(*faces)),
        }
        second = _sample(seed, group, 1, person, scene, after, faces[1])
        yield replace(second, truth=second.truth | {"changed": changed})


def _change(rng: Generator, change: Sequence[str]) -> tuple[State, State]:
    before = draw_state(rng)
    if not change:
        return before, draw_state(rng)
    code = str(rng.choice(list(change)))
    while not can_turn(before, code):
        before = draw_state(rng)
    return before, turned(rng, before, code)


def _sample(
    seed: int,
    group: int,
    index: int,
    person: Person,
    scene: Scene,
    state: State,
    face: RenderedFace,
) -> Sample:
    key = f"s{seed}-g{group:07d}-{index}"
    state = annotated(rater(key), state)
    done, code = cv2.imencode(".png", face.image[..., ::-1], PNG)
    assert done
    truth: dict[str, object] = {
        "emotion": state.emotion,
        "age": person.age,
        "melanin": round(person.melanin, 2),
        "parts": encode(face.parts),
        EXPRESSION: expression_of(state),
        POSE_DEGREES: dict(zip(POSE, (round(angle, 2) for angle in face.pose), strict=True)),
        "points": face.points.round(2).tolist(),
        "landmarks": face.landmarks.round(1).tolist(),
        SIDES: {"left": state.sides(left=True), "right": state.sides(left=False)},
    }
    assert state.expected is not None
    truth["expected_va"] = [round(value, 4) for value in state.expected]
    return Sample(
        key=key,
        image=code.tobytes(),
        labels=state.row(),
        source=SOURCE,
        identity=f"s{seed}-p{group // SCENES_PER_PERSON:06d}",
        twin_group=f"s{seed}-g{group:07d}",
        groups=person.groups,
        truth=truth,
    )
