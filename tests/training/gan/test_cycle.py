"""Faces without twins: they move, are read and come back; the others are left as they are."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from affect.factory import initialise_model
from affect.model import smoke_card
from tests.support.tiny import tiny_model
from training.database.copying import copy_database
from training.database.reader import Database
from training.database.stream import Stream
from training.gan import loop
from training.gan.checkpoint import save_checkpoint
from training.gan.config import preset
from training.gan.cycle import MovedFaces, add_noise, cycle_loss, moving
from training.gan.distributed import SINGLE_PROCESS, StepRandom
from training.gan.feed import Feed
from training.gan.learner import learner_of
from training.gan.step import Pairs, step_losses

CONFIG = replace(
    preset("smoke"), batch_pairs=8, penalty_rows=4, adversary_from=0.5, reader_from=0.1
)
ROWS = 8


def _faces(seed: int = 0) -> Tensor:
    return 2 * torch.rand(ROWS, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) - 1


def _states(seed: int = 0) -> Tensor:
    return torch.rand(
        ROWS, len(smoke_card().vocabulary) + 2, generator=torch.Generator().manual_seed(seed)
    )


@pytest.fixture(scope="module")
def twinless(faces_of_made_people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("twinless") / "data"
    return copy_database(
        Database.open(faces_of_made_people),
        folder,
        "twinless",
        lambda sample: replace(sample, twin_group=""),
    )


def test_only_faces_without_a_twin_move_and_of_edits_all_that_are_not_to_stay() -> None:
    paired, edits, still = (
        torch.tensor(row)
        for row in (
            [True, False, False, False],
            [True, True, True, False],
            [False, False, True, False],
        )
    )
    always = moving(paired, edits, still, replace(CONFIG, moved=1.0), StepRandom(0))
    assert always.tolist() == [False, True, False, True]
    assert moving(paired, edits, still, replace(CONFIG, moved=0.0), StepRandom(0)).tolist() == [
        False,
        True,
        False,
        False,
    ]


def test_a_veil_lies_on_what_moved_alone() -> None:
    drawn, moved = 0.5 * torch.cat([_faces(), _faces(1)]), torch.arange(ROWS) < 3
    noised = add_noise(drawn, moved, CONFIG, StepRandom(0))
    assert torch.equal(noised[3:], drawn[3:])
    assert (noised - drawn)[:3].std().item() == pytest.approx(CONFIG.moved_noise, rel=0.05)


def test_a_decoder_that_changes_nothing_has_the_first_move_as_its_cycle_loss() -> None:
    model = initialise_model(smoke_card(), seed=0)  # its change is zero
    x, drawn, y = 0.5 * _faces(), 0.5 * _faces(), _states()
    drawn[:, :, 4:8] += 0.3
    edits, moved = torch.ones(ROWS, dtype=torch.bool), torch.arange(ROWS) < 2
    start = MovedFaces(x, y, model.read(x), edits, moved)
    loss = cycle_loss(model, start, drawn, model.read(drawn))
    one_row = 0.15 * 4 / 32  # 0.3 of [-1, 1] over four rows of 32; the same at every scale
    assert loss.item() == pytest.approx(one_row * 2 / ROWS, rel=1e-4)


def test_faces_that_were_not_moved_add_nothing_to_the_cycle_loss() -> None:
    model, x, y = tiny_model(), _faces(), _states()
    drawn = _faces(1).requires_grad_()
    edits, moved = torch.arange(ROWS) % 2 == 0, torch.arange(ROWS) < 4
    start = MovedFaces(x, y, model.read(x), edits, moved)
    cycle_loss(model, start, drawn, model.read(drawn)).backward()
    assert drawn.grad is not None
    assert drawn.grad[:4].flatten(1).abs().sum(1).min() > 0 and drawn.grad[4:].abs().sum() == 0


def _values(paired: Tensor, *, progress: float = 1.0) -> dict[str, Tensor]:
    y = _states()
    y[:3, -2:] = float("nan")
    pairs = Pairs(_faces(), y, _faces(1), _states(1), paired, twinless=True)
    return step_losses(tiny_model(), pairs, CONFIG, progress=progress, step=4, rng=StepRandom(1))


def test_a_batch_of_twins_has_no_cycle_loss_and_one_without_twins_has() -> None:
    twins, singles = (
        _values(torch.ones(ROWS, dtype=torch.bool)),
        _values(torch.zeros(ROWS, dtype=torch.bool)),
    )
    assert twins["cycle"] == 0 and twins["cycle_identity"] == 0 and twins["identity"] > 0
    assert singles["cycle"] > 0 and singles["cycle_identity"] > 0 and singles["identity"] == 0
    assert all(torch.isfinite(value) for value in singles.values())


def test_nothing_moves_before_the_reader_grades_what_is_drawn() -> None:
    assert "cycle" not in _values(torch.zeros(ROWS, dtype=torch.bool), progress=0.0)


def test_a_moved_face_is_held_against_no_picture() -> None:
    """All edits move, so that no pixel of theirs is wrong and no map either."""
    config = replace(CONFIG, edited=1.0, still=0.0)
    pairs = Pairs(
        _faces(),
        _states(),
        _faces(1),
        _states(1),
        torch.zeros(ROWS, dtype=torch.bool),
        twinless=True,
    )
    values = step_losses(tiny_model(), pairs, config, progress=0.2, step=1, rng=StepRandom(1))
    assert values["reconstruction"] == 0 and values["features"] == 0 and values["drawn_label"] > 0


def test_beside_a_face_without_a_twin_stands_every_other_picture_once_an_epoch(
    twinless: Path,
) -> None:
    database = Database.open(twinless)
    count = database.count("train")
    with Stream(database, split="train", size_px=32, batch_images=count // 2, seed=1) as stream:
        first, second = stream.batch(0), stream.batch(1)
    assert stream.twinless and not first.has_twin.any()
    assert not any((a == b).all() for a, b in zip(first.images, first.twins, strict=True))
    assert (first.twins == second.images).all()


@pytest.mark.slow
def test_moved_faces_learn_to_show_the_requested_state(twinless: Path) -> None:
    """A few hundred steps on a few faces: asked for a broad smile, they are read as smiling more
    than asked for none.
    """
    database = Database.open(twinless)
    config = replace(CONFIG, batch_pairs=16, warmup=0.0, adversary_from=1.0)
    cpu = torch.device("cpu")
    with Feed(config, database, None, ranks=SINGLE_PROCESS, device=cpu, start_batch=0) as feed:
        pairs = next(iter(feed))
    model = initialise_model(smoke_card(vocabulary=database.card.vocabulary), seed=0)
    learner = learner_of(model, config)
    for step in range(1, 401):
        learner.step(pairs, progress=0.2, step=step, rng=StepRandom(step))
    low, high = (
        pairs.y.nan_to_num(0.0).index_fill(1, torch.tensor(1), requested)
        for requested in (0.0, 1.0)
    )
    with torch.no_grad():
        rise = (
            model.labels(model.edit(pairs.x, high))[:, 1]
            - model.labels(model.edit(pairs.x, low))[:, 1]
        )
    assert rise.mean() > 0.3


def test_a_run_without_twins_resumes_to_the_same_bits(
    twinless: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(
        CONFIG, total_images=96, log_images=48, sample_images=96, checkpoint_seconds=0.0
    )
    loop.start(config, twinless, tmp_path / "whole")
    saves = iter(range(100))
    real = save_checkpoint

    def killed(*args: object, **named: object) -> None:
        real(*args, **named)  # type: ignore[arg-type]
        if next(saves) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        loop.start(config, twinless, tmp_path / "killed")
    monkeypatch.undo()
    loop.resume(tmp_path / "killed")
    whole, resumed = (
        load_file(tmp_path / run / "model" / "weights.safetensors") for run in ("whole", "killed")
    )
    assert all(
        torch.equal(whole[name].nan_to_num(9), resumed[name].nan_to_num(9)) for name in whole
    )
    assert "cycle" in json.loads((tmp_path / "killed" / "log.jsonl").read_text().splitlines()[-1])
