"""Pictures, good and bad, and the request bodies that carry them."""

import base64
import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

FACE = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
CROPS = {"faces": "none"}


def encoded(image: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, kind, **options)
    return out.getvalue()


def packed(*contents: bytes) -> list[dict[str, str]]:
    return [{"content": base64.b64encode(content).decode()} for content in contents]


def huge_png() -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    )


def animated_gif() -> bytes:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    return out.getvalue()


BAD_PICTURES = {
    "truncated": encoded(FACE, "JPEG")[:400],
    "not_an_image": b"a text named face.jpg",
    "too_many_pixels": huge_png(),
    "unsupported_type": animated_gif(),
    "no_face": encoded(np.full((200, 200, 3), 90, np.uint8)),
}


def form(*parts: tuple[bytes, bytes]) -> bytes:
    """A multipart body of (header parameters, content), with the boundary `edge`."""
    return (
        b"".join(
            b"--edge\r\nContent-Disposition: form-data; " + about + b"\r\n\r\n" + body + b"\r\n"
            for about, body in parts
        )
        + b"--edge--\r\n"
    )


FORM = "multipart/form-data; boundary=edge"
FILE = b'name="images"; filename="a.png"'

PREDICT_BODY: dict[str, Any] = {"images": packed(encoded(FACE)), "options": CROPS}
