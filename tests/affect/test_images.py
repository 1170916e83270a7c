"""Decoding is strict and says why; encoding is deterministic and marks what a model drew."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from affect.images import SYNTHETIC, ImageError, decode, encode

PICTURE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def _bytes(picture: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def _huge_png() -> bytes:
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + b"\x00\x00\x00\x00IEND\xaeB`\x82"
    )


def _animated(kind: str) -> bytes:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    return _bytes(frames[0], kind, save_all=True, append_images=frames[1:])


JPEG = _bytes(Image.fromarray(PICTURE), "JPEG", quality=95)

SIZE = JPEG.index(b"\xff\xc0") + 5  # where the header says how large the picture is

BROKEN = {
    "truncated": [JPEG[: len(JPEG) // 2], encode(PICTURE)[:300], JPEG[:40]],
    "not_an_image": [b"these are words, whatever the name says", b""],
    "unsupported_type": [
        _animated("GIF"),
        _bytes(Image.fromarray(PICTURE), "BMP"),
        b"\x00\x00\x00\x1cftypheic" + bytes(40),
    ],
    "too_many_pixels": [
        _huge_png(),
        JPEG[:SIZE] + struct.pack(">HH", 30_000, 30_000) + JPEG[SIZE + 4 :],
    ],
    "animated": [_animated("PNG"), _animated("WEBP")],
    "too_small": [_bytes(Image.new("RGB", (4, 90)), "PNG")],
}


@pytest.mark.parametrize(
    ("code", "content"), [(code, content) for code, all_ in BROKEN.items() for content in all_]
)
def test_a_bad_picture_is_refused_by_its_name(code: str, content: bytes) -> None:
    with pytest.raises(ImageError) as caught:
        decode(content)
    assert caught.value.code == code and caught.value.detail


def test_png_survives_both_ways() -> None:
    assert np.array_equal(decode(encode(PICTURE)), PICTURE)


def test_the_orientation_tag_is_obeyed() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to view
    turned = decode(_bytes(Image.fromarray(PICTURE), "PNG", exif=exif))
    assert np.array_equal(turned, np.rot90(PICTURE, -1))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_the_orientation_tag_is_obeyed_at_reduced_size_too(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    assert decode(_bytes(Image.new("RGB", (1600, 800)), kind, exif=exif), longest_px=400).shape[
        :2
    ] in {(400, 200), (1600, 800)}


def test_a_phones_photograph_with_a_map_behind_it_is_a_still() -> None:
    photograph = Image.fromarray(np.full((40, 60, 3), 200, np.uint8))
    content = _bytes(photograph, "MPO", save_all=True, append_images=[Image.new("RGB", (30, 20))])
    assert np.all(np.abs(decode(content).astype(int) - 200) < 3)


def test_sixteen_bit_colour_keeps_its_high_bytes() -> None:
    done, code = cv2.imencode(".png", PICTURE[..., ::-1].astype(np.uint16) * 257)
    assert done and np.array_equal(decode(code.tobytes()), PICTURE)


@pytest.mark.parametrize(
    "content", [JPEG, encode(PICTURE), encode(PICTURE, "image/webp")], ids=["jpeg", "png", "webp"]
)
def test_damage_anywhere_is_a_picture_or_an_image_error(content: bytes) -> None:
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), 4):
            damaged[place] = rng.integers(256)
        try:
            assert decode(bytes(damaged)).shape[2] == 3
        except ImageError:
            refused += 1
    assert refused > 0


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "1"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    kind = "JPEG" if mode == "CMYK" else "PNG"
    assert decode(_bytes(Image.new(mode, (20, 30)), kind)).shape == (30, 20, 3)


def test_sixteen_bit_grey_keeps_its_brightness() -> None:
    grey = Image.fromarray(np.full((16, 16), 128 * 256, np.uint16))
    assert np.all(decode(_bytes(grey, "PNG")) == 128)


def test_transparent_parts_are_white() -> None:
    assert np.all(decode(_bytes(Image.new("RGBA", (16, 16), (0, 0, 0, 0)), "PNG")) == 255)


def test_a_large_jpeg_may_be_decoded_smaller_but_never_too_small() -> None:
    large = _bytes(Image.new("RGB", (4000, 2000)), "JPEG")
    height, width, _ = decode(large, longest_px=900).shape
    assert 900 <= width < 4000 and width == 2 * height


@pytest.mark.parametrize("kind", ["image/png", "image/jpeg", "image/webp"])
def test_a_drawn_picture_says_so_and_has_the_same_bytes_each_time(kind: str) -> None:
    first, second = (
        encode(PICTURE, kind, synthetic={"model": "affectgan", "seed": "7"}) for _ in range(2)
    )
    assert (
        first == second
        and SYNTHETIC.encode() in first
        and SYNTHETIC.encode() not in encode(PICTURE, kind)
    )
