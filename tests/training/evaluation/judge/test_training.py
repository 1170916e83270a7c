"""The judge learns from a database, says how well it did on people it never saw, and comes back
from its files as it was.
"""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import click
import cv2
import numpy as np
import pytest
import torch

from affect.judge import BLOCKS, Judge, JudgeError, JudgeKind
from affect.model import AffectModel
from affect.model_folders import JUDGE_WEIGHTS_FILE
from tests.training.evaluation.conftest import QUICK_JUDGE
from training.database.reader import Database
from training.evaluation.commands import judge as judge_command
from training.evaluation.judge.training import (
    augment,
    judge_loss,
    read_split,
    train_judge,
    twin_loss,
)


def test_a_judge_reads_people_it_never_saw(judge_folder: Path, drawn_database: Path) -> None:
    judge = Judge.load(judge_folder)
    database = Database.open(drawn_database)
    smile = database.labels("test")[:, 1]
    read = read_split(judge, database, "test")[:, 1]
    assert np.corrcoef(smile, read)[0, 1] > 0.8
    assert judge.card.held_out["AU12"][0] > 0.9
    assert judge.card.held_out["valence"][0] > 0.7


def test_a_judge_comes_back_from_its_files_and_takes_faces_of_any_size(judge_folder: Path) -> None:
    judge = Judge.load(judge_folder)
    faces = torch.rand(3, 3, 64, 64) * 2 - 1
    assert judge.read(faces).shape == (3, 5)
    assert judge.features(faces).shape == (3, 160)
    assert torch.equal(Judge.load(judge_folder).read(faces), judge.read(faces))


def test_larger_faces_are_read_as_the_database_would_shrink_them(judge_folder: Path) -> None:
    judge = Judge.load(judge_folder)
    faces = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8)
    small = np.stack([cv2.resize(face, (32, 32), interpolation=cv2.INTER_AREA) for face in faces])
    large, shrunk = (
        judge.read(AffectModel.to_pixels(torch.from_numpy(images))) for images in (faces, small)
    )
    assert torch.allclose(large, shrunk, atol=0.02)  # the database rounds to 8 bits


def test_a_judge_reads_a_face_and_its_mirror_image_alike(judge_folder: Path) -> None:
    judge = Judge.load(judge_folder)
    faces = torch.rand(3, 3, 64, 64) * 2 - 1
    both = torch.stack([judge(faces)[0], judge(faces.flip(3))[0]]).mean(0)
    assert torch.allclose(judge.read(faces), judge.read(faces.flip(3)), atol=1e-5)
    assert torch.allclose(judge.read(faces)[:, :-2], torch.sigmoid(both[:, :-2]), atol=1e-5)
    assert torch.allclose(judge.features(faces), judge(faces)[1], atol=1e-5)


def test_every_kind_that_the_command_offers_learns_and_comes_back(
    drawn_database: Path, tmp_path: Path
) -> None:
    offered = next(option for option in judge_command.params if option.name == "kind").type
    assert isinstance(offered, click.Choice)
    assert set(offered.choices) == set(BLOCKS)
    faces = torch.rand(2, 3, 32, 32) * 2 - 1
    for kind in get_args(JudgeKind):
        config = replace(QUICK_JUDGE, images=64, kind=kind)
        trained = train_judge(drawn_database, tmp_path / kind, config)
        assert torch.equal(Judge.load(tmp_path / kind).read(faces), trained.read(faces))


def test_a_judge_whose_weights_were_swapped_is_refused(judge_folder: Path, tmp_path: Path) -> None:
    judge = Judge.load(judge_folder)
    judge.save(tmp_path)
    path = tmp_path / JUDGE_WEIGHTS_FILE
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(JudgeError, match=r"judge\.json describes"):
        Judge.load(tmp_path)


def test_a_folder_without_a_judge_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(JudgeError, match="affectgan judge"):
        Judge.load(tmp_path)


def test_labels_that_nobody_gave_add_nothing_to_the_loss() -> None:
    raw = torch.randn(8, 5)
    y = torch.rand(8, 5)
    y[:, 0] = float("nan")
    changed = raw.clone()
    changed[:, 0] += 3
    assert judge_loss(raw, y) == judge_loss(changed, y)
    assert torch.isfinite(judge_loss(raw, torch.full((8, 5), float("nan"))))


def test_augmentation_is_the_same_for_the_same_seed_and_stays_in_range() -> None:
    x = torch.rand(6, 3, 32, 32) * 2 - 1
    once, again = (augment(x, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(once, again)
    assert once.abs().max() <= 1
    assert (once - x).abs().mean() > 0.05


def test_another_seed_is_another_judge(drawn_database: Path, tmp_path: Path) -> None:
    config = replace(QUICK_JUDGE, images=64)
    first, second = (
        train_judge(drawn_database, tmp_path / str(seed), replace(config, seed=seed))
        for seed in (1, 2)
    )
    assert first.card.sha256 != second.card.sha256


def test_twins_ranked_in_the_right_order_have_no_loss() -> None:
    y = torch.tensor([[0.2, 0.5, -0.5], [0.7, 0.1, 0.3]])
    raw = torch.cat([torch.logit(y[:, :1]), torch.atanh(y[:, 1:])], dim=1)
    assert twin_loss(raw, y) < 1e-10
    assert twin_loss(raw.flip(0), y) > 0.1
    y[1, 2] = float("nan")
    assert torch.isfinite(twin_loss(raw, y))


def test_the_judge_does_not_mind_the_light(judge_folder: Path) -> None:
    judge = Judge.load(judge_folder)
    faces = torch.rand(3, 3, 32, 32) - 0.5
    assert (judge.read(faces) - judge.read(0.8 * faces - 0.1)).abs().max() < 0.1
