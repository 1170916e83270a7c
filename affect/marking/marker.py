"""Every picture that a model drew or changed is written by a `Marker`: with metadata for people, a
watermark in its pixels and a signed C2PA manifest.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from affect.images import encode
from affect.marking import watermark
from affect.marking.claims import Claim
from affect.marking.credentials import MarkingSettings, credentials
from affect.marking.signing import Signer


class Marker:
    """Writes marked pictures. Thread-safe."""

    def __init__(self, settings: MarkingSettings) -> None:
        """Raises CredentialsError for a certificate that cannot sign."""
        self.settings = settings
        self.signer = Signer(credentials(settings), settings.timestamp_url)

    def encode(
        self,
        image: NDArray[np.uint8],
        claim: Claim,
        media_type: str = "image/png",
        *,
        source: bytes | None = None,
    ) -> bytes:
        """The file (PNG, JPEG or WebP) of an image (H, W, 3) uint8 RGB.

        `source` is the file it was made from, whose C2PA manifest is kept as an ingredient. Raises
        ImageError for another media type, CredentialsError when nothing can be signed.
        """
        if not claim.by_ai:
            return self.signer.sign(encode(image, media_type), media_type, claim, source)
        watermarked = watermark.embed(image, int(short_digest(claim.digest), 16))
        content = encode(watermarked, media_type, synthetic=claim.about)
        return self.signer.sign(content, media_type, claim, source)


def short_digest(digest: str) -> str:
    """The start of a model's digest that a watermark has room for: 32 bits, hexadecimal."""
    return digest[: watermark.PAYLOAD_BITS // 4] or "0"


@cache
def default_marker() -> Marker:
    """Of this process, as its environment says. Raises CredentialsError."""
    return Marker(MarkingSettings.from_environment())
