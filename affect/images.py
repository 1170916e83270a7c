"""Decoding and encoding of pictures: the same for training and serving, strict about its input;
generated pictures are marked.
"""

import io
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from affect.image_headers import (
    JPEG,
    MEDIA_TYPES,
    ORIENTATION,
    ORIENTATIONS,
    PNG,
    Header,
    ImageError,
    media_type,
    read_header,
    with_exact_scans,
)

__all__ = [
    "MEDIA_TYPES",
    "DecodedImage",
    "Header",
    "ImageError",
    "checked_header",
    "decode",
    "decode_header",
    "decoding_bytes",
    "decoding_seconds",
    "encode",
    "media_type",
    "reduction_of",
]

# Pillow would warn at one limit and refuse at twice that; `checked_header` has its own limit.
Image.MAX_IMAGE_PIXELS = None
# OpenCV would write five lines to standard error for a broken picture; the error goes to the user
# instead.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

SMALLEST_PX = 8
MAX_PIXELS = 50_000_000
MAX_SCANS = 100  # of a JPEG; cameras and browsers' tools write about ten
MAX_SCAN_PIXELS = 1_500_000_000  # pixels times scans: about two seconds of one core
BAND_PIXELS = 1 << 20  # converted at a time, so that a large picture lies in memory once
REDUCTIONS = (8, 4, 2, 1)
# Seconds of a core for a pixel (measured, generously rounded up): of a JPEG for each pass, of
# others once.
# Larger photographs are decoded at a fraction: enough to find faces and cut crops.
LONGEST_PX = 1600
SCAN_PIXEL_SECONDS, FIRST_SCAN_SECONDS, PIXEL_SECONDS = 1.5e-9, 5e-9, 35e-9
# Bytes of a returned pixel: in the decoder, as RGB, and in transfer to another process.
GIVEN_PIXEL_BYTES = 10
FILE_COPIES = 2  # copies of the file: in transfer to another process, and in it
# What IPTC calls a picture made by a trained model; readers of XMP (and the EU AI Act's Article 50)
# look for such marks.
SYNTHETIC = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


@dataclass(frozen=True)
class DecodedImage:
    """An upright picture (h, w, 3) uint8 RGB, which may be `reduction` times smaller than the
    original of width x height px.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int
    reduction: int = 1


def decode(content: bytes, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB at full size, turned upright by its EXIF orientation.

    Raises ImageError.
    """
    return decode_header(checked_header(content, max_pixels=max_pixels)).pixels


def checked_header(content: bytes, *, max_pixels: int = MAX_PIXELS) -> Header:
    """The header of a picture that may be decoded. Raises ImageError."""
    header = read_header(content)
    _check_size(header.width, header.height, max_pixels)
    if header.frames > 1:
        raise ImageError(
            "animated", "Animated image", "it has several frames; send a still picture"
        )
    most_scans = min(MAX_SCANS, MAX_SCAN_PIXELS // header.pixels)
    if header.scans > most_scans:
        header = with_exact_scans(header, most_scans)
    if header.scans > most_scans:
        raise ImageError(
            "too_complex",
            "Image too complex",
            f"a JPEG of {header.width} x {header.height} px may have {most_scans} scans; save the "
            "picture anew",
        )
    return header


def decoding_seconds(header: Header) -> float:
    """About how long a core takes to decode it."""
    if header.media_type != JPEG:
        return header.pixels * PIXEL_SECONDS
    return header.pixels * (FIRST_SCAN_SECONDS + header.scans * SCAN_PIXEL_SECONDS)


def decoding_bytes(header: Header, longest_px: int | None) -> int:
    """About how much memory it takes to decode it, at its peak (measured, rounded up)."""
    reduction = reduction_of(header, longest_px)
    decoded_bytes = header.pixel_bytes
    if header.media_type != JPEG and reduction == 1:
        decoded_bytes = max(decoded_bytes, header.channels)
    result_bytes = header.pixels // reduction**2 * GIVEN_PIXEL_BYTES
    return FILE_COPIES * len(header.content) + header.pixels * decoded_bytes + result_bytes


def reduction_of(header: Header, longest_px: int | None) -> int:
    """How many times smaller `decode_header` returns the picture."""
    longest = max(header.width, header.height)
    return next((r for r in REDUCTIONS if longest_px and longest >= r * longest_px), 1)


def decode_header(header: Header, *, longest_px: int | None = None) -> DecodedImage:
    """The picture of a header, turned upright by its EXIF orientation alone.

    With `longest_px` it may come at a half, a quarter or an eighth of its size, never below
    `longest_px`; for JPEG that is ten times as fast for large photographs. Whatever the decoder
    raises is an ImageError.
    """
    reduction = reduction_of(header, longest_px)
    try:
        pixels = _upright(_decoded(header, reduction), header.orientation)
    except Exception as error:  # Pillow's plugins raise whatever their parsing meets
        raise ImageError(
            "truncated",
            "Broken image",
            f"the picture ends early or is damaged ({_reason(error)}); send the whole file",
        ) from error
    sides = (header.width, header.height)
    width, height = sides[::-1] if header.orientation > 4 else sides
    return DecodedImage(pixels, width, height, reduction)


def _reason(error: Exception) -> str:
    """The decoder's message in one line."""
    if isinstance(error, UnidentifiedImageError):  # it would name a memory address
        return "the decoder does not know this kind of it"
    return " ".join(str(error).split())


def _decoded(header: Header, reduction: int) -> NDArray[np.uint8]:
    """The picture as stored, so many times smaller, by the decoder that needs least memory."""
    if header.media_type == JPEG or (header.media_type == PNG and reduction == 1):
        return _decoded_by_pillow(header, reduction)
    if reduction == 1:
        return _decoded_webp(header)
    from affect.large_images import decode_smaller  # libvips is loaded where it is needed

    return decode_smaller(header, reduction)


def _decoded_by_pillow(header: Header, reduction: int) -> NDArray[np.uint8]:
    """JPEG at a fraction of its size, PNG whole."""
    with Image.open(io.BytesIO(header.content), formats=["JPEG", "PNG"]) as picture:
        if picture.size != (header.width, header.height):
            raise ValueError(f"it holds {picture.size[0]} x {picture.size[1]} px")
        if picture.format == "JPEG":
            picture.draft("RGB", (header.width // reduction, header.height // reduction))
        picture.load()
        return _in_bands(picture.size, lambda top, end: _rows(picture, top, end))


def _decoded_webp(header: Header) -> NDArray[np.uint8]:
    """OpenCV's WebP decoder holds the picture in memory once; Pillow's five times."""
    content = np.frombuffer(header.content, np.uint8)
    image = cv2.imdecode(content, cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None or image.shape[:2] != (header.height, header.width):
        raise ValueError("its pixels cannot be read")
    to_front = [2, 1, 0, 3][: image.shape[2]]  # from BGR or BGRA
    return _in_bands(
        (header.width, header.height),
        lambda top, end: Image.fromarray(np.asarray(image[top:end, :, to_front], np.uint8)),
    )


def _rows(picture: Image.Image, top: int, end: int) -> Image.Image:
    whole = (top, end) == (0, picture.height)
    return picture if whole else picture.crop((0, top, picture.width, end))


def _in_bands(size: tuple[int, int], rows: Callable[[int, int], Image.Image]) -> NDArray[np.uint8]:
    """(h, w, 3) of a picture of that size (width, height), converted some rows at a time."""
    width, height = size
    step = max(1, BAND_PIXELS // width)
    if step >= height:
        return np.asarray(to_rgb(rows(0, height)), np.uint8)
    out = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, step):
        end = min(top + step, height)
        out[top:end] = np.asarray(to_rgb(rows(top, end)), np.uint8)
    return out


def pixels_of(picture: Image.Image) -> NDArray[np.uint8]:
    """(H, W, 3) of a PIL image, turned upright by its orientation tag, if that can be read."""
    try:
        orientation = picture.getexif().get(ORIENTATION, 1)
    except Exception:  # the pixels are whole, whatever is wrong with the rest
        orientation = 1
    exif_orientation = orientation if orientation in ORIENTATIONS else 1
    return _upright(np.asarray(to_rgb(picture), np.uint8), exif_orientation)


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turned and mirrored as EXIF's orientation (1 to 8) says."""
    if orientation > 4:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def encode(
    image: NDArray[np.uint8],
    media_type: str = "image/png",
    *,
    quality: int = 90,
    compression: int = 4,
    synthetic: Mapping[str, str] | None = None,
) -> bytes:
    """(H, W, 3) or (H, W) uint8 to PNG, JPEG or WebP bytes; the same picture gives the same bytes.

    `quality` is that of JPEG and WebP, `compression` (0 to 9) that of PNG. With `synthetic` (what
    made it: model, version, seed ...) the file says in its own metadata that a model drew it.
    """
    kind = next((name for name, value in MEDIA_TYPES.items() if value == media_type), None)
    if kind is None:
        raise ImageError(
            "unsupported_type",
            "Unsupported image type",
            f"cannot write {media_type!r}; choose {', '.join(MEDIA_TYPES.values())}",
        )
    out = io.BytesIO()
    picture = Image.fromarray(image)
    packet = _xmp(synthetic) if synthetic is not None else None
    if kind == "PNG":
        info = PngImagePlugin.PngInfo()
        if packet is not None and synthetic is not None:
            info.add_itxt("XML:com.adobe.xmp", packet)
            for key, value in {
                "Software": "AffectGAN",
                "Comment": "synthetic face, drawn by a model",
                **synthetic,
            }.items():
                info.add_text(key, value)
        # Of filtered pictures, runs and the code of Huffman are as short as what zlib's default
        # searches for, in two fifths of the time.
        strategy = zlib.Z_RLE
        picture.save(out, "PNG", pnginfo=info, compress_level=compression, compress_type=strategy)
    elif kind == "JPEG":
        picture.save(
            out,
            "JPEG",
            quality=quality,
            **(
                {"xmp": packet.encode(), "comment": "synthetic face, drawn by a model"}
                if packet
                else {}
            ),
        )
    else:
        picture.save(
            out, "WEBP", quality=quality, method=4, **({"xmp": packet.encode()} if packet else {})
        )
    return out.getvalue()


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageError(
            "too_many_pixels",
            "Image too large",
            f"{width} x {height} px is {width * height:,} pixels; send at most {max_pixels:,}",
        )
    if min(width, height) < SMALLEST_PX:
        raise ImageError(
            "too_small",
            "Image too small",
            f"{width} x {height} px; send at least {SMALLEST_PX} px on each side",
        )


def to_rgb(picture: Image.Image) -> Image.Image:
    """Any mode as 8 bit RGB: 16 bit grey by its upper half, transparency on white."""
    if picture.mode in ("I", "I;16", "I;16B", "I;16L"):  # 16 bit grey
        return Image.fromarray(
            (np.asarray(picture, dtype=np.uint32) >> 8).clip(0, 255).astype(np.uint8)
        ).convert("RGB")
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        ground = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(ground, rgba).convert("RGB")
    return picture.convert("RGB")


def _xmp(properties: Mapping[str, str]) -> str:
    from xml.sax.saxutils import quoteattr

    made_by = quoteattr("; ".join(f"{key} {value}" for key, value in properties.items()))
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" '
        'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
        'xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
        f'Iptc4xmpExt:DigitalSourceType="{SYNTHETIC}" '
        f"xmp:CreatorTool={made_by}/></rdf:RDF></x:xmpmeta>"
    )
