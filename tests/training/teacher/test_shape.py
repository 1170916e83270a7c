"""Normalised meshes know who and what, and nothing of place, size and turn."""

import numpy as np

from tests.support.made_meshes import PAIRS, MadeFaces
from training.teacher.shape import Normaliser, align


def test_place_size_and_turn_are_taken_out() -> None:
    rng = np.random.default_rng(0)
    meshes = MadeFaces.draw(1).meshes(np.zeros((20, 1)), rng)
    aligned, _ = align(meshes, meshes[0])
    assert meshes.std(0).mean() > 5 * aligned.std(0).mean()


def test_each_point_finds_the_one_on_the_other_side() -> None:
    meshes = MadeFaces.draw(1).meshes(np.zeros((60, 1)), np.random.default_rng(1))
    mirror = Normaliser.fit(meshes).mirror
    assert all(mirror[a] == b and mirror[b] == a for a, b in PAIRS)


def test_a_mirrored_mesh_is_mirrored_back() -> None:
    rng = np.random.default_rng(2)
    normaliser = Normaliser.fit(MadeFaces.draw(1).meshes(np.zeros((60, 1)), rng))
    shapes = rng.normal(0, 1, (3, 478 * 3))
    assert np.allclose(normaliser.mirrored(normaliser.mirrored(shapes)), shapes)


def test_the_turn_taken_out_is_the_head_s() -> None:
    made, rng = MadeFaces.draw(1), np.random.default_rng(3)
    meshes = made.meshes(np.zeros((60, 1)), rng)
    normaliser = Normaliser.fit(meshes)
    yaw = np.array([[0.94, 0, 0.342], [0, 1, 0], [-0.342, 0, 0.94]])
    _, turns = normaliser.shapes(np.stack([normaliser.mean, normaliser.mean @ yaw.T]))
    assert abs(turns[0]).max() < 1e-6 and abs(np.degrees(turns[1]) - (0, 20, 0)).max() < 0.5
