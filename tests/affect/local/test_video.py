"""Frames of a video: each once, upright, at its presentation time; what is broken says so after the
last good frame.
"""

from pathlib import Path

import numpy as np
import pytest

from affect import Reader
from affect.local.video import VideoError, VideoPosition, probe, read_frames, read_webcam
from tests.support.videos import frame, sound_only, turned, write_video

COUNT = 20


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    return write_video(folder / "clip.mp4", [frame(step) for step in range(COUNT)])


def test_every_frame_comes_once_in_order(clip: Path) -> None:
    frames = list(read_frames(clip))
    assert [one.number for one in frames] == list(range(COUNT))
    assert [one.time_seconds for one in frames] == pytest.approx(np.arange(COUNT) / 25, abs=1e-3)
    assert frames[0].pixels.shape == (270, 480, 3) and probe(clip).frames == COUNT


def test_every_other_frame_keeps_its_number(clip: Path) -> None:
    assert [one.number for one in read_frames(clip, every=3)] == [0, 3, 6, 9, 12, 15, 18]


@pytest.mark.parametrize("last", [0, 7, 13])
def test_reading_goes_on_behind_a_frame(clip: Path, last: int) -> None:
    frames = list(read_frames(clip))
    place = VideoPosition(last + 1, frames[last].pts)
    rest = list(read_frames(clip, after=place))
    assert [one.number for one in rest] == list(range(last + 1, COUNT))
    assert all(
        np.array_equal(a.pixels, b.pixels) for a, b in zip(rest, frames[last + 1 :], strict=True)
    )


def test_a_varying_frame_rate_keeps_its_times(tmp_path: Path) -> None:
    times = [0, 40, 200, 210, 1000]
    path = write_video(tmp_path / "v.mkv", [frame(n) for n in range(5)], milliseconds=times)
    assert [round(1000 * one.time_seconds) for one in read_frames(path)] == times


def test_a_turned_video_comes_upright(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "turned.mp4").write_bytes(clip.read_bytes())
    flat, upright = (next(read_frames(path)) for path in (clip, turned(tmp_path / "turned.mp4")))
    assert np.array_equal(upright.pixels, np.rot90(flat.pixels, -1))


@pytest.mark.parametrize("faststart", [False, True], ids=["index last", "index first"])
def test_a_video_that_was_cut_off_says_so(tmp_path: Path, faststart: bool) -> None:
    options = {"movflags": "faststart"} if faststart else {}
    path = write_video(tmp_path / "c.mp4", [frame(n) for n in range(40)], options=options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    frames = []
    with pytest.raises(VideoError, match="copy the whole file") as excinfo:
        for one in read_frames(path):
            frames.append(one.number)
    assert excinfo.value.code == ("truncated" if faststart else "not_a_video")
    assert frames == list(range(len(frames))) and (len(frames) > 5) == faststart


def test_what_is_no_video_says_why(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    cases = {
        "not_a_video": tmp_path / "text.mp4",
        "unreadable": tmp_path / "gone.mp4",
        "no_video_stream": sound_only(tmp_path / "sound.mp4"),
    }
    for code, path in cases.items():
        with pytest.raises(VideoError) as excinfo:
            next(read_frames(path))
        assert excinfo.value.code == code and str(path) in excinfo.value.detail


@pytest.mark.parametrize("kind", ["mkv", "avi"])
def test_a_video_without_a_frame_says_so(tmp_path: Path, kind: str) -> None:
    path = write_video(tmp_path / f"empty.{kind}", [])
    with pytest.raises(VideoError) as excinfo:
        list(read_frames(path))
    assert excinfo.value.code == "no_frames"


@pytest.mark.skipif(Path("/dev/video9").exists(), reason="there is a tenth webcam")
def test_no_webcam_is_one_sentence() -> None:
    with pytest.raises(VideoError, match="no webcam 9") as excinfo:
        next(read_webcam(9))
    assert "\n" not in excinfo.value.detail


def test_frames_stream_with_their_readings(reader: Reader, clip: Path) -> None:
    read = list(reader.frames(clip, every=5))
    assert [one.frame for one in read] == [0, 5, 10, 15]
    assert [one.readings[0].frame for one in read] == [0, 5, 10, 15]
    assert all(one.readings[0].input == str(clip) for one in read)
    assert read[0].pixels.shape == (270, 480, 3)
