"""Pictures in and out: the same decoding for training and serving, strict about what it takes, and
marked when we drew it.
"""

import io
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

# Pillow would warn at one limit and refuse at twice that; `decode` checks the header against its
# own limit first.
Image.MAX_IMAGE_PIXELS = None

MEDIA_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
# MPO: what phones write when they append a depth or brightness map to a JPEG; its first picture is
# the photograph
STILLS = (
    "JPEG",
    "MPO",
)
SMALLEST_PX = 8
MAX_PIXELS = 50_000_000
# What IPTC calls a picture made by a trained model; readers of XMP (and the EU AI Act's Article 50)
# look for such marks.
SYNTHETIC = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


class ImageError(ValueError):
    """A picture that cannot be used.

    `code` is stable for machines, `title` and `detail` are for people.
    """

    def __init__(self, code: str, title: str, detail: str) -> None:
        super().__init__(f"{title}: {detail}")
        self.code, self.title, self.detail = code, title, detail


def media_type(content: bytes) -> str:
    """What the bytes are, whatever their name says.

    Raises ImageError unless they are JPEG, PNG or WebP.
    """
    if content[:3] == b"\xff\xd8\xff":
        return "image/jpeg"
    if content[:8] == b"\x89PNG\r\n\x1a\n":
        return "image/png"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    known = {
        b"GIF8": "a GIF",
        b"BM": "a BMP",
        b"II*\x00": "a TIFF",
        b"MM\x00*": "a TIFF",
        b"%PDF": "a PDF",
        b"<svg": "an SVG",
        b"<?xml": "an SVG",
    }
    if content[4:8] == b"ftyp":
        known = {content[:8]: "a HEIC, AVIF or video file"}
    for start, name in known.items():
        if content.startswith(start):
            raise ImageError(
                "unsupported_type",
                "Unsupported image type",
                f"this is {name}; send JPEG, PNG or WebP",
            )
    raise ImageError(
        "not_an_image",
        "Not an image",
        f"{len(content)} bytes that are neither JPEG, PNG nor WebP; send one of these",
    )


def decode(
    content: bytes, *, max_pixels: int = MAX_PIXELS, longest_px: int | None = None
) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB, turned upright by its EXIF orientation.

    The header is checked before anything is decoded. `longest_px` allows a JPEG to be decoded at a
    fraction of its size, never below `longest_px`, which is ten times as fast for large
    photographs. Raises ImageError.
    """
    # Pillow reads on to the first pixels before it tells the size
    if media_type(content) == "image/png" and len(content) >= 24:
        _check_size(int.from_bytes(content[16:20]), int.from_bytes(content[20:24]), max_pixels)
    try:
        with Image.open(io.BytesIO(content), formats=list(MEDIA_TYPES)) as picture:
            _check_header(picture, max_pixels)
            if longest_px and picture.format in STILLS:
                picture.draft("RGB", _draft_size(picture.size, longest_px))
            picture.load()
            upright = ImageOps.exif_transpose(picture)
            return np.asarray(to_rgb(upright), dtype=np.uint8)
    except UnidentifiedImageError as error:
        raise ImageError(
            "truncated",
            "Broken image",
            "the header promises a picture that the rest does not hold; send the whole file",
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(
            "truncated",
            "Broken image",
            f"the picture ends early or is damaged ({error}); send the whole file",
        ) from error


def encode(
    image: NDArray[np.uint8],
    media_type: str = "image/png",
    *,
    quality: int = 90,
    synthetic: Mapping[str, str] | None = None,
) -> bytes:
    """(H, W, 3) or (H, W) uint8 to PNG, JPEG or WebP bytes; the same picture gives the same bytes.

    With `synthetic` (what made it: model, version, seed ...) the file says in its own metadata that
    a model drew it.
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
        picture.save(out, "PNG", pnginfo=info, compress_level=4)
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


def _check_header(picture: Image.Image, max_pixels: int) -> None:
    _check_size(*picture.size, max_pixels)
    if picture.format not in STILLS and getattr(picture, "n_frames", 1) > 1:
        raise ImageError(
            "animated",
            "Animated image",
            f"{getattr(picture, 'n_frames', 1)} frames; send a still picture",
        )


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


def _draft_size(size: tuple[int, int], longest_px: int) -> tuple[int, int]:
    """Pillow's draft keeps both sides at least this large."""
    scale = longest_px / max(size)
    return (
        (size[0], size[1])
        if scale >= 1
        else (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
    )


def to_rgb(picture: Image.Image) -> Image.Image:
    """Any mode as 8 bit RGB: 16 bit grey by its upper half, transparency on white."""
    if picture.mode in ("I", "I;16", "I;16B", "I;16L"):  # 16 bit grey
        return Image.fromarray(
            (np.asarray(picture, dtype=np.uint32) >> 8).clip(0, 255).astype(np.uint8)
        ).convert("RGB")
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        seen = picture.convert("RGBA")
        ground = Image.new("RGBA", seen.size, (255, 255, 255, 255))
        return Image.alpha_composite(ground, seen).convert("RGB")
    return picture.convert("RGB")


def _xmp(about: Mapping[str, str]) -> str:
    from xml.sax.saxutils import quoteattr

    made_by = quoteattr("; ".join(f"{key} {value}" for key, value in about.items()))
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" '
        'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
        'xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
        f'Iptc4xmpExt:DigitalSourceType="{SYNTHETIC}" '
        f"xmp:CreatorTool={made_by}/></rdf:RDF></x:xmpmeta>"
    )
