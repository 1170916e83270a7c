"""Decoding is strict and says why; encoding is deterministic and marks what a model drew."""

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from affect.images import (
    SYNTHETIC,
    DecodedImage,
    ImageError,
    checked_header,
    decode,
    decode_header,
    decoding_bytes,
    encode,
)

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


def decode_smaller(content: bytes, longest_px: int) -> DecodedImage:
    return decode_header(checked_header(content), longest_px=longest_px)


JPEG = _bytes(Image.fromarray(PICTURE), "JPEG", quality=95)

SIZE = JPEG.index(b"\xff\xc0") + 5  # where the header says how large the picture is


def _progressive(side: int, scans: int) -> bytes:
    """A JPEG that repeats its last scan."""
    content = _bytes(Image.new("RGB", (side, side)), "JPEG", progressive=True)
    last = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + last * (scans - content.count(b"\xff\xda")) + content[-2:]


def _segments(count: int) -> bytes:
    return JPEG[:2] + b"\xff\xfe\x00\x02" * count + JPEG[2:]


def _chunks(count: int) -> bytes:
    chunk = struct.pack(">I", 0) + b"tEXt" + struct.pack(">I", zlib.crc32(b"tEXt"))
    png = encode(PICTURE)
    return png[:33] + chunk * count + png[33:]


BROKEN = {
    "too_complex": [
        _progressive(16, 101),
        _progressive(5000, 61),
        _segments(20_000),
        _chunks(20_000),
    ],
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
    with pytest.raises(ImageError) as excinfo:
        decode(content)
    assert excinfo.value.code == code and excinfo.value.detail


def test_a_broken_picture_writes_nothing_to_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    lossless = b"\x2f" + struct.pack("<I", 39 | 59 << 14) + b"\x00"  # 40 x 60 px, and no more
    chunk = b"WEBPVP8L" + struct.pack("<I", 5) + lossless
    with pytest.raises(ImageError, match="cannot be read"):
        decode(b"RIFF" + struct.pack("<I", len(chunk)) + chunk)
    assert capfd.readouterr() == ("", "")


def test_a_long_run_of_fill_bytes_is_read_once() -> None:
    """Found by fuzzing: 60 kB of them took minutes, since every start of the run was tried."""
    fill = b"\xff" * 2_000_000
    assert np.array_equal(decode(JPEG[:2] + fill + JPEG[2:]), decode(JPEG))
    with pytest.raises(ImageError, match="promises a picture"):
        decode(JPEG[:2] + fill + b"\x00")


def test_scans_are_counted_in_a_file_that_ends_at_a_marker() -> None:
    """Found by fuzzing: this raised what is no ImageError."""
    cut = _progressive(16, 120)[:-2] + b"\xff\xc4"
    with pytest.raises(ImageError, match="may have 100 scans"):
        checked_header(cut)
    few = _progressive(16, 20)
    comments = b"\xff\xfe\x01\x02" + b"\xff\xda" * 128
    assert checked_header(few[:-2] + comments + b"\xff\xc4").scans == 20


def test_what_a_decoder_says_is_one_line_without_addresses() -> None:
    twelve_bits = bytearray(JPEG)
    twelve_bits[SIZE - 1] = 12
    large = _bytes(Image.new("RGB", (90, 90)), "PNG")
    for content in (bytes(twelve_bits), large[:33] + large[8:33] + large[33:]):
        with pytest.raises(ImageError, match="Broken image") as excinfo:
            decode_smaller(content, 20)
        assert " at 0x" not in excinfo.value.detail and "\n" not in excinfo.value.detail


def test_png_survives_both_ways() -> None:
    assert np.array_equal(decode(encode(PICTURE)), PICTURE)


def test_the_orientation_tag_is_obeyed() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to view
    turned = decode(_bytes(Image.fromarray(PICTURE), "PNG", exif=exif))
    assert np.array_equal(turned, np.rot90(PICTURE, -1))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_orientation_tag_is_obeyed_at_reduced_size_too(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    picture = decode_smaller(_bytes(Image.new("RGB", (1600, 800)), kind, exif=exif), 400)
    assert picture.pixels.shape == (400, 200, 3)
    assert (picture.width, picture.height, picture.reduction) == (800, 1600, 4)


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
    height, width, _ = decode_smaller(large, 900).pixels.shape
    assert (width, height) == (1000, 500)


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


@pytest.mark.parametrize("content", [_progressive(16, 100), _segments(200), _chunks(200)])
def test_as_many_parts_as_a_photograph_may_have_are_read(content: bytes) -> None:
    assert decode(content).shape[2] == 3


def test_what_looks_like_scans_inside_a_segment_is_none() -> None:
    comment = b"\xff\xda" * 300
    content = _progressive(16, 20)
    place = content.index(b"\xff\xda")
    segment = b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment
    between = content.index(b"\xff\xda", place + 2)
    assert decode(content[:between] + segment + content[between:]).shape == (16, 16, 3)


def _exif(order: str, tag_type: int, value: int, *, more: bytes = b"", count: int = 1) -> bytes:
    """An EXIF block with a broken rational before the orientation, as cameras and editors write
    them.
    """
    mark = b"II*\0" if order == "<" else b"MM\0*"
    size = {1: "Bxxx", 3: "Hxx", 4: "I"}[tag_type]
    entries = struct.pack(order + "HHII", 0x010F, 10, 1, 5) + struct.pack(
        order + "HHI" + size, 0x0112, tag_type, count, value
    )
    return mark + struct.pack(order + "IH", 8, 2) + entries + bytes(4) + more


TURNS = {
    1: PICTURE,
    2: PICTURE[:, ::-1],
    3: PICTURE[::-1, ::-1],
    4: PICTURE[::-1],
    5: PICTURE.transpose(1, 0, 2),
    6: np.rot90(PICTURE, -1),
    7: PICTURE[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90(PICTURE),
    0: PICTURE,
    9: PICTURE,
}


@pytest.mark.parametrize(("order", "kind"), [("<", 3), (">", 3), ("<", 4), (">", 1)])
@pytest.mark.parametrize("orientation", TURNS)
def test_a_picture_is_turned_by_its_tag_whatever_else_its_exif_says(
    order: str, kind: int, orientation: int
) -> None:
    content = _bytes(Image.fromarray(PICTURE), "PNG", exif=_exif(order, kind, orientation))
    assert np.array_equal(decode(content), TURNS[orientation])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "exif",
    [b"", b"II", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff", b"nonsense", bytes(60)],
)
def test_broken_exif_leaves_the_pixels_as_they_are(kind: str, exif: bytes) -> None:
    block = exif if kind == "PNG" else b"Exif\0\0" + exif
    content = _bytes(Image.fromarray(PICTURE), kind, exif=block, lossless=True, quality=95)
    assert decode(content).shape == PICTURE.shape


def test_metadata_never_reaches_the_decoder() -> None:
    """A block of ten megabytes whose 65,535 tags each point at all of it is not read tag by tag."""
    entries = b"".join(struct.pack("<HHII", tag, 7, 10_000_000, 8) for tag in range(0xFFFF))
    block = b"II*\0" + struct.pack("<IH", 8, 0xFFFF) + entries + bytes(9_300_000)
    content = _bytes(Image.fromarray(PICTURE), "PNG", exif=block)
    assert len(checked_header(content).content) < 10_000
    assert np.array_equal(decode(content), PICTURE)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_webp_is_read_to_the_pixels_that_its_writer_meant(mode: str) -> None:
    rng = np.random.default_rng(1)
    drawn = rng.integers(0, 256, (40, 60, len(mode)), dtype=np.uint8)
    drawn[..., 3:] = rng.choice([0, 255], (40, 60, 1))[..., : len(mode) - 3]
    content = _bytes(Image.fromarray(drawn), "WEBP", lossless=True, exact=True)
    reference = Image.open(io.BytesIO(content)).convert("RGBA")
    ground = Image.new("RGBA", reference.size, "white")
    assert np.array_equal(
        decode(content), np.asarray(Image.alpha_composite(ground, reference).convert("RGB"))
    )


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_a_picture_read_at_a_fraction_is_the_mean_of_its_pixels(kind: str) -> None:
    drawn = np.random.default_rng(2).integers(0, 256, (1501, 2002, 3), dtype=np.uint8)
    content = _bytes(Image.fromarray(drawn), kind, lossless=True)
    picture = decode_smaller(content, 1000)
    means = drawn[:1500].reshape(750, 2, 1001, 2, 3).mean((1, 3))
    sides = {"PNG": (751, 1001, 3), "WEBP": (750, 1001, 3)}  # rounded up, rounded
    assert picture.pixels.shape == sides[kind] and picture.reduction == 2
    assert np.abs(picture.pixels[:700] - means[:700]).mean() <= (1 if kind == "PNG" else 30)


MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]


@pytest.mark.parametrize("mode", MODES)
def test_a_png_of_any_mode_read_at_a_fraction_is_the_whole_one_averaged(mode: str) -> None:
    seed = Image.fromarray(np.random.default_rng(3).integers(0, 256, (9, 13, 4), dtype=np.uint8))
    drawn = seed.resize((1301, 903), Image.Resampling.BICUBIC)
    picture = {
        "P": lambda: drawn.convert("RGB").quantize(90),
        "I;16": lambda: Image.fromarray(np.asarray(drawn.convert("L")).astype(np.uint16) * 256),
    }.get(mode, lambda: drawn.convert(mode))()
    content = _bytes(picture, "PNG", **({"transparency": 3} if mode == "P" else {}))
    whole = np.asarray(Image.fromarray(decode(content)).reduce(4), int)
    apart = np.abs(decode_smaller(content, 320).pixels - whole)
    assert apart.shape == (226, 326, 3) and apart[:-1, :-1].max() <= 2


def test_colour_of_sixteen_bits_with_transparency_is_read_at_a_fraction_too() -> None:
    deep = np.full((800, 1600, 4), (10_000, 20_000, 30_000, 65_535), np.uint16)
    deep[:, 800:, 3] = 0
    done, code = cv2.imencode(".png", deep)
    pixels = decode_smaller(code.tobytes(), 400).pixels
    assert done and np.all(pixels[:, :199] == [30_000 >> 8, 20_000 >> 8, 10_000 >> 8])
    assert np.all(pixels[:, 201:] == 255)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("left", [0.1, 0.5, 0.99])
def test_a_large_picture_that_is_cut_is_refused_and_writes_nothing(
    kind: str, left: float, capfd: pytest.CaptureFixture[str]
) -> None:
    drawn = np.random.default_rng(4).integers(0, 256, (400, 800, 3), dtype=np.uint8)
    content = _bytes(Image.fromarray(drawn), kind)
    with pytest.raises(ImageError, match="Broken image"):
        decode_smaller(content[: int(left * len(content))], 200)
    assert capfd.readouterr() == ("", "")


MEMORY = """
import io, resource
from PIL import Image
from affect.images import checked_header, decode_header
out = io.BytesIO()
Image.new("RGBA", (300, 300)).save(out, "PNG")
small = checked_header(out.getvalue())
decode_header(small, longest_px=100)  # what libraries take once
content = open("large.png", "rb").read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
decode_header(checked_header(content), longest_px=1600)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_large_png_is_never_whole_in_memory(tmp_path: Path) -> None:
    Image.new("RGBA", (6400, 6400), (9, 9, 9, 9)).save(tmp_path / "large.png")
    run = subprocess.run(
        [sys.executable, "-c", MEMORY], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert int(run.stdout) < 80_000  # KiB; whole it would be 160,000


def test_what_a_picture_takes_is_known_from_its_header() -> None:
    drawn = Image.new("RGB", (3600, 3600))
    plain, progressive = (_bytes(drawn, "JPEG", progressive=way) for way in (False, True))
    lossy, lossless = (_bytes(drawn, "WEBP", lossless=way, method=0) for way in (False, True))
    taken = [
        decoding_bytes(checked_header(content), 1600)
        for content in (plain, progressive, lossy, lossless)
    ]
    pixels = 3600 * 3600
    assert taken[0] < 3 * pixels < 8 * pixels < taken[1]
    assert taken[2] < 3 * pixels < 6 * pixels < taken[3]


def test_only_what_has_metadata_is_copied() -> None:
    assert checked_header(JPEG).content is JPEG
    with_comment = JPEG[:2] + b"\xff\xfe\x00\x05abc" + JPEG[2:]
    assert checked_header(with_comment).content == JPEG


def test_a_picture_that_is_another_size_than_its_header_says_is_refused() -> None:
    webp = bytearray(
        _bytes(Image.new("RGBA", (60, 40)), "WEBP", lossless=False, exif=b"Exif\0\0II")
    )
    assert webp[12:16] == b"VP8X"
    webp[24:27] = (19).to_bytes(3, "little")
    with pytest.raises(ImageError, match="Broken image"):
        decode(bytes(webp))
