"""From where on a reading is called strange: strangers are caught, faces let through."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from affect.card import ModelCard
from affect.factory import initialise_model
from affect.model import smoke_card
from tests.support.made_database import card, make
from training.database.sample import VALIDATION, split_of
from training.evaluation.recognition.robustness import OUT_OF_DISTRIBUTION
from training.evaluation.recognition.warning_limits import ALARMS, choose_limit, main, measure_limit


def test_a_limit_between_out_of_distribution_pictures_and_faces_separates_them() -> None:
    faces, out_of_distribution = np.linspace(0.3, 1, 100), {"cat": np.linspace(0, 0.1, 50)}
    limit = choose_limit(faces, out_of_distribution)
    assert 0.1 < limit.limit < 0.3 and limit.alarms == 0 and limit.caught == {"cat": 1.0}


def test_few_faces_are_warned_about_even_where_out_of_distribution_pictures_look_alike() -> None:
    same = np.linspace(0, 1, 500)
    limit = choose_limit(same, {"cat": same, "coins": same / 100})
    assert limit.alarms <= ALARMS and limit.caught["coins"] > 0.98 > limit.caught["cat"]


def test_the_hardest_kind_decides() -> None:
    faces = np.linspace(0.5, 1, 100)
    easy, hard = np.full(50, 0.01), np.full(50, 0.2)
    assert choose_limit(faces, {"easy": easy, "hard": hard}).limit == pytest.approx(0.205)


def test_a_model_is_measured_on_every_kind_of_out_of_distribution_picture() -> None:
    model = initialise_model(smoke_card(), seed=0).eval()
    side = model.card.image_px
    faces = np.random.default_rng(0).integers(0, 256, (4, side, side, 3), dtype=np.uint8)
    limit = measure_limit(model, faces, np.random.default_rng(1))
    assert set(limit.caught) == set(OUT_OF_DISTRIBUTION) and 0 < limit.limit <= 1
    assert all(name in str(limit) for name in OUT_OF_DISTRIBUTION)


def test_the_command_writes_the_limit_into_the_card_and_nothing_else(tmp_path: Path) -> None:
    initialise_model(smoke_card(), seed=0).save(tmp_path / "model")
    held = [f"p{n}" for n in range(90) if split_of("made", f"p{n}") == VALIDATION]
    rows: list[tuple[int, str, dict[str, float]]] = [(n, name, {}) for n, name in enumerate(held)]
    people = make(tmp_path / "people", card("AU12"), rows)
    before = ModelCard.load(tmp_path / "model")
    result = CliRunner().invoke(main, [str(tmp_path / "model"), str(people)])
    after = ModelCard.load(tmp_path / "model")
    assert result.exit_code == 0, result.output
    assert any(result.output.strip() in one for one in after.calibrated_on)
    changed = {"warning_limits", "calibrated_on"}
    assert before.model_dump(exclude=changed) == after.model_dump(exclude=changed)
