"""Frames of a video, upright, each with its number and presentation time; never more than a few of
them in memory.
"""

import re
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import fsspec
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame as Decoded
from av.video.stream import VideoStream
from numpy.typing import NDArray

from affect.images import ImageError

SUFFIXES = frozenset(
    [
        ".mp4",
        ".m4v",
        ".mov",
        ".avi",
        ".mkv",
        ".webm",
        ".mpg",
        ".mpeg",
        ".ts",
        ".mts",
        ".m2ts",
        ".wmv",
        ".flv",
        ".3gp",
        ".ogv",
    ]
)
# Everything else ("s3://...") is opened by fsspec.
FFMPEG_SCHEMES = frozenset({"file", "http", "https", "rtsp", "rtmp", "rtp", "udp", "tcp", "srt"})
WEBCAMS = {
    "linux": ("/dev/video{}", "v4l2"),
    "darwin": ("{}", "avfoundation"),
    "win32": ("video={}", "dshow"),
}
DURATION = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")
WHOLE = 0.98  # of the frames that a container promises; encoders miscount by a few


class VideoError(ImageError):
    """A video that cannot be read, or not to its end. `code`: unreadable, not_a_video,
    no_video_stream, no_frames, truncated, no_webcam.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code, "Broken video", detail)

    def __reduce__(self) -> tuple[type["VideoError"], tuple[str, str]]:  # type: ignore[override]
        return type(self), (self.code, self.detail)


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """One frame. `pts` is its presentation time in the stream's own unit, by which it is found
    again.
    """

    number: int  # 0-based, of all frames
    time_seconds: float
    pts: int
    pixels: NDArray[np.uint8]  # (H, W, 3) RGB


@dataclass(frozen=True)
class VideoPosition:
    """Where to go on in a video: the number of the next frame, and the presentation time of the
    last one that is done.
    """

    number: int
    pts: int


@dataclass(frozen=True)
class VideoInfo:
    """What a file says of itself before it is decoded. `frames` is an estimate, 0 when the file
    gives none.
    """

    frames: int
    frames_per_second: float
    width: int
    height: int


def probe(path: str | Path) -> VideoInfo:
    """Size, rate and expected number of frames. Raises VideoError."""
    with _opened(str(path)) as (container, stream):
        rate = float(stream.average_rate or 0)
        frames = stream.frames
        if not frames and container.duration:
            frames = round(container.duration / av.time_base * rate)
        return VideoInfo(frames, rate, stream.width, stream.height)


def read_frames(
    path: str | Path, *, every: int = 1, after: VideoPosition | None = None
) -> Iterator[VideoFrame]:
    """Every n-th frame, in the order of presentation; `after` goes on where an earlier reading
    stopped.

    Raises VideoError: before the first frame when there is none, after the last good one when the
    file breaks off.
    """
    if every < 1:
        raise ValueError(f"every is {every}; give 1 for all frames, 2 for every other, and so on")
    with _opened(str(path)) as (container, stream):
        number, times = 0, deque[float | None](maxlen=2)
        if after is not None:
            number = after.number
            container.seek(after.pts, stream=stream, backward=True)
        for frame in _decoded(container, stream, path):
            times.append(frame.time)
            if after is not None and (frame.pts or 0) <= after.pts:
                continue
            if number % every == 0:
                yield _as_frame(frame, number, stream)
            number += 1
        _check_whole(path, stream, number, times)


def _check_whole(
    path: str | Path, stream: VideoStream, frames: int, times: Sequence[float | None]
) -> None:
    """Whether so many frames, the last two at these times, are what the container promises. Raises
    VideoError.
    """
    if frames == 0:
        raise VideoError("no_frames", f"{path} has a video stream without a frame; export it again")
    if frames < stream.frames * WHOLE:
        detail = f"{path} ends after {frames} of {stream.frames} frames; copy the whole file"
        raise VideoError("truncated", detail)
    # Matroska and WebM do not count frames. The last one is taken to be shown as long as the one
    # before it; where only one was decoded nothing is claimed.
    promised = _promised_seconds(stream)
    previous, last = times if len(times) == 2 else (None, None)
    if previous is not None and last is not None and 2 * last - previous < promised * WHOLE:
        detail = f"{path} ends after {last:.1f} of {promised:.1f} seconds; copy the whole file"
        raise VideoError("truncated", detail)


def _promised_seconds(stream: VideoStream) -> float:
    """The end of the stream by its own DURATION tag (HH:MM:SS.fff), 0 without one."""
    tag = DURATION.match(stream.metadata.get("DURATION", ""))
    if tag is None:
        return 0.0
    hours, minutes, seconds = map(float, tag.groups())
    return 3600 * hours + 60 * minutes + seconds


def read_webcam(number: int = 0) -> Iterator[VideoFrame]:
    """Frames of a camera of this machine as they come, until the caller stops. Raises VideoError
    when there is none.
    """
    device, kind = WEBCAMS.get(sys.platform, WEBCAMS["linux"])
    try:
        container = av.open(device.format(number), format=kind)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        detail = f"no webcam {number} ({reason}); plug one in, or name a video or a stream's URL"
        raise VideoError("no_webcam", detail) from error
    with container:
        stream, start = container.streams.video[0], None
        for count, frame in enumerate(container.decode(stream)):
            read = _as_frame(frame, count, stream)
            start = read.time_seconds if start is None else start
            yield replace(read, time_seconds=read.time_seconds - start)


@contextmanager
def _opened(path: str) -> Iterator[tuple[InputContainer, VideoStream]]:
    try:
        scheme = path.partition("://")[0] if "://" in path else "file"
        source: Any = path if scheme in FFMPEG_SCHEMES else fsspec.open(path, "rb").open()
        container = av.open(source)
    except (av.error.FFmpegError, OSError, ImportError, ValueError) as error:
        raise _not_opened(path, error) from error
    with container:
        if not container.streams.video:
            has = "sound only" if container.streams.audio else "no stream that can be read"
            raise VideoError("no_video_stream", f"{path} has {has}; give a file with pictures")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        yield container, stream


def _not_opened(path: str, error: Exception) -> VideoError:
    if isinstance(error, av.error.InvalidDataError):
        return VideoError(
            "not_a_video",
            f"{path} is no video, or one cut off before its index; copy the whole file",
        )
    if isinstance(error, av.error.EOFError):
        return VideoError("no_frames", f"{path} ends before its first frame; copy the whole file")
    reason = getattr(error, "strerror", None) or error
    return VideoError("unreadable", f"{path} cannot be opened: {reason}")


def _decoded(container: InputContainer, stream: VideoStream, path: str | Path) -> Iterator[Decoded]:
    """Frames of every packet that can be decoded; a damaged one is left out, a file that breaks off
    says so at its end.
    """
    try:
        for packet in container.demux(stream):
            try:
                yield from packet.decode()
            except av.error.InvalidDataError:
                continue
    except av.error.FFmpegError as error:
        raise VideoError(
            "truncated", f"{path} breaks off: {error.strerror}; copy the whole file"
        ) from error


def _as_frame(frame: Decoded, number: int, stream: VideoStream) -> VideoFrame:
    pixels: Any = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4  # counter-clockwise rotation, as the phone was held
    upright = np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels
    pts = frame.pts if frame.pts is not None else number
    time = frame.time
    if time is None:  # a stream without a container: frames follow each other at its rate
        time = float(number / (stream.average_rate or Fraction(25)))
    return VideoFrame(number, time, pts, upright)
