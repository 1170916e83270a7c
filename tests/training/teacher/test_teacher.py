"""A teacher that learnt from renders labels faces it has not seen, and knows where to doubt."""

import numpy as np
import pytest

from tests.support.made_meshes import MadeFaces
from training.teacher.targets import Targets
from training.teacher.teacher import Meshes, Teacher, teach

AUS = ("AU4", "AU12")
SHIFT = 0.5


def _meshes(made: MadeFaces, count: int, seed: int) -> Meshes:
    rng = np.random.default_rng(seed)
    aus = np.where(rng.random((count, 2)) < 0.5, 0.0, rng.random((count, 2)))
    va = np.stack([aus[:, 1] - aus[:, 0], aus.mean(1)], axis=1)
    rest = np.full((count, len(Targets(AUS).names) - 4), np.nan)
    return Meshes(made.meshes(aus, rng), np.concatenate([aus, va, rest], axis=1))


@pytest.fixture(scope="module")
def made() -> MadeFaces:
    return MadeFaces.draw(2)


@pytest.fixture(scope="module")
def teacher(made: MadeFaces) -> Teacher:
    """Renders, and photographs of people who seem to smile by SHIFT when they don't."""
    neutral = made.meshes(np.zeros((20, 2)), np.random.default_rng(9), shift=SHIFT)
    held_out = (_meshes(made, 80, 1), _meshes(made, 80, 2))
    return teach(Targets(AUS), _meshes(made, 400, 0), held_out, neutral)


def test_labels_follow_the_truth_on_people_of_another_kind(
    made: MadeFaces, teacher: Teacher
) -> None:
    truth = np.random.default_rng(3).random((60, 2))
    labels = teacher.label(made.meshes(truth, np.random.default_rng(4), shift=SHIFT))
    for column in range(2):
        assert np.corrcoef(truth[:, column], labels.values[:, column])[0, 1] > 0.9


def test_people_at_rest_show_nothing(made: MadeFaces, teacher: Teacher) -> None:
    labels = teacher.label(made.meshes(np.zeros((30, 2)), np.random.default_rng(5), shift=SHIFT))
    assert (labels.values[:, :2] < 0.3).mean() > 0.95


def test_a_mesh_unlike_any_render_is_doubted(made: MadeFaces, teacher: Teacher) -> None:
    usual = made.meshes(np.zeros((10, 2)), np.random.default_rng(6), shift=SHIFT)
    strange = usual + np.random.default_rng(7).normal(0, 0.03, usual.shape)
    columns = slice(0, 4)
    sure, unsure = (teacher.label(m).confidence[:, columns].mean() for m in (usual, strange))
    assert sure > 2 * unsure


def test_what_renders_do_not_say_gets_no_confidence(made: MadeFaces, teacher: Teacher) -> None:
    labels = teacher.label(made.meshes(np.zeros((5, 2)), np.random.default_rng(8)))
    pose = teacher.targets.pose
    assert (labels.confidence[:, pose] == 0).all()
    assert ((labels.confidence >= 0) & (labels.confidence <= 1)).all()


def test_a_mirror_turns_left_to_right_only() -> None:
    signs = dict(zip(Targets(AUS).names, Targets(AUS).signs, strict=True))
    assert signs["AU12"] == signs["valence"] == signs["pitch"] == 1
    assert signs["yaw"] == signs["roll"] == signs["AU12 left less right"] == -1
