"""Levels of trust fitted anew, by a tiny model and two tiny judges that learnt from cartoons."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from affect.card import ModelCard
from affect.judge import Judge
from affect.model_folders import JUDGE_FOLDER
from experiments.earn_trust import main
from tests.support import cartoons
from tests.support.once import made_once
from tests.support.trained import run
from training.evaluation.judge.training import JudgeConfig, train_judge
from training.gan.run_folder import MODEL_FOLDER

QUICK = JudgeConfig(
    images=6_400, batch_images=32, image_px=32, widths=(16, 24, 32, 48), kind="residual"
)


@pytest.fixture(scope="module")
def judges() -> Path:
    """Two that differ by their seeds, in folders `1` and `2`."""
    return made_once("two-judges", _train)


def _train(folder: Path) -> None:
    for seed in (1, 2):
        train_judge(run().parent / "faces", folder / str(seed), replace(QUICK, seed=seed))


def _arguments(weights: Path, judges: Path, photographs: Path) -> list[str]:
    given = {
        "--weights": weights,
        "--second-judge": judges / "2",
        "--data": run().parent / "faces",
        "--photographs": photographs,
        "--answers": 16,
        "--tested": 8,
    }
    return [str(part) for pair in given.items() for part in pair]


def test_levels_are_fitted_measured_and_written_only_on_request(
    judges: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, photographs = tmp_path / "weights", cartoons.write(tmp_path / "photographs", 30, 2)
    shutil.copytree(run() / MODEL_FOLDER, weights)
    shutil.copytree(judges / "1", weights / JUDGE_FOLDER)
    before = ModelCard.load(weights)
    given = _arguments(weights, judges, photographs)
    main([*given, "--answers", "0"])
    assert ModelCard.load(weights) == before and "cartoons, test: " in capsys.readouterr().out
    main([*given, "--tested", "0", "--write"])
    assert "cartoons, test: " not in capsys.readouterr().out
    levels, served = ModelCard.load(weights).trust_levels, Judge.load(judges / "1").card.sha256
    assert {one.judge for one in levels.values()} == {served} and set(levels) == {"high", "medium"}
    assert [one.on for one in levels["high"].earned] == ["cartoons, validation"] * 2


def test_weights_without_a_judge_beside_them_are_refused(
    judges: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(_arguments(run() / MODEL_FOLDER, judges, tmp_path))
    assert "has no judge beside it" in capsys.readouterr().err
