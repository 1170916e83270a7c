"""From a model server's response to a result, its pictures encoded. Encoding is slow, so it runs in
a thread.
"""

import logging
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from affect.card import ModelCard
from affect.faces import Face
from affect.images import encode
from affect.marking import Claim, CredentialsError, Marker
from affect.marking.claims import Kind
from affect.protocol.messages import (
    ExplainResponse,
    ExplanationDetails,
    GenerateResponse,
    RowError,
)
from affect.protocol.reading_warnings import limited_trust
from service.inference.results import ExplanationResult, GenerationResult, Row
from service.problems import Problem, row_problem

Images = NDArray[np.uint8]
SIGNING_SECONDS = 30  # after which a time-stamp authority may be asked again
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MarkedPictures:
    """Encodes the pictures of one model, marked. `sources` are the files that they were made from,
    by index of a row of the request.
    """

    marker: Marker
    card: ModelCard
    sources: Mapping[int, bytes]

    def encode(
        self, image: Images, row: int, media_type: str = "image/png", *, claim: Claim | None = None
    ) -> bytes:
        """One picture of a row, by default of an edited face. Raises Problem when it cannot be
        signed: no picture is sent unmarked.
        """
        source = self.sources.get(row)
        claim = self.claim("edited") if claim is None else claim
        try:
            return self.marker.encode(image, claim, media_type, source=source)
        except CredentialsError as error:
            log.error("pictures cannot be signed: %s", error)
            detail = (
                "the certificate or the time-stamp authority refuses; the operator's log says why"
            )
            raise Problem("signing_unavailable", detail, retry_seconds=SIGNING_SECONDS) from error

    def claim(self, kind: Kind, seed: int | None = None) -> Claim:
        """The provenance claim of such a picture."""
        return Claim.of(self.card, kind, seed)


def encoded_generation(
    pictures: MarkedPictures,
    response: GenerateResponse,
    seeds: NDArray[np.int64],
    media_type: str,
) -> GenerationResult:
    """The drawn faces of these seeds; rows with a source keep that person."""
    rows = tuple(_row(range(index, index + 1), response.errors) for index in range(len(seeds)))
    images = tuple(
        _drawn(pictures, response.images[index], index, int(seeds[index]), media_type)
        if isinstance(rows[index], range)
        else b""
        for index in range(len(seeds))
    )
    return GenerationResult(
        pictures.card, rows, response.measured, images, media_type, seeds, response.requested
    )


def _drawn(
    pictures: MarkedPictures, image: Images, index: int, seed: int, media_type: str
) -> bytes:
    claim = pictures.claim("edited" if index in pictures.sources else "drawn", seed)
    return pictures.encode(image, index, media_type, claim=claim)


def encoded_explanation(
    pictures: MarkedPictures, response: ExplainResponse, faces: Sequence[Face | None]
) -> ExplanationResult:
    """The explanations of these faces; the response has a row for each answer to each of them."""
    answers = max(1, len(response.label) // max(1, len(faces)))
    spans = [range(index, index + answers) for index in range(0, len(response.label), answers)]
    rows = tuple(_row(span, response.errors) for span in spans)
    answer_rows = [row for row in rows if isinstance(row, range)]
    first = {row.start for row in answer_rows}
    valid_indices = {
        index for row in answer_rows for index in row if response.details[index] is not None
    }
    row_of = [index // answers for index in range(len(response.label))]

    def marked(images: Images, indices: Set[int]) -> tuple[bytes, ...]:
        return tuple(
            pictures.encode(image, row_of[index]) if index in indices else b""
            for index, image in enumerate(images)
        )

    with_gradients = {index for index in first & valid_indices if _gradients(response, index)}
    return ExplanationResult(
        card=pictures.card,
        rows=rows,
        read=response.factual,
        faces=tuple(face for face in faces for _ in range(answers)),
        label=response.label,
        target=response.target,
        details=tuple(
            _with_limited_trust(pictures.card, faces[row_of[index]], one)
            for index, one in enumerate(response.details)
        ),
        reconstruction=marked(response.reconstruction, first),
        reconstruction_read=response.reconstruction_read,
        reconstruction_error=response.reconstruction_error,
        frames=tuple(
            _frames(pictures, frames, row_of[index]) if index in first else ()
            for index, frames in enumerate(response.frames)
        ),
        gradients=_pngs(response.gradients, with_gradients),
        counterfactual=marked(response.counterfactual, valid_indices),
        counterfactual_read=response.counterfactual_read,
        valid=response.valid.astype(np.bool_),
        change_map=_pngs(response.map, valid_indices),
        signed_map=_pngs(response.signed, valid_indices),
    )


def _with_limited_trust(
    card: ModelCard, face: Face | None, details: ExplanationDetails | None
) -> ExplanationDetails | None:
    """The answer, with less trust where the finder reports a defect of the face."""
    if details is None:
        return None
    level, reasons = limited_trust(card, face, details.trust, details.reasons)
    return replace(details, trust=level, reasons=reasons)


def _gradients(response: ExplainResponse, index: int) -> bool:
    details = response.details[index]
    return details is not None and details.gradients is not None


def _pngs(images: Images, indices: Set[int]) -> tuple[bytes, ...]:
    """The images in these indices; nothing in the others."""
    return tuple(encode(image) if index in indices else b"" for index, image in enumerate(images))


def _frames(pictures: MarkedPictures, frames: Images, row: int) -> tuple[bytes, ...]:
    """The first is the face that was sent, which no model changed."""
    first = pictures.encode(frames[0], row, claim=pictures.claim("cropped"))
    return first, *(pictures.encode(frame, row) for frame in frames[1:])


def _row(indices: range, errors: Mapping[int, RowError]) -> Row:
    error = errors.get(indices.start)
    return indices if error is None else row_problem(error.code, error.title, error.detail)
