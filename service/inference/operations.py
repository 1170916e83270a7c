"""The three operations of one model version: pictures or items in, an `InferenceResult` out. No
HTTP here.
"""

import asyncio
import math
import secrets
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from affect.answers import RowProblem
from affect.archive import Operation
from affect.card import ModelCard
from affect.faces import Face, Faces
from affect.marking import Marker
from affect.protocol.messages import (
    NO_REFERENCE,
    ExplainRequest,
    ExplainResponse,
    GenerateRequest,
    GenerateResponse,
    Predictions,
    PredictRequest,
    PredictResponse,
    WorkerResponse,
)
from affect.protocol.tensor_codec import arguments_from_tensors, zero_tensors
from affect.rows import take_rows
from service.backend.interface import Backend
from service.inference.dispatch import Dispatcher
from service.inference.encoded_results import (
    MarkedPictures,
    encoded_explanation,
    encoded_generation,
)
from service.inference.preprocessing import Crop, Preprocessor
from service.inference.requested_labels import label_rows, question_target
from service.inference.results import (
    ExplanationResult,
    GenerationResult,
    InferenceResult,
    PredictionResult,
    Row,
    concatenate_predictions,
)
from service.observability.metrics import Metrics
from service.schemas import ExplainOptions, GenerateBody, PredictOptions

REQUEST_BYTES = 4 * 2**20  # crops of one backend request; TorchServe takes bodies of 6.5 MB
REQUEST_FACES = 64
PIPELINED_IMAGES = 16  # of a large request: read together, while the next ones are searched
EXPLANATION_IMAGES = 8  # approximate number of images in the response for one answer
References = Mapping[int, Crop | RowProblem]  # by item
S = TypeVar("S", bound=InferenceResult)
T = TypeVar("T")
W = TypeVar("W", bound=WorkerResponse)


class Operations:
    """Predict, generate and explain against a backend. All raise Problem or BackendError."""

    def __init__(
        self,
        backend: Backend,
        preprocessor: Preprocessor,
        metrics: Metrics,
        card: ModelCard,
        marker: Marker,
    ) -> None:
        self.backend, self.preprocessor, self.metrics = backend, preprocessor, metrics
        self.marker = marker
        self.card, self.dispatcher = card, Dispatcher(card, metrics)
        self._drift = metrics.drift.monitor(card)
        self._most_faces = max(1, min(REQUEST_FACES, REQUEST_BYTES // (card.image_px**2 * 3)))

    async def predict(
        self, images: Sequence[bytes], options: PredictOptions, *, seconds: float
    ) -> PredictionResult:
        """Read the faces of pictures. Like the others it raises CircuitOpen before anything
        costly.
        """
        self.dispatcher.check("predict")
        self.dispatcher.operation_metrics["predict"].images.observe(len(images))
        # A breaker that is not closed lets one request through, so nothing is split then.
        if len(images) > PIPELINED_IMAGES and self.dispatcher.breakers["predict"].state == "closed":
            result = await self._predict_in_parts(images, options.faces, seconds)
        else:
            result = await self._predict_part(images, options.faces, seconds)
        self._observe_faces("predict", result.faces)
        self._drift.add(result.read)
        return result

    async def _predict_in_parts(
        self, images: Sequence[bytes], faces: Faces, seconds: float
    ) -> PredictionResult:
        """Some pictures are read while others are still searched."""
        size = min(PIPELINED_IMAGES, self._together("predict"))
        parts = [self._predict_part(part, faces, seconds) for part in _chunks(images, size)]
        return PredictionResult.concatenate(await _all(parts))

    async def _predict_part(
        self, images: Sequence[bytes], faces: Faces, seconds: float
    ) -> PredictionResult:
        """Some pictures of a request."""
        crops = await self.preprocessor.crops(images, faces=faces, size_px=self.card.image_px)
        flat = _flat(crops)
        requests = [
            PredictRequest(_stack(part)) for part in _chunks(flat, self._together("predict"))
        ]
        responses = await self.dispatcher.send("predict", self.backend.predict, requests, seconds)
        responses = responses or [self._empty(PredictResponse)]
        read = concatenate_predictions([response.read for response in responses])
        return PredictionResult(
            self.card, _rows_of_faces(crops), read, tuple(crop.face for crop in flat)
        )

    async def generate(self, body: GenerateBody, *, seconds: float) -> GenerationResult:
        """Draw a face for each item."""
        self.dispatcher.check("generate")
        self.dispatcher.operation_metrics["generate"].images.observe(len(body.items))
        labels, seeds = label_rows(self.card, body.items), _seeds(body)
        references = await self._references(body)
        problems = {row: one for row, one in references.items() if isinstance(one, RowProblem)}
        valid_rows = [row for row in range(len(body.items)) if row not in problems]
        parts = _chunks(valid_rows, self._together("generate"))
        requests = [self._generate_request(part, labels, seeds, references) for part in parts]
        responses = await self.dispatcher.send("generate", self.backend.generate, requests, seconds)
        results = [
            await self.preprocessor.run(
                encoded_generation,
                self._marked([_reference(body, row) for row in part]),
                response,
                seeds[part],
                f"image/{body.format}",
            )
            for part, response in zip(
                parts or [[]], responses or [self._empty(GenerateResponse)], strict=True
            )
        ]
        return _with_problems(GenerationResult.concatenate(results), problems)

    async def explain(
        self, images: Sequence[bytes], options: ExplainOptions, *, seconds: float
    ) -> ExplanationResult:
        """For each face the least change that answers the question, and `options.answers` - 1
        others.
        """
        self.dispatcher.check("explain")
        label, target = question_target(self.card, options.question)
        self.dispatcher.operation_metrics["explain"].images.observe(len(images))
        crops = await self.preprocessor.crops(
            images, faces=options.which_faces, size_px=self.card.image_px
        )
        problems = {row: one for row, one in enumerate(crops) if isinstance(one, RowProblem)}
        flat = _flat(crops)
        self._observe_faces("explain", [crop.face for crop in flat])
        request_for = partial(
            ExplainRequest.of,
            label=label,
            target=target,
            gradients=options.integrated_gradients,
            family=options.family,
            answers=options.answers,
        )
        most_faces = self._most_faces // EXPLANATION_IMAGES // options.answers
        most_faces = max(1, min(most_faces, self._together("explain")))
        requests = [request_for(_stack(part)) for part in _chunks(flat, most_faces)]
        responses = await self.dispatcher.send("explain", self.backend.explain, requests, seconds)
        results, faces = [], iter(crop.face for crop in flat)
        sources = iter(
            [image for image, one in zip(images, crops, strict=True) for _ in _faces(one)]
        )
        for response in responses or [self._empty(ExplainResponse)]:
            part = tuple(islice(faces, len(response.label) // options.answers))
            pictures = self._marked(list(islice(sources, len(part))))
            results.append(
                await self.preprocessor.run(encoded_explanation, pictures, response, part)
            )
            self._drift.add(_faces_read(results[-1]))
        return _with_problems(ExplanationResult.concatenate(results), problems)

    def _together(self, operation: Operation) -> int:
        """Faces of one backend request."""
        return min(self._most_faces, self.dispatcher.turns[operation].most_together)

    # -- requests ----------------------------------------------------------------------------------

    def _observe_faces(self, operation: Operation, faces: Sequence[Face | None]) -> None:
        """Of one request: how many, and their sizes where they were found."""
        self.dispatcher.operation_metrics[operation].faces.observe(len(faces))
        for face in faces:
            if face is not None:
                self.metrics.face_px.observe(math.sqrt(face.box[2] * face.box[3]))

    async def _references(self, body: GenerateBody) -> References:
        """The person to keep, of the items that name one."""
        sent = {
            row: item.reference.content
            for row, item in enumerate(body.items)
            if item.reference is not None
        }
        crops = await self.preprocessor.crops(
            list(sent.values()), faces=body.which_faces, size_px=self.card.image_px
        )
        return {
            row: one if isinstance(one, RowProblem) else one[0]
            for row, one in zip(sent, crops, strict=True)
        }

    def _generate_request(
        self,
        part: Sequence[int],
        labels: NDArray[np.float32],
        seeds: NDArray[np.int64],
        references: References,
    ) -> GenerateRequest:
        people_crops = {row: crop for row in part if isinstance(crop := references.get(row), Crop)}
        index = {row: index for index, row in enumerate(people_crops)}
        side = self.card.image_px
        crops = (
            _stack(list(people_crops.values()))
            if people_crops
            else np.zeros((0, side, side, 3), np.uint8)
        )
        reference_of = np.array([index.get(row, NO_REFERENCE) for row in part], np.int32)
        return GenerateRequest(labels[part], seeds[part], crops, reference_of)

    def _marked(self, sources: Sequence[bytes | None]) -> MarkedPictures:
        """Of rows that were made from these files; None: from nothing."""
        present = {row: source for row, source in enumerate(sources) if source is not None}
        return MarkedPictures(self.marker, self.card, present)

    def _empty(self, kind: type[W]) -> W:
        """The response when every row has a problem of its own."""
        return kind(**arguments_from_tensors(kind, zero_tensors(kind, self.card, N=0, F=0)))


def _flat(crops: Sequence[list[Crop] | RowProblem]) -> list[Crop]:
    return [crop for one in crops if not isinstance(one, RowProblem) for crop in one]


def _faces(crops: list[Crop] | RowProblem) -> list[Crop]:
    return [] if isinstance(crops, RowProblem) else crops


def _reference(body: GenerateBody, row: int) -> bytes | None:
    reference = body.items[row].reference
    return None if reference is None else reference.content


def _rows_of_faces(crops: Sequence[list[Crop] | RowProblem]) -> tuple[Row, ...]:
    rows: list[Row] = []
    start = 0
    for one in crops:
        if isinstance(one, RowProblem):
            rows.append(one)
        else:
            rows.append(range(start, start + len(one)))
            start += len(one)
    return tuple(rows)


def _with_problems(result: S, problems: Mapping[int, RowProblem]) -> S:
    """The result with the problems of rows that were not sent to the model in their places."""
    computed, count = iter(result.rows), len(result.rows) + len(problems)
    return replace(result, rows=tuple(problems.get(row) or next(computed) for row in range(count)))


def _faces_read(result: ExplanationResult) -> Predictions:
    first = [index for row in result.rows if isinstance(row, range) for index in row[:1]]
    return take_rows(result.read, first)


def _seeds(body: GenerateBody) -> NDArray[np.int64]:
    seeds = (secrets.randbelow(2**53) if item.seed is None else item.seed for item in body.items)
    return np.fromiter(seeds, np.int64)


def _stack(crops: Sequence[Crop]) -> NDArray[np.uint8]:
    return np.stack([crop.pixels for crop in crops])


def _chunks(rows: Sequence[T], size: int) -> list[Sequence[T]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


async def _all(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of all, computed together. The first error ends the others and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
