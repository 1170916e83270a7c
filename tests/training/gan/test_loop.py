"""A run stops, resumes to the same bits, and says what is wrong before it starts."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from affect.factory import load_model
from training.database.card import DataError
from training.database.folder_lock import locked
from training.gan import loop
from training.gan.checkpoint import CHECKPOINT_FILE, RunError, save_checkpoint
from training.gan.commands import runs, train
from training.gan.config import PRESETS, TrainConfig, from_json, preset
from training.gan.run_folder import CONFIG_FILE
from training.gan.schedule import schedule

CONFIG = replace(
    preset("smoke"),
    batch_pairs=4,
    total_images=160,
    log_images=16,
    sample_images=80,
    penalty_rows=4,
)


@pytest.fixture
def data(faces_of_made_people: Path) -> Path:
    return faces_of_made_people


def _weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "weights.safetensors")


def test_a_stopped_run_resumes_to_the_same_bits(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop.start(CONFIG, data, tmp_path / "whole")
    config = replace(CONFIG, checkpoint_seconds=0.0)
    steps = iter(range(100))
    real = save_checkpoint

    def killed(*args: object, **named: object) -> None:
        real(*args, **named)  # type: ignore[arg-type]
        if next(steps) == 11:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        loop.start(config, data, tmp_path / "killed")
    monkeypatch.undo()
    (tmp_path / "killed" / f"{CHECKPOINT_FILE}.new").write_bytes(
        b"half a checkpoint, as a kill while saving leaves it"
    )
    loop.resume(tmp_path / "killed")
    whole, resumed = _weights(tmp_path / "whole"), _weights(tmp_path / "killed")
    assert all(
        torch.equal(whole[name].nan_to_num(9), resumed[name].nan_to_num(9)) for name in whole
    )
    logs = [
        [json.loads(line) for line in (tmp_path / run / "log.jsonl").read_text().splitlines()]
        for run in ("whole", "killed")
    ]
    assert (
        [line["step"] for line in logs[0]]
        == [line["step"] for line in logs[1]]
        == sorted({line["step"] for line in logs[1]})
    )


@pytest.mark.parametrize("labels", ["au", "va", "both"])
def test_each_kind_of_run_leaves_a_whole_run_folder(
    data: Path, tmp_path: Path, labels: str
) -> None:
    result = CliRunner().invoke(
        train,
        [
            "--data",
            str(data),
            "--labels",
            labels,
            "--preset",
            "smoke",
            "--images",
            "96",
            "--out",
            str(tmp_path / "run"),
        ],
    )
    assert result.exit_code == 0, result.output
    model = load_model(tmp_path / "run" / "model")
    assert (
        model.card.labels == labels
        and model.card.seen_images == 96
        and model.card.data.sources == ("made",)
    )
    face = model.generate(
        model.sample_latents(2, torch.Generator().manual_seed(0)),
        model.sample_labels(torch.full((2, 4), float("nan")), torch.Generator().manual_seed(0)),
    )
    assert torch.isfinite(face).all()
    assert list((tmp_path / "run" / "samples").glob("*.png")) and list(
        (tmp_path / "run" / "tensorboard").iterdir()
    )
    assert "smoke" in CliRunner().invoke(runs, [str(tmp_path)]).output


def test_a_run_is_not_overwritten(data: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RunError, match="--resume"):
        loop.start(CONFIG, data, tmp_path)


def test_a_run_is_not_gone_on_with_while_it_is_going_on(
    faces_of_made_people: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with locked(run, RunError):
        with pytest.raises(RunError, match="another process"):
            loop.start(preset("smoke"), faces_of_made_people, run)
        (run / CONFIG_FILE).write_text("{}")
        with pytest.raises(RunError, match="another process"):
            loop.resume(run)


def test_a_folder_that_is_no_run_cannot_resume(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a run folder"):
        loop.resume(tmp_path)


def test_a_missing_database_is_reported_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        loop.start(CONFIG, tmp_path / "nothing", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", PRESETS)
def test_a_config_survives_its_json(name: str) -> None:
    config: TrainConfig = preset(name)
    assert from_json(json.loads(json.dumps(config.as_json()))) == config


def test_a_config_that_an_older_run_wrote_is_read() -> None:
    values = CONFIG.as_json()
    values["veil"] = values.pop("moved_noise")
    assert from_json(values) == CONFIG


def test_an_unknown_preset_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ValueError, match="choose one of smoke, faces64"):
        preset("large")


def test_the_rate_rises_briefly_and_falls_to_nothing() -> None:
    assert (
        schedule(0.01, 0.02) == 0.5
        and schedule(0.02, 0.02) == 1.0
        and schedule(1.0, 0.02) == pytest.approx(0)
    )
