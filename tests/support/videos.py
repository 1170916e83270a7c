"""Small videos with a face that moves, and videos that are not as they should be."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from skimage import data

from affect.inputs import U8

MILLISECOND = Fraction(1, 1000)
WIDTH, HEIGHT, FACE_PX = 480, 270, 220


def frame(step: int, width: int = WIDTH, height: int = HEIGHT) -> U8:
    """Eileen Collins (NASA, public domain), a little further to the right with each step."""
    picture = np.full((height, width, 3), 120, np.uint8)
    x = 10 + 4 * step % (width - FACE_PX - 20)
    picture[20 : 20 + FACE_PX, x : x + FACE_PX] = _face()
    return picture


@cache
def _face() -> U8:
    face: U8 = cv2.resize(data.astronaut(), (FACE_PX, FACE_PX), interpolation=cv2.INTER_AREA)
    return face


def write_video(
    path: Path,
    frames: Sequence[U8],
    *,
    milliseconds: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """An H.264 file of these frames, at 25 a second or at the times given."""
    times = milliseconds or [40 * number for number in range(len(frames))]
    with av.open(str(path), "w", options=options or {}) as container:
        stream: Any = container.add_stream("libx264", options={"preset": "ultrafast", "g": "8"})
        height, width = (frames[0] if len(frames) else frame(0)).shape[:2]
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = MILLISECOND
        container.start_encoding()
        for time, pixels in zip(times, frames, strict=True):
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            picture.pts, picture.time_base = time, MILLISECOND
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def write_sound(container: Any) -> None:
    """A tenth of a second of silence."""
    stream = container.add_stream("aac", rate=8000)
    silence = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.float32), "fltp", "mono")
    silence.sample_rate = 8000
    container.mux(stream.encode(silence))
    container.mux(stream.encode())


def sound_only(path: Path) -> Path:
    """No picture in it."""
    with av.open(str(path), "w") as container:
        write_sound(container)
    return path


def turned(path: Path) -> Path:
    """The same MP4, said to be shown a quarter turn to the right (the matrix of its track's header,
    ISO/IEC 14496-12).
    """
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    quarter = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    content[matrix : matrix + len(quarter)] = quarter
    path.write_bytes(content)
    return path
