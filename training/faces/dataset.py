"""The rendered source: person after person, each in a few sittings, each sitting in several states.

Person i of a seed is a pure function of (seed, i): the same pixels on any number of workers, in any order.
"""

from collections.abc import Iterator

import cv2
import numpy as np

from affect.labels import Vocabulary
from training.database.sample import Sample
from training.faces.face import ALIGNED, RenderedFace, render_twins
from training.faces.person import Person, draw_person
from training.faces.scene import Scene, draw_scene
from training.render.states import AU_CODES, State, draw_state

SCENES_PER_PERSON = 2
SOURCE = "rendered"
VOCABULARY = Vocabulary(AU_CODES)
PNG = [cv2.IMWRITE_PNG_COMPRESSION, 6, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]  # smaller and faster than the default
PERSON, SCENE, STATE = range(3)  # independent streams of randomness of one seed


def samples(*, seed: int, first: int, count: int, size_px: int, twins: int = 4) -> Iterator[Sample]:
    """Samples of groups first ... first + count - 1. A group is one person in one sitting, in `twins` states."""
    for group in range(first, first + count):
        number = group // SCENES_PER_PERSON
        person = draw_person(np.random.default_rng((seed, PERSON, number)))
        scene = draw_scene(np.random.default_rng((seed, SCENE, group)))
        rng = np.random.default_rng((seed, STATE, group))
        states = [draw_state(rng) for _ in range(twins)]
        faces = render_twins(person, scene, states, size_px=size_px, framing=ALIGNED)
        for index, (state, face) in enumerate(zip(states, faces, strict=True)):
            yield _sample(seed, group, index, person, scene, state, face)


def _sample(seed: int, group: int, index: int, person: Person, scene: Scene, state: State, face: RenderedFace) -> Sample:
    done, code = cv2.imencode(".png", face.image[..., ::-1], PNG)
    assert done
    truth: dict[str, object] = {
        "emotion": state.emotion,
        "pose": [round(angle, 4) for angle in (scene.yaw, scene.pitch, scene.roll)],
        "points": face.points.round(2).tolist(),
        "landmarks": face.landmarks.round(1).tolist(),
        "left": state.left,
    }
    if state.expected is not None:
        truth["expected_va"] = [round(value, 4) for value in state.expected]
    return Sample(
        key=f"s{seed}-g{group:07d}-{index}",
        image=code.tobytes(),
        labels=state.row(),
        source=SOURCE,
        identity=f"s{seed}-p{group // SCENES_PER_PERSON:06d}",
        twin_group=f"s{seed}-g{group:07d}",
        groups=person.groups,
        truth=truth,
    )
