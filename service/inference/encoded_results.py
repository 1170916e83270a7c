"""From a model server's response to a result, its pictures encoded. It takes long, so it is done in
a thread.
"""

from collections.abc import Mapping, Sequence, Set

import numpy as np
from numpy.typing import NDArray

from affect.card import ModelCard
from affect.faces import Face
from affect.images import encode
from affect.protocol.messages import ExplainResponse, GenerateResponse, RowError
from service.inference.results import ExplanationResult, GenerationResult, Row
from service.problems import row_problem

Images = NDArray[np.uint8]


def encoded_generation(
    card: ModelCard, response: GenerateResponse, seeds: NDArray[np.int64], media_type: str
) -> GenerationResult:
    """What was drawn from these seeds."""
    rows = tuple(_row(range(place, place + 1), response.errors) for place in range(len(seeds)))
    images = tuple(
        _synthetic(card, response.images[place], media_type, seed=str(int(seed)))
        if isinstance(rows[place], range)
        else b""
        for place, seed in enumerate(seeds)
    )
    return GenerationResult(
        card, rows, response.measured, images, media_type, seeds, response.requested
    )


def encoded_explanation(
    card: ModelCard, response: ExplainResponse, faces: Sequence[Face | None]
) -> ExplanationResult:
    """What was explained of these faces; the response has a place for each answer to each of
    them.
    """
    answers = max(1, len(response.label) // max(1, len(faces)))
    spans = [range(place, place + answers) for place in range(0, len(response.label), answers)]
    rows = tuple(_row(span, response.errors) for span in spans)
    explained = [row for row in rows if isinstance(row, range)]
    first = {row.start for row in explained}
    found = {place for row in explained for place in row if response.words[place] is not None}
    asked = {place for place in first & found if _gradients(response, place)}
    return ExplanationResult(
        card=card,
        rows=rows,
        read=response.factual,
        faces=tuple(face for face in faces for _ in range(answers)),
        label=response.label,
        target=response.target,
        details=response.words,
        reconstruction=_synthetic_pngs(card, response.reconstruction, first),
        reconstruction_read=response.reconstruction_read,
        reconstruction_error=response.reconstruction_error,
        frames=tuple(
            _synthetic_pngs(card, frames, set(range(len(frames)))) if place in first else ()
            for place, frames in enumerate(response.frames)
        ),
        gradients=_pngs(response.gradients, asked),
        counterfactual=_synthetic_pngs(card, response.counterfactual, found),
        counterfactual_read=response.counterfactual_read,
        valid=response.valid.astype(np.bool_),
        change_map=_pngs(response.map, found),
        signed_map=_pngs(response.signed, found),
    )


def _gradients(response: ExplainResponse, place: int) -> bool:
    details = response.words[place]
    return details is not None and details.gradients is not None


def _pngs(images: Images, places: Set[int]) -> tuple[bytes, ...]:
    """The images in these places; nothing in the others."""
    return tuple(encode(image) if place in places else b"" for place, image in enumerate(images))


def _synthetic_pngs(card: ModelCard, images: Images, places: Set[int]) -> tuple[bytes, ...]:
    return tuple(
        _synthetic(card, image, "image/png") if place in places else b""
        for place, image in enumerate(images)
    )


def _row(places: range, errors: Mapping[int, RowError]) -> Row:
    error = errors.get(places.start)
    return places if error is None else row_problem(error.code, error.title, error.detail)


def _synthetic(card: ModelCard, image: Images, media_type: str, **about: str) -> bytes:
    marks = {"model": card.name, "version": card.version, **about}
    return encode(image, media_type, synthetic=marks)
