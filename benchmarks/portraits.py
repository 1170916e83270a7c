"""The pictures that benchmarks send: a public-domain portrait (scikit-image's) at any size."""

import numpy as np
from PIL import Image
from skimage import data

from affect.images import encode


def jpeg_portrait(side_px: int) -> bytes:
    """A square JPEG of one face, which fills two fifths of it."""
    return as_jpeg(portrait(side_px))


def jpeg_group() -> bytes:
    """Five faces of different sizes in 12 megapixels."""
    picture = Image.new("RGB", (4000, 3000), (120, 120, 110))
    for number, side in enumerate((1100, 900, 800, 700, 600)):
        place = (100 + number % 3 * 1250, 200 + number // 3 * 1400)
        picture.paste(portrait(side), place)
    return as_jpeg(picture)


def portrait(side_px: int) -> Image.Image:
    """The picture."""
    return Image.fromarray(data.astronaut()[:256, 96:352]).resize((side_px, side_px))


def as_jpeg(picture: Image.Image) -> bytes:
    """Of quality 90."""
    return encode(np.asarray(picture, np.uint8), "image/jpeg", quality=90)
