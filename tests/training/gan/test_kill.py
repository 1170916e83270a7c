"""SIGKILL at any moment, also while a checkpoint is being written, costs time and not one bit."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.support.waiting import LIMIT_SECONDS
from training.gan.checkpoint import CHECKPOINT_FILE

pytestmark = pytest.mark.processes

BEGIN = """
import sys
from dataclasses import replace
from pathlib import Path
from training.gan import loop
from training.gan.config import preset
from training.gan.run_folder import CONFIG_FILE
config = replace(preset("smoke"), batch_pairs=4, penalty_rows=4, total_images=800, log_images=80,
    sample_images=800, checkpoint_seconds=0.0)
data, run = map(Path, sys.argv[1:])
if (run / CONFIG_FILE).is_file():
    loop.resume(run)
else:
    loop.start(config, data, run)
"""
KILLS = 4


def _process(script: Path, data: Path, run: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }
    with (script.parent / f"{run.name}.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, str(script), str(data), str(run)],
            stdout=log,
            stderr=log,
            env=environment,
        )


def test_a_run_killed_again_and_again_ends_with_the_bits_of_one_that_was_not(
    faces_of_made_people: Path, tmp_path: Path
) -> None:
    script = tmp_path / "begin.py"
    script.write_text(BEGIN)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert _process(script, faces_of_made_people, whole).wait(LIMIT_SECONDS) == 0
    chance = np.random.default_rng(0)
    while_saving = 0
    for kill in range(KILLS):
        process = _process(script, faces_of_made_people, killed)
        half = killed / f"{CHECKPOINT_FILE}.new"
        before = _mark(killed / CHECKPOINT_FILE)
        _wait(lambda before=before: _mark(killed / CHECKPOINT_FILE) != before, process)
        time.sleep(float(chance.uniform(0, 0.3)))
        if kill % 2:
            _wait(half.exists, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        while_saving += half.exists()
    assert while_saving, "no kill met a checkpoint that was being written"
    assert _process(script, faces_of_made_people, killed).wait(LIMIT_SECONDS) == 0, (
        tmp_path / "killed.txt"
    ).read_text()[-3000:]
    one, other = (load_file(run / "model" / "weights.safetensors") for run in (whole, killed))
    assert all(torch.equal(one[name].nan_to_num(9), other[name].nan_to_num(9)) for name in one)


def _mark(path: Path) -> int:
    return path.stat().st_mtime_ns if path.is_file() else 0


def _wait(condition: object, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + LIMIT_SECONDS
    while not condition():  # type: ignore[operator]
        assert process.poll() is None, (
            "the run ended before it could be killed: give it more pictures"
        )
        assert time.monotonic() < end, "no checkpoint came"
        time.sleep(0.0005)
