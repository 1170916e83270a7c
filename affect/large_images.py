"""Large PNG and WebP at a fraction of their size, without the whole picture in memory.

libvips reads PNG row by row and averages as it goes, and libwebp scales lossy WebP while it
decodes: 50 megapixels take 50 to 100 MiB and half the time that decoding them whole would.
"""

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affect.image_headers import WEBP, Header

# Read at the import of libvips: errors of a picture go to the user, not to standard error.
os.environ.setdefault("VIPS_WARNING", "0")

import pyvips

pyvips.cache_set_max(0)  # no cache: pictures are never retained
pyvips.concurrency_set(1)  # callers have threads and processes of their own


def decode_smaller(header: Header, reduction: int) -> NDArray[np.uint8]:
    """(h, w, 3) uint8 RGB as stored, `reduction` (2, 4 or 8) times smaller, transparency on white.

    Each pixel is the mean of those it stands for. PNG's sides are rounded up, WebP's to the
    nearest, by libwebp. Raises pyvips.Error and ValueError for a file that is cut or damaged.
    """
    options: dict[str, Any] = {"access": "sequential", "fail_on": "truncated"}
    if header.media_type == WEBP:
        picture = pyvips.Image.webpload_buffer(header.content, scale=1 / reduction, **options)
        remaining, size = 1, (header.width / reduction, header.height / reduction)
    else:
        picture = pyvips.Image.pngload_buffer(header.content, **options)
        remaining, size = reduction, (header.width, header.height)
    if max(abs(picture.width - size[0]), abs(picture.height - size[1])) >= 1:
        raise ValueError(f"it holds {picture.width} x {picture.height} px")
    rgb = _rgb(picture)
    return np.asarray(
        rgb.shrink(remaining, remaining, ceil=True) if remaining > 1 else rgb, np.uint8
    )


def _rgb(picture: "pyvips.Image") -> "pyvips.Image":
    """Three bands of 8 bits, of 16 the upper half."""
    if picture.hasalpha():
        white = 65535 if picture.format == "ushort" else 255
        picture = picture.flatten(background=[white] * (picture.bands - 1))
    if picture.format == "ushort":
        picture = picture.cast("uchar", shift=True)
    return picture if picture.bands == 3 else picture.bandjoin([picture, picture])
