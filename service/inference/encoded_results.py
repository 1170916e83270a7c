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
    rows = tuple(_row(range(index, index + 1), response.errors) for index in range(len(seeds)))
    images = tuple(
        _synthetic(card, response.images[index], media_type, seed=str(int(seed)))
        if isinstance(rows[index], range)
        else b""
        for index, seed in enumerate(seeds)
    )
    return GenerationResult(
        card, rows, response.measured, images, media_type, seeds, response.requested
    )


def encoded_explanation(
    card: ModelCard, response: ExplainResponse, faces: Sequence[Face | None]
) -> ExplanationResult:
    """What was explained of these faces; the response has a index for each answer to each of
    them.
    """
    answers = max(1, len(response.label) // max(1, len(faces)))
    spans = [range(index, index + answers) for index in range(0, len(response.label), answers)]
    rows = tuple(_row(span, response.errors) for span in spans)
    explained = [row for row in rows if isinstance(row, range)]
    first = {row.start for row in explained}
    answered = {index for row in explained for index in row if response.details[index] is not None}
    with_gradients = {index for index in first & answered if _gradients(response, index)}
    return ExplanationResult(
        card=card,
        rows=rows,
        read=response.factual,
        faces=tuple(face for face in faces for _ in range(answers)),
        label=response.label,
        target=response.target,
        details=response.details,
        reconstruction=_synthetic_pngs(card, response.reconstruction, first),
        reconstruction_read=response.reconstruction_read,
        reconstruction_error=response.reconstruction_error,
        frames=tuple(
            _synthetic_pngs(card, frames, set(range(len(frames)))) if index in first else ()
            for index, frames in enumerate(response.frames)
        ),
        gradients=_pngs(response.gradients, with_gradients),
        counterfactual=_synthetic_pngs(card, response.counterfactual, answered),
        counterfactual_read=response.counterfactual_read,
        valid=response.valid.astype(np.bool_),
        change_map=_pngs(response.map, answered),
        signed_map=_pngs(response.signed, answered),
    )


def _gradients(response: ExplainResponse, index: int) -> bool:
    details = response.details[index]
    return details is not None and details.gradients is not None


def _pngs(images: Images, indices: Set[int]) -> tuple[bytes, ...]:
    """The images in these indices; nothing in the others."""
    return tuple(encode(image) if index in indices else b"" for index, image in enumerate(images))


def _synthetic_pngs(card: ModelCard, images: Images, indices: Set[int]) -> tuple[bytes, ...]:
    return tuple(
        _synthetic(card, image, "image/png") if index in indices else b""
        for index, image in enumerate(images)
    )


def _row(indices: range, errors: Mapping[int, RowError]) -> Row:
    error = errors.get(indices.start)
    return indices if error is None else row_problem(error.code, error.title, error.detail)


def _synthetic(card: ModelCard, image: Images, media_type: str, **about: str) -> bytes:
    marks = {"model": card.name, "version": card.version, **about}
    return encode(image, media_type, synthetic=marks)
