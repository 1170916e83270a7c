"""Headers of picture files, read before a pixel is decoded, and the same files without the parts
that a decoder does not need.

Decoders trust metadata: a broken tag makes them raise, many small parts cost them seconds. So the
containers of JPEG, PNG and WebP are walked here, which costs microseconds: size, orientation and
the passes over the pixels are read, and only the parts that hold pixels and how to read them go on
to the decoder.
"""

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

JPEG, PNG, WEBP = "image/jpeg", "image/png", "image/webp"
MEDIA_TYPES = {"JPEG": JPEG, "PNG": PNG, "WEBP": WEBP}
# segments or chunks of a file; photographs have dozens, PNGs one for every few kilobytes
MOST_PARTS = 10_000
ORIENTATION = 0x0112  # EXIF
ORIENTATIONS = range(1, 9)
NUMBER_TYPES = {1: "B", 3: "H", 4: "I"}  # of EXIF: byte, short, long

# A file with a C2PA manifest has this box type (ISO 19566-5); looking for it is far quicker than
# parsing.
JUMBF = b"jumb"
PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_KEPT = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
INTERLACED_CHANNELS = 4  # palettes and transparent colours are written out
COEFFICIENT_BYTES = 2  # of a channel: JPEGs of several scans are held as coefficients

# Any number of bytes 0xff may precede it; a repetition here would take the square of their number.
MARKER = re.compile(rb"\xff([^\x00\xff])")
START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
START_OF_SCAN, END_OF_IMAGE, APP0, APP1, ADOBE, COMMENT = 0xDA, 0xD9, 0xE0, 0xE1, 0xEE, 0xFE
WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD9)))  # TEM, restarts, start of image
FOREIGN = {
    b"GIF8": "a GIF",
    b"BM": "a BMP",
    b"II*\x00": "a TIFF",
    b"MM\x00*": "a TIFF",
    b"%PDF": "a PDF",
    b"<svg": "an SVG",
    b"<?xml": "an SVG",
}


class ImageError(ValueError):
    """A picture that cannot be used.

    `code` is stable for machines, `title` and `detail` are for people.
    """

    def __init__(self, code: str, title: str, detail: str) -> None:
        super().__init__(f"{title}: {detail}")
        self.code, self.title, self.detail = code, title, detail

    def __reduce__(self) -> tuple[type["ImageError"], tuple[str, str, str]]:
        return type(self), (self.code, self.title, self.detail)


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a file says of its picture."""

    media_type: str
    width: int  # px as stored, before it is turned upright
    height: int
    channels: int
    orientation: int = 1  # EXIF: 1 is upright
    scans: int = 1  # passes over the pixels, of a JPEG
    frames: int = 1
    # bytes that a decoder holds of every pixel until the last one is read, even if it returns fewer
    pixel_bytes: int = 0
    content: bytes  # the file without metadata

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height


def media_type(content: bytes) -> str:
    """The media type of the bytes, whatever their name says.

    Raises ImageError unless they are JPEG, PNG or WebP.
    """
    if content[:3] == b"\xff\xd8\xff":
        return JPEG
    if content[:8] == PNG_START:
        return PNG
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return WEBP
    other_formats = (
        {content[:8]: "a HEIC, AVIF or video file"} if content[4:8] == b"ftyp" else FOREIGN
    )
    for start, name in other_formats.items():
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


def read_header(content: bytes) -> Header:
    """The header of a JPEG, PNG or WebP. Raises ImageError."""
    readers = {JPEG: _jpeg, PNG: _png, WEBP: _webp}
    try:
        return readers[media_type(content)](content)
    except (struct.error, IndexError) as error:
        raise ImageError(
            "truncated",
            "Broken image",
            "the header promises a picture that the rest does not hold; send the whole file",
        ) from error


def orientation_of(exif: bytes) -> int:
    """The orientation (1 to 8) that an EXIF block asks for: 1, upright, where it asks for none or
    cannot be read.
    """
    block = exif.removeprefix(b"Exif\x00\x00")
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        return 1
    try:
        (first,) = struct.unpack_from(order + "I", block, 4)
        (count,) = struct.unpack_from(order + "H", block, first)
        for entry in range(first + 2, first + 2 + 12 * count, 12):
            tag, kind, values = struct.unpack_from(order + "HHI", block, entry)
            if tag == ORIENTATION and kind in NUMBER_TYPES and values == 1:
                (value,) = struct.unpack_from(order + NUMBER_TYPES[kind], block, entry + 8)
                return value if value in ORIENTATIONS else 1
    except struct.error:
        pass
    return 1


def _jpeg(content: bytes) -> Header:
    """Segments up to the first scan; the rest is the decoder's, but its scans are counted."""
    view = memoryview(content)
    segments, exif, frame, offset = [view[:2]], b"", None, 2
    for _ in range(MOST_PARTS):
        marker, start, offset = _marker(content, offset)
        if marker == START_OF_SCAN:
            break
        if marker in WITHOUT_LENGTH:
            continue
        end = offset + _length(content, offset)
        if marker in START_OF_FRAME:
            frame = frame or struct.unpack_from(">xHHB", content, offset + 2)
        if marker == APP1 and not exif and content[offset + 2 : offset + 8] == b"Exif\x00\x00":
            exif = content[offset + 2 : end]
        if marker in (APP0, ADOBE) or not (APP0 <= marker < 0xF0 or marker == COMMENT):
            segments.append(view[start:end])
        offset = end
    else:
        raise _too_many_parts("segments")
    if frame is None:
        raise IndexError("no frame before the first scan")
    height, width, channels = frame
    scans = content.count(b"\xff\xda", start)
    return Header(
        media_type=JPEG,
        width=width,
        height=height,
        channels=channels,
        orientation=orientation_of(exif),
        scans=scans,
        pixel_bytes=COEFFICIENT_BYTES * channels if scans > 1 else 0,
        content=_joined([*segments, view[start:]], content),
    )


def with_exact_scans(header: Header, most_scans: int) -> Header:
    """The header with its scans counted marker by marker, up to one more than `most_scans`: a
    segment's data may look like a marker.
    """
    scans, offset = 0, 2
    while scans <= most_scans:
        try:
            marker, _, offset = _marker(header.content, offset)
            length = 0 if marker in WITHOUT_LENGTH else _length(header.content, offset)
        except (IndexError, struct.error):  # truncated: the scans so far are counted
            break
        if marker == END_OF_IMAGE:
            break
        scans += marker == START_OF_SCAN
        offset += length
    return replace(header, scans=scans)


def _marker(content: bytes, offset: int) -> tuple[int, int, int]:
    """(marker, where it starts, where it ends) of the next marker.

    Raises IndexError at the end of the file.
    """
    match = MARKER.search(content, offset)
    if match is None:
        raise IndexError("the file ends before the picture")
    return content[match.end() - 1], match.end() - 2, match.end()


def _length(content: bytes, offset: int) -> int:
    """Bytes of the segment whose length is stored at `offset`, itself included. Raises
    struct.error.
    """
    (length,) = struct.unpack_from(">H", content, offset)
    return max(int(length), 2)


def _png(content: bytes) -> Header:
    width, height, depth, colour = struct.unpack_from(">IIBB", content, 16)
    channels, interlaced = PNG_CHANNELS.get(colour, 4), content[28]
    view = memoryview(content)
    segments, exif, frames, offset = [view[:8]], b"", 1, 8
    for _ in range(MOST_PARTS):
        if offset + 8 > len(content):
            break
        length, kind = struct.unpack_from(">I4s", content, offset)
        end = offset + 12 + length
        if kind in PNG_KEPT:
            segments.append(view[offset:end])
        elif kind == b"eXIf":
            exif = exif or content[offset + 8 : end - 4]
        elif kind == b"acTL":
            (frames,) = struct.unpack_from(">I", content, offset + 8)
        offset = end
        if kind == b"IEND":
            break
    else:
        raise _too_many_parts("chunks")
    return Header(
        media_type=PNG,
        width=width,
        height=height,
        channels=channels,
        orientation=orientation_of(exif),
        frames=frames,
        pixel_bytes=INTERLACED_CHANNELS * max(1, depth // 8) if interlaced else 0,
        content=_joined(segments, content),
    )


def _webp(content: bytes) -> Header:
    kind = content[12:16]
    alpha, frames, exif = False, 1, b""
    if kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", content, 26))
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", content, 21)
        width, height, alpha = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1)
    else:
        flags = content[20]
        width, height = (
            1 + int.from_bytes(content[start : start + 3], "little") for start in (24, 27)
        )
        alpha, frames = bool(flags & 0x10), 2 if flags & 0x02 else 1
        exif = _webp_chunk(content, b"EXIF")
    lossless = kind == b"VP8L" or (kind == b"VP8X" and bool(_webp_chunk(content, b"VP8L")))
    return Header(
        media_type=WEBP,
        width=width,
        height=height,
        channels=4 if alpha else 3,
        orientation=orientation_of(exif),
        frames=frames,
        pixel_bytes=4 if lossless else int(alpha),
        content=content,
    )


def _webp_chunk(content: bytes, name: bytes) -> bytes:
    """The first chunk of that kind, b"" when there is none."""
    offset = 12
    for _ in range(MOST_PARTS):
        if offset + 8 > len(content):
            return b""
        kind, length = struct.unpack_from("<4sI", content, offset)
        if kind == name:
            return content[offset + 8 : offset + 8 + length]
        offset += 8 + length + length % 2
    raise _too_many_parts("chunks")


def _joined(segments: Sequence[memoryview], content: bytes) -> bytes:
    """The segments joined; the content itself, uncopied, when they are all of it."""
    is_complete = sum(map(len, segments)) == len(content)
    return content if is_complete else b"".join(segments)


def _too_many_parts(parts: str) -> ImageError:
    return ImageError(
        "too_complex",
        "Image too complex",
        f"the file has more than {MOST_PARTS:,} {parts}; save the picture anew",
    )
