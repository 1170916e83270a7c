"""Verification of any picture: who signed it, whether it carries our watermark, and whether a model
made it. "unknown" is no promise that no model did.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from affect.card import CardError, ModelCard
from affect.image_headers import media_type
from affect.images import LONGEST_PX, checked_header, decode_header
from affect.inputs import InputPicture, PictureLike, expand
from affect.marking import watermark
from affect.marking.claims import DRAWN, EDITED
from affect.marking.marker import Marker, default_marker, short_digest
from affect.marking.signing import Manifest, ManifestReader
from affect.model_folders import shipped_weights

Verdict = Literal["made here", "made by AI", "unknown"]
BY_AI = (DRAWN, EDITED)
# IPTC's mark in XMP, as an attribute or an element.
XMP_BY_AI = re.compile(rb"DigitalSourceType\W+[^\"<]{0,80}(t|compositeWithT)rainedAlgorithmicMedia")


@dataclass(frozen=True)
class Verification:
    """What was found in one picture. None: no such mark."""

    manifest: Manifest | None
    watermark: watermark.Detection | None
    model: str | None  # name and version of the watermark's model, where it is known here
    metadata: bool  # unsigned metadata says that a model made it
    verdict: Verdict

    @property
    def payload(self) -> str | None:
        """The watermark's, hexadecimal: the start of the model's digest."""
        return None if self.watermark is None else f"{self.watermark.payload:08x}"

    @property
    def edited(self) -> bool | None:
        """Whether a valid claim says that another picture was changed; None: nothing says."""
        if self.manifest is None or not self.manifest.valid:
            return None
        return any(one.get("action") == "c2pa.edited" for one in self.manifest.actions)


class Verifier:
    """Finds marks; watermarks of the models of `cards` are named. Thread-safe."""

    def __init__(self, marker: Marker, cards: Iterable[ModelCard] = ()) -> None:
        """Raises CredentialsError when trusted certificates cannot be read."""
        self._own = marker.signer.credentials
        self._reader = ManifestReader(self._own, marker.settings)
        self._models = {short_digest(card.digest): f"{card.name} {card.version}" for card in cards}

    def verify(self, content: bytes, pixels: NDArray[np.uint8]) -> Verification:
        """Of a file and its pixels (H, W, 3)."""
        manifest = self._reader.read(content, media_type(content))
        detection = watermark.find(pixels)
        by_metadata = XMP_BY_AI.search(content) is not None
        model_name = None if detection is None else self._models.get(f"{detection.payload:08x}")
        verdict = self._verdict(manifest, detection is not None or by_metadata)
        return Verification(manifest, detection, model_name, by_metadata, verdict)

    def _verdict(self, manifest: Manifest | None, other_mark: bool) -> Verdict:
        if manifest is not None and manifest.valid:
            claimed = any(one.get("digitalSourceType") in BY_AI for one in manifest.actions)
            if claimed and manifest.trusted and manifest.serial == self._own.serial:
                return "made here"
            if claimed:
                return "made by AI"
        return "made by AI" if other_mark else "unknown"


def verify(picture: PictureLike) -> Verification:
    """What can be said of a picture: a path, bytes, an array (H, W, 3) or a PIL image.

    Own certificates are those that the environment names. Raises ImageError when it cannot be
    read.
    """
    one = picture if isinstance(picture, InputPicture) else next(iter(expand(picture)))
    content = one.content()
    pixels = decode_header(checked_header(content), longest_px=LONGEST_PX).pixels
    return _default_verifier().verify(content, pixels)


@cache
def _default_verifier() -> Verifier:
    try:
        cards = [ModelCard.load(shipped_weights())]
    except CardError:
        cards = []
    return Verifier(default_marker(), cards)
