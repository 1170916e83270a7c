"""`affectgan score`: one row a face a frame, the same table whoever dies on the way, and nothing
overwritten unasked.
"""

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from pyarrow import parquet

from affect.local.table import columns
from tests.scoring.conftest import FRAMES, Run
from tests.support.tables import rows_of
from tests.support.tiny import tiny_card
from tests.support.waiting import LIMIT_SECONDS, until

pytestmark = pytest.mark.processes


def test_a_video_is_a_row_a_frame(run: Run, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "t.csv"
    done = run(clip, "--out", out, "--track", "--pictures", tmp_path / "look")
    assert done.exit_code == 0, done.output
    rows = rows_of(out)
    assert list(rows[0]) == list(columns(tiny_card().vocabulary))
    assert [int(row["frame"]) for row in rows] == list(range(FRAMES))
    assert {row["track"] for row in rows} == {"0"} and {row["error"] for row in rows} == {""}
    assert float(rows[10]["time_seconds"]) == pytest.approx(0.4, abs=1e-3)
    assert not (tmp_path / "t.csv.journal").exists()
    assert (tmp_path / "look" / "clip.mp4-0001.mp4").stat().st_size > 1000


def test_a_folder_is_a_row_a_picture_and_what_is_broken_says_why(
    run: Run, album: Path, tmp_path: Path
) -> None:
    out = tmp_path / "t.parquet"
    done = run(album, "--out", out, "--pictures", tmp_path / "look", workers=2)
    assert done.exit_code == 0 and "3 not readable" in done.output
    rows = parquet.read_table(out).to_pylist()
    errors = {Path(row["input"]).name: row["error"] for row in rows if row["error"]}
    assert len(rows) == 23 and len({row["input"] for row in rows}) == 23
    assert errors == {
        "broken.jpg": "not_an_image",
        "gone.jpg": "unreadable",
        "raw.heic": "unsupported_type",
    }
    assert (tmp_path / "look" / "faces-0001.jpg").is_file()


def test_nothing_is_overwritten_unasked(run: Run, album: Path, tmp_path: Path) -> None:
    out = tmp_path / "t.csv"
    out.write_text("mine")
    result = run(album / "broken.jpg", "--out", out)
    assert result.exit_code == 1 and "--overwrite" in result.output
    assert out.read_text() == "mine"
    assert run(album / "broken.jpg", "--out", out, "--overwrite").exit_code == 1  # nothing readable
    assert [row["error"] for row in rows_of(out)] == ["not_an_image"]
    again = run(album / "broken.jpg", "--out", out, "--resume")
    assert again.exit_code == 0 and "complete already" in again.output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("gone.jpg", "--out", "t.csv"), "no such file"),
        (("{album}", "--out", "t.xlsx"), "which kind of table"),
        (("{album}", "--out", "/nowhere/t.csv"), "no folder /nowhere"),
        (("{album}", "--out", "t.csv", "--resume", "--overwrite"), "one of them"),
        (("{album}", "--out", "t.csv", "--baseline", "{album}/broken.jpg"), "--baseline"),
        (("{album}", "--out", "t.csv", "--device", "cuda:77"), "cuda:77"),
        (("webcam:97", "--out", "t.csv", "--resume"), "no --resume"),
        (("{album}/anna", "--out", "/proc/t.csv"), "/proc"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(
    model_folder: Path, album: Path, tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    named = [argument.format(album=album) for argument in arguments]
    command = [sys.executable, "-m", "affect.cli", "score", *named, "--model", str(model_folder)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0 and sentence in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_no_webcam_is_one_sentence(run: Run, tmp_path: Path) -> None:
    done = run("webcam:97", "--out", tmp_path / "t.csv")
    assert done.exit_code == 1 and "no webcam 97" in done.output


class Killable:
    """A run as a program of its own, that a test can stop."""

    def __init__(self, clip: Path, out: Path, model: Path, *more: str) -> None:
        self.journal = out.with_name(out.name + ".journal")
        command = [sys.executable, "-m", "affect.cli", "score", str(clip), "--out", str(out)]
        about = ["--model", str(model), "--workers", "1", "--device", "cpu", "--track", *more]
        self.process = subprocess.Popen([*command, *about], stderr=subprocess.PIPE, text=True)

    def parts(self) -> int:
        return len(list(self.journal.glob("part-*")))

    def stop(self, number: int) -> str:
        self.process.send_signal(number)
        return self.process.communicate(timeout=LIMIT_SECONDS)[1]


@pytest.fixture(scope="module")
def whole(
    run: Run, long_clip: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, str]]:
    """What an undisturbed run writes."""
    out = tmp_path_factory.mktemp("whole") / "whole.csv"
    assert run(long_clip, "--out", out, "--track").exit_code == 0
    return rows_of(out)


def test_a_killed_run_goes_on_to_the_same_table(
    whole: list[dict[str, str]], long_clip: Path, model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "t.csv"
    killed = Killable(long_clip, out, model_folder)
    until(lambda: killed.parts() > 0)
    killed.stop(signal.SIGKILL)
    again = Killable(long_clip, out, model_folder)
    assert "--resume" in again.process.communicate()[1] and again.process.returncode == 1
    after = Killable(long_clip, out, model_folder, "--resume")
    assert after.process.wait(LIMIT_SECONDS) == 0 and rows_of(out) == whole


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_stopped_run_leaves_a_valid_table_and_goes_on(
    whole: list[dict[str, str]], long_clip: Path, model_folder: Path, tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / f"t.{suffix}"
    stopped = Killable(long_clip, out, model_folder)
    until(lambda: stopped.parts() > 0)
    said = stopped.stop(signal.SIGINT)
    assert stopped.process.returncode == 130 and "--resume goes on" in said
    frames = _frames(out)
    assert 0 < len(frames) < len(whole) and frames == list(range(len(frames)))
    after = Killable(long_clip, out, model_folder, "--resume")
    assert after.process.wait(LIMIT_SECONDS) == 0 and _frames(out) == list(range(len(whole)))


def test_another_command_does_not_go_on_with_it(
    long_clip: Path, model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "t.csv"
    killed = Killable(long_clip, out, model_folder)
    until(lambda: killed.parts() > 0)
    killed.stop(signal.SIGKILL)
    other = Killable(long_clip, out, model_folder, "--resume", "--every", "2")
    assert "another every (1, now 2)" in other.process.communicate()[1]


def test_a_process_that_dies_is_replaced(
    whole: list[dict[str, str]], long_clip: Path, model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "t.csv"
    running = Killable(long_clip, out, model_folder)
    until(lambda: running.parts() > 0)
    (reader,) = [
        child
        for server in psutil.Process(running.process.pid).children()
        for child in server.children()
    ]
    reader.kill()
    assert running.process.wait(LIMIT_SECONDS) == 0 and rows_of(out) == whole


def _frames(path: Path) -> list[int]:
    if path.suffix == ".parquet":
        return list(parquet.read_table(path)["frame"].to_pylist())
    return [int(row["frame"]) for row in rows_of(path)]
