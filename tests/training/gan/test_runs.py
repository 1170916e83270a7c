"""Run folders are listed and compared by what their files say."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from affect.card import Measured
from tests.support.tiny import tiny_card, tiny_model
from training.gan.checkpoint import RunError
from training.gan.commands import runs
from training.gan.config import TrainConfig, preset
from training.gan.runs import Run, comparison, runs_in


def _run(
    folder: Path, config: TrainConfig, *, label: float, quality: dict[str, Measured] | None = None
) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"data": "faces", **config.as_json()}))
    lines = [
        {
            "step": step,
            "seen_images": 32 * step,
            "rate": 99.5,
            "label": label + 1 / step,
            "critic": 0.25,
        }
        for step in (50, 100)
    ]
    (folder / "log.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines) + '{"step": 101, "seen_im'
    )  # being written
    if quality is not None:
        tiny_model(tiny_card().model_copy(update={"quality": quality})).save(folder / "model")
    return folder


def _rows(text: str) -> dict[str, list[str]]:
    return {
        cells[0]: cells[1:]
        for line in text.splitlines()
        if (cells := [cell.strip() for cell in line.split("  ") if cell.strip()])
    }


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    smoke = replace(preset("smoke"), total_images=6400)
    measured = {"au_f1": Measured(value=0.6, low=0.55, high=0.65, split="test")}
    better = {"au_f1": Measured(value=0.7, low=0.66, high=0.74, split="test")}
    wide = replace(smoke, seed=5, network=smoke.network.model_copy(update={"latent": 64}))
    return _run(tmp_path / "a", smoke, label=0.5, quality=measured), _run(
        tmp_path / "b", wide, label=0.4, quality=better
    )


def test_a_comparison_shows_only_the_settings_that_differ(two: tuple[Path, Path]) -> None:
    rows = _rows(comparison([Run.load(folder) for folder in two]))
    assert rows["seed"] == ["0", "5"] and rows["network.latent"] == ["32", "64"]
    assert "learning_rate" not in rows and "data" not in rows


def test_it_puts_progress_losses_and_measured_figures_side_by_side(two: tuple[Path, Path]) -> None:
    rows = _rows(comparison([Run.load(folder) for folder in two]))
    assert rows["pictures seen"] == ["3,200 (50.0 %)"] * 2 and rows["pictures a second"] == [
        "99.5",
        "99.5",
    ]
    assert rows["label"] == ["0.5100", "0.4100", "-0.1000"]
    assert rows["au_f1"] == ["0.6000 [0.550, 0.650]", "0.7000 [0.660, 0.740]", "+0.1000"]
    assert rows["measured on"] == ["none test", "none test"]


def test_three_runs_have_no_difference_and_one_without_a_model_has_no_figures(
    two: tuple[Path, Path], tmp_path: Path
) -> None:
    third = _run(tmp_path / "c", preset("faces64"), label=0.3)
    rows = _rows(comparison([Run.load(folder) for folder in (*two, third)]))
    assert rows["au_f1"][2] == "-" and rows["measured on"][2] == "-" and len(rows["label"]) == 3
    assert rows["preset"] == ["smoke", "smoke", "faces64"]


def test_a_setting_of_before_it_was_known_is_its_default(two: tuple[Path, Path]) -> None:
    path = two[0] / "config.json"
    path.write_text(
        json.dumps(
            {
                name: value
                for name, value in json.loads(path.read_text()).items()
                if name != "cycle_weight"
            }
        )
    )
    assert "cycle_weight" not in _rows(comparison([Run.load(folder) for folder in two]))


def test_the_command_lists_a_folder_and_compares_runs(two: tuple[Path, Path]) -> None:
    listed = CliRunner().invoke(runs, [str(two[0].parent)]).output
    assert (
        [line.split()[0] for line in listed.splitlines()] == ["a", "b"]
        and "label=0.5100" in listed
        and "50.0 %" in listed
    )
    assert "network.latent" in CliRunner().invoke(runs, [str(folder) for folder in two]).output
    compared = json.loads(CliRunner().invoke(runs, ["--json", *map(str, two)]).output)
    assert [one["quality"]["au_f1"]["value"] for one in compared] == [0.6, 0.7] and compared[1][
        "config"
    ]["network.latent"] == 64


def test_a_run_that_has_just_begun_is_listed(tmp_path: Path) -> None:
    (_run(tmp_path / "new", preset("smoke"), label=0.0) / "log.jsonl").unlink()
    assert "0.0 %" in runs_in(tmp_path)[0].line()


def test_a_folder_that_is_no_run_is_reported(two: tuple[Path, Path]) -> None:
    with pytest.raises(RunError, match=r"has no config\.json: give run folders"):
        Run.load(two[0].parent)
