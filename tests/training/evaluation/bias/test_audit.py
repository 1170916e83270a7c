"""What an audit says about changes whose effect is known."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.support.trained import FACES, face, model, run
from training.evaluation.bias import audit
from training.evaluation.bias.nuisances import NUISANCES, render_pairs
from training.evaluation.commands import audit as command
from training.evaluation.core import metrics
from training.evaluation.core.predictions import Decisions, decide
from training.gan.run_folder import MODEL_FOLDER


def weights_of(count: int) -> np.ndarray:
    return metrics.resamplings(np.arange(count), np.random.default_rng(0))


def test_nothing_changed_turns_nothing() -> None:
    decided = decide(model(), np.stack([face(name) for name in FACES]))
    shift = audit.shift_of(model(), decided, decided, None, weights_of(len(FACES)))
    assert shift.flipped.value == shift.faces_flipped.value == shift.va_moved.value == 0
    assert shift.auc is None


def test_what_turns_is_counted_and_signed() -> None:
    decided = decide(model(), np.stack([face(name) for name in FACES]))
    present = decided.present.copy()
    present[:, 8] = 1 - present[:, 8]
    moved = Decisions(present, decided.intensity, decided.va + [0.2, -0.1])
    shift = audit.shift_of(model(), decided, moved, None, weights_of(len(FACES)))
    assert shift.flipped.value == pytest.approx(1 / present.shape[1])
    assert shift.faces_flipped.value == 1
    assert [shift.valence.value, shift.arousal.value] == pytest.approx([0.2, -0.1])
    code, change = next(iter(shift.aus.items()))
    assert code == model().card.vocabulary[8]
    assert change.value == pytest.approx((present - decided.present)[:, 8].mean())


def test_only_the_named_thing_changes() -> None:
    named = {nuisance.name: nuisance for nuisance in NUISANCES}
    skin = render_pairs(named["skin: light to dark"], people=3, seed=5, size_px=64)
    assert skin.after[:, 24:44, 24:40].mean() < 0.7 * skin.before[:, 24:44, 24:40].mean()
    glasses = render_pairs(named["glasses: none to some"], people=3, seed=5, size_px=64)
    shift = np.abs(glasses.after.astype(int) - glasses.before).mean((0, 3))
    assert shift[16:32].mean() > 5 * shift[48:].mean()
    assert [state.row().tolist() for state in skin.states[:1]] == [
        state.row().tolist() for state in glasses.states[:1]
    ]


def test_every_nuisance_changes_its_pictures() -> None:
    for nuisance in NUISANCES:
        pairs = render_pairs(nuisance, people=1, seed=2, size_px=32)
        assert not np.array_equal(pairs.before, pairs.after), nuisance.name


def test_a_direction_is_found_with_the_others_held() -> None:
    rng = np.random.default_rng(0)
    attributes = rng.normal(size=(500, 2))
    attributes[:, 1] += 0.8 * attributes[:, 0]  # entangled in the data
    true = rng.normal(size=(2, 16))
    latents = attributes @ true + 0.1 * rng.normal(size=(500, 16))
    assert np.allclose(
        audit.directions(latents, attributes, rng.normal(size=(500, 3)), ridge=1e-3),
        true,
        atol=0.05,
    )


def test_attributes_become_numbers() -> None:
    groups = {
        "skin_tone": np.array(["2", "9", "5", "5"] * 10),
        "glasses": np.array(["no", "no", "no", "yes"] * 10),
        "age": np.array(["20-39", "60+", "20-39", "0-19"] * 10),
        "same": np.array(["x"] * 40),
    }
    attributes = {one.name: one for one in audit.attributes_of(groups)}
    assert set(attributes) == {"skin tone: 2 to 9", "glasses: no to yes", "age: 0 to 60"}
    assert attributes["glasses: no to yes"].values.sum() == 10
    assert attributes["skin tone: 2 to 9"].values[:4].tolist() == [2, 9, 5, 5]


def test_the_command_writes_ranked_findings(tmp_path: Path) -> None:
    (tmp_path / MODEL_FOLDER).symlink_to(run() / MODEL_FOLDER)
    done = CliRunner().invoke(command, [str(tmp_path), "--people", "8"])
    assert done.exit_code == 0, done.output
    content = json.loads(
        (tmp_path / "audit.json").read_text(), parse_constant=lambda name: pytest.fail(name)
    )
    turned = [one["shift"]["flipped"]["value"] for one in content["rendered"]["findings"]]
    assert len(turned) == len(NUISANCES)
    assert turned == sorted(turned, reverse=True)
    assert turned[0] > content["rendered"]["floor"]
    page = (tmp_path / "audit.html").read_text()
    assert page.count("data:image/webp") == len(NUISANCES)
    assert "http" not in page.replace("http://www.w3.org", "")
