"""What the HTML files of training are made of: each is one file that needs no other."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from numpy.typing import NDArray
from PIL import Image

from affect.picture_grid import picture_grid

U8 = NDArray[np.uint8]
WEBP_QUALITY = 84


@dataclass(frozen=True)
class Strip:
    """A row of faces and what it shows."""

    title: str
    image: U8  # (S, n S, 3)


def strip(title: str, images: U8) -> Strip:
    """Pictures (n, S, S, 3) in a row."""
    return Strip(title, picture_grid(images, len(images)))


def data_uri(image: U8) -> str:
    """The picture (H, W, 3) as a WebP data URI."""
    out = io.BytesIO()
    Image.fromarray(image).save(out, "WEBP", quality=WEBP_QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}"


def render_page(template: Path, values: Mapping[str, object], *, filters: Mapping[str, Any]) -> str:
    """A template and those beside it as one document; pictures go in by the filter `picture`."""
    environment = Environment(
        loader=FileSystemLoader(template.parent), autoescape=True, undefined=StrictUndefined
    )
    environment.filters |= {"picture": data_uri, **filters}
    return environment.get_template(template.name).render(values)
