"""Drawing in this process: requested faces, checked as the gateway checks them, and drawn faces."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affect.batches import generate
from affect.card import ModelCard
from affect.faces import Face
from affect.images import MEDIA_TYPES
from affect.inputs import InputPicture, expand
from affect.labels import AROUSAL, DIMENSIONS, VALENCE, LabelError
from affect.local.reading import LocalReading, face_reading
from affect.marking import Claim, default_marker
from affect.model import AffectModel
from affect.protocol.messages import F32, NO_REFERENCE

U8 = NDArray[np.uint8]
FIELDS = ("aus", VALENCE, AROUSAL, "seed", "reference")
SEEDS = (
    2**53
)  # seeds are drawn below this: the largest integer that every JSON parser represents exactly


@dataclass(frozen=True)
class DrawingRequest:
    """One face that is asked for."""

    labels: F32  # (K + 2,) NaN where nothing is asked
    seed: int
    reference: InputPicture | None

    @classmethod
    def of(cls, number: int, item: Mapping[str, Any], card: ModelCard) -> "DrawingRequest":
        """Raises LabelError and ValueError, with the field."""
        unknown = sorted(set(item) - set(FIELDS))
        if unknown:
            raise ValueError(
                f"items[{number}].{unknown[0]} is no field; there are {', '.join(FIELDS)}"
            )
        labels = dict(item.get("aus") or {}) | {
            name: item[name] for name in DIMENSIONS if item.get(name) is not None
        }
        for name in labels:
            if not card.learns(name):
                raise LabelError(
                    name, labels[name], f"this model was trained on {card.labels!r} labels"
                )
        reference = item.get("reference")
        seed = item.get("seed")
        return cls(
            card.labels_of.row(labels),
            secrets.randbelow(SEEDS) if seed is None else int(seed),
            None if reference is None else next(expand(reference)),
        )


@dataclass(frozen=True, eq=False)
class Drawing:
    """One drawn face. With `error` nothing was drawn."""

    seed: int
    image: U8 | None = None  # (S, S, 3)
    requested: Mapping[str, float] | None = None  # the whole state that was asked of the model
    measured: LocalReading | None = None  # what the model reads off the picture
    error: str | None = None
    detail: str | None = None
    card: ModelCard | None = None
    source: bytes | None = None  # the reference's file
    edited: bool = False  # whether there was a reference

    def save(self, path: str | Path) -> Path:
        """Write x.png, x.jpg or x.webp, marked as drawn by a model. Raises ValueError when nothing
        was drawn.
        """
        if self.image is None:
            raise ValueError(f"nothing was drawn: {self.detail}")
        kinds = {f".{kind.lower()}": media for kind, media in MEDIA_TYPES.items()} | {
            ".jpg": "image/jpeg"
        }
        path = Path(path)
        assert self.card is not None
        claim = Claim.of(self.card, "edited" if self.edited else "drawn", self.seed)
        media_type = kinds.get(path.suffix.lower(), path.suffix)
        content = default_marker().encode(self.image, claim, media_type, source=self.source)
        path.write_bytes(content)
        return path


def draw(
    model: AffectModel,
    requests: Sequence[DrawingRequest],
    people: Sequence[tuple[Face | None, U8] | LocalReading | None],
) -> list[Drawing]:
    """A face for each request; `people` are those to keep, or why there is none."""
    drawings = []
    for request, person in zip(requests, people, strict=True):
        if isinstance(person, LocalReading):
            drawings.append(Drawing(request.seed, error=person.error, detail=person.detail))
            continue
        side = model.card.image_px
        references = np.zeros((0, side, side, 3), np.uint8) if person is None else person[1][None]
        reference_of = np.array([NO_REFERENCE if person is None else 0], np.int32)
        images, requested, measured = generate(
            model,
            request.labels[None],
            np.array([request.seed], np.int64),
            references,
            reference_of,
        )
        picture = InputPicture(f"seed {request.seed}", images[0])
        read = face_reading(picture, 0, None, model.card, measured, 0)
        requested_labels = model.card.labels_of.named(requested[0])
        drawings.append(
            Drawing(
                request.seed,
                images[0],
                requested_labels,
                read,
                card=model.card,
                source=request.reference.provenance() if request.reference else None,
                edited=person is not None,
            )
        )
    return drawings
