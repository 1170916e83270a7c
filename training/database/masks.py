"""Masks as text, for the truth beside a picture: a PNG in base64, a few hundred bytes."""

import base64

import cv2
import numpy as np
from numpy.typing import NDArray


def encode(mask: NDArray[np.uint8] | NDArray[np.bool_]) -> str:
    """(S, S) of small whole numbers, or of yes and no, as text."""
    values = mask.astype(np.uint8) * np.uint8(255 if mask.dtype == bool else 1)
    settings = [cv2.IMWRITE_PNG_BILEVEL, 1] if mask.dtype == bool else []
    succeeded, code = cv2.imencode(".png", values, settings)
    assert succeeded
    return base64.b64encode(code.tobytes()).decode()


def decode(text: str) -> NDArray[np.uint8]:
    """The inverse; yes is 255. Raises ValueError for text that holds no mask."""
    mask = cv2.imdecode(np.frombuffer(base64.b64decode(text), np.uint8), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise ValueError(
            f"{text[:20]!r}... holds no mask: give the text of `parts` or `changed` as it "
            "stands in the truth"
        )
    return np.asarray(mask, np.uint8)
