"""What is broken is a row and a sentence of its own; what was written before stays."""

import os
from pathlib import Path

import numpy as np
import pytest

from tests.scoring.conftest import FRAMES, Run
from tests.support.tables import rows_of
from tests.support.videos import frame, sound_only, turned, write_video

BROKEN = {
    "cut.mkv": "truncated",
    "cut.mp4": "truncated",
    "empty.mkv": "no_frames",
    "sound.mp4": "no_video_stream",
    "text.mp4": "not_a_video",
}
FAST_START = {"movflags": "faststart"}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five that are broken, and three that are unusual."""
    folder = tmp_path_factory.mktemp("videos")
    for name, options in (("cut.mp4", FAST_START), ("cut.mkv", {})):
        cut = write_video(folder / name, [frame(n) for n in range(40)], options=options)
        cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 6 // 10])
    write_video(folder / "empty.mkv", [])
    sound_only(folder / "sound.mp4")
    (folder / "text.mp4").write_text("no video")
    write_video(folder / "varying.mkv", [frame(n) for n in range(3)], milliseconds=[0, 40, 700])
    write_video(folder / "4k.mp4", [np.kron(frame(0), np.ones((8, 8, 1), np.uint8))])
    sideways = np.ascontiguousarray(np.rot90(frame(0, 300, 300)))
    turned(write_video(folder / "turned.mp4", [sideways]))
    return folder


def test_each_broken_video_is_a_row_and_a_sentence(run: Run, videos: Path, tmp_path: Path) -> None:
    done = run(videos, "--out", tmp_path / "t.jsonl")
    assert done.exit_code == 0 and "5 not readable" in done.output
    rows = rows_of(tmp_path / "t.jsonl")
    errors = {Path(row["input"]).name: row["error"] for row in rows if row["error"]}
    assert errors == BROKEN
    sentences = [line for line in done.output.splitlines() if line.startswith(str(videos))]
    assert [Path(line.split()[0]).name for line in sentences] == list(BROKEN)


@pytest.mark.parametrize("name", ["cut.mp4", "cut.mkv"])
def test_what_was_read_before_a_video_breaks_off_is_there(
    run: Run, videos: Path, tmp_path: Path, name: str
) -> None:
    run(videos / name, "--out", tmp_path / "t.jsonl")
    *readable, last = rows_of(tmp_path / "t.jsonl")
    assert len(readable) > 5 and [row["frame"] for row in readable] == list(range(len(readable)))
    assert {row["error"] for row in readable} == {None} and last["frame"] == len(readable)


def test_unusual_videos_are_read_as_they_are_shown(run: Run, videos: Path, tmp_path: Path) -> None:
    unusual = [videos / name for name in ("varying.mkv", "4k.mp4", "turned.mp4")]
    run(*unusual, "--out", tmp_path / "t.jsonl")
    *varying, large, upright = rows_of(tmp_path / "t.jsonl")
    assert [row["time_seconds"] for row in varying] == [0.0, 0.04, 0.7]
    assert large["box_width"] == pytest.approx(8 * varying[0]["box_width"], rel=0.2)
    assert upright["error"] is None and upright["box_height"] > upright["box_width"] * 0.8


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full disk at hand")
def test_a_full_disk_is_one_sentence_and_nothing_is_lost(
    run: Run, clip: Path, tmp_path: Path
) -> None:
    out = tmp_path / "t.csv"
    out.symlink_to("/dev/full")
    full = run(clip, "--out", out, "--overwrite")
    assert full.exit_code == 1 and "disk is full" in full.output
    assert any((tmp_path / "t.csv.journal").glob("part-*"))
    out.unlink()  # there is room again
    assert run(clip, "--out", out, "--resume").exit_code == 0
    assert [int(row["frame"]) for row in rows_of(out)] == list(range(FRAMES))


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_takes_no_files_is_one_sentence(run: Run, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    done = run(clip, "--out", tmp_path / "closed" / "t.csv")
    assert done.exit_code == 1 and "cannot be written: Permission denied" in done.output
