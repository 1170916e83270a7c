import io
from functools import cache

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import norm
from skimage import data

from affect.marking import watermark
from affect.marking.watermark import embed, find
from tests.support import cartoons

U8 = NDArray[np.uint8]
PAYLOAD = 0xC0FFEE11


def _face(side: int = 128) -> U8:
    """A cartoon, as soft as a drawn face, with the grain of a photograph."""
    flat = cv2.resize(cartoons.draw(cartoons.STATES["happiness"], 7), (side, side))
    drawn = cv2.GaussianBlur(flat, (0, 0), side / 64)
    grain = np.asarray(np.random.default_rng(0).normal(0, 3, drawn.shape), dtype=np.float32)
    grained: U8 = np.clip(drawn + cv2.GaussianBlur(grain, (0, 0), 1), 0, 255).astype(np.uint8)
    return grained


FACE = _face()
MARKED = embed(FACE, PAYLOAD)


def _jpeg(image: U8, quality: int) -> U8:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=quality)
    with Image.open(out) as read:
        return np.asarray(read.convert("RGB"))


def _resized(image: U8, factor: float) -> U8:
    size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


CHANGES = {
    "nothing": MARKED,
    "jpeg 60": _jpeg(MARKED, 60),
    "half and back": _resized(_resized(MARKED, 0.5), 2),
    "colour": np.clip(MARKED * np.array([1.1, 1.0, 0.95]) + 6, 0, 255).astype(np.uint8),
    "crop to 80 %": MARKED[9:111, 17:119],
    "screenshot": _jpeg(_resized(MARKED, 1.37), 80),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_mark_is_found_after(change: str) -> None:
    detection = find(CHANGES[change])
    assert detection is not None and detection.payload == PAYLOAD


@pytest.mark.parametrize("corner", [(0, 0), (0, 26), (26, 0), (26, 26), (7, 19)])
def test_the_mark_is_found_in_any_crop_of_a_picture_with_much_grain(
    corner: tuple[int, int],
) -> None:
    top, left = corner
    detection = find(_marked_cat()[top : top + 102, left : left + 102])
    assert detection is not None and detection.payload == PAYLOAD


@cache
def _marked_cat() -> U8:
    """Of the square in the middle of skimage's picture."""
    picture: U8 = data.cat()[:, 75:375]
    small = cv2.resize(picture, (128, 128), interpolation=cv2.INTER_AREA)
    return embed(np.asarray(small, np.uint8), PAYLOAD)


@pytest.mark.parametrize("side", [128, 256, 512])
def test_the_mark_is_not_seen(side: int) -> None:
    face = _face(side)
    error = np.mean((embed(face, PAYLOAD).astype(float) - face) ** 2)
    assert 10 * np.log10(255**2 / error) >= 40


@pytest.mark.parametrize("side", [256, 512])
def test_larger_pictures_carry_it_too(side: int) -> None:
    detection = find(_jpeg(embed(_face(side), PAYLOAD), 60))
    assert detection is not None and detection.payload == PAYLOAD


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_found_where_nothing_is(seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (128, 128, 3)).astype(np.uint8)
    assert find(noise) is None


def test_nothing_is_found_in_a_face_or_in_an_even_picture() -> None:
    assert find(FACE) is None and find(np.full((128, 128, 3), 90, np.uint8)) is None


def test_an_even_picture_can_be_marked_and_other_payloads_differ() -> None:
    even = np.full((128, 128, 3), 90, np.uint8)
    detection = find(embed(even, 7))
    assert detection is not None and detection.payload == 7


def test_products_with_waves_are_the_fourier_transform_of_the_band() -> None:
    canvas = np.random.default_rng(0).normal(size=(1, 128, 128)).astype(np.float32)
    radius, whole = watermark.RADIUS, np.fft.rfft2(canvas)
    spectrum = watermark._spectrum(canvas)
    down = np.arange(-radius, radius + 1)
    assert np.allclose(spectrum, whole[:, down, 1 : radius + 1], atol=1e-3)
    only = np.zeros_like(whole)
    only[:, down, 1 : radius + 1] = spectrum
    assert np.allclose(watermark._pictures(spectrum), np.fft.irfft2(only), atol=1e-5)


def test_chips_are_lifted_to_one_margin_of_the_given_length() -> None:
    chips = np.random.default_rng(0).normal(size=(2, watermark.CHIPS))
    lifts = watermark._missing(chips, np.array([3.0, 9.0]))
    assert np.allclose(np.linalg.norm(lifts, axis=1), [3.0, 9.0])
    for row, lift in zip(chips, lifts, strict=True):
        assert np.ptp((row + lift)[lift > 0]) < 1e-9
        assert round(watermark.CHIPS * watermark.KEPT_WRONG) == (row < row[lift > 0].min()).sum()


def test_a_payload_of_more_than_32_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bits"):
        embed(FACE, 2**32)


def test_chance_finds_a_codeword_less_often_than_the_bound_allows() -> None:
    beyond = norm.sf(watermark.THRESHOLD * watermark.CHIPS**0.5)
    bound = beyond / (4 * norm.sf(2**0.5)) * 2.0**watermark.PAYLOAD_BITS * watermark.TRIALS
    assert bound == pytest.approx(watermark.FALSE_POSITIVES, rel=1e-6)
    assert watermark.FALSE_POSITIVES < 1e-6
