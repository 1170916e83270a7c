"""`affectgan live`: JSON lines of what is there now, and a sentence where there is nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from affect.local.video import VideoError
from scoring.live import Newest

LIVE = [sys.executable, "-m", "affect.cli", "live"]


def test_a_stream_becomes_json_lines(clip: Path, model_folder: Path) -> None:
    command = [*LIVE, str(clip), "--json", "--model", str(model_folder), "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    frames = [row["frame"] for row in rows]
    assert frames and frames == sorted(set(frames))
    assert all(row["input"] == str(clip) for row in rows)


def test_what_comes_too_fast_is_left_out(clip: Path) -> None:
    newest = iter(Newest(str(clip)))
    numbers = [frame.number for frame in newest]
    assert numbers == sorted(set(numbers)) and numbers[-1] == 39


def test_a_source_that_fails_says_so(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="cannot be opened"):
        next(iter(Newest(str(tmp_path / "gone.mp4"))))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(["webcam:97", "--json"], "no webcam 97"), (["{clip}"], "--json prints lines instead")],
)
def test_no_webcam_and_no_screen_are_one_sentence(
    clip: Path, model_folder: Path, arguments: list[str], sentence: str
) -> None:
    named = [argument.format(clip=clip) for argument in arguments]
    bare = {key: value for key, value in os.environ.items() if key != "DISPLAY"}
    done = subprocess.run(
        [*LIVE, *named, "--model", str(model_folder)], capture_output=True, text=True, env=bare
    )
    assert done.returncode != 0 and sentence in done.stderr and "Traceback" not in done.stderr
