"""The three operations: crops and wishes to one backend job, its rows to results. No HTTP here."""

import asyncio
import base64
import math
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Literal, Self, TypeVar

import numpy as np
from prometheus_client import Histogram

from affect.answers import RowProblem
from affect.archive import OPERATIONS, Operation
from affect.card import ModelCard
from affect.faces import Faces
from affect.images import encode
from affect.labels import AROUSAL, VALENCE
from affect.protocol.messages import (
    ANY_LABEL,
    NO_REFERENCE,
    ExplainRequest,
    ExplainResponse,
    ExplanationDetails,
    GenerateRequest,
    GenerateResponse,
    Predictions,
    PredictRequest,
    PredictResponse,
    RowError,
    WorkerRequest,
    WorkerResponse,
)
from service.backend.circuit_breaker import CircuitBreaker, State
from service.backend.interface import Backend, BackendError
from service.inference.preprocessing import Crop, Preprocessor, row_problem
from service.observability.metrics import Metrics
from service.observability.tracing import backend_span
from service.problems import invalid
from service.schemas import GenerateBody, Question

JOB_BYTES = 4 * 2**20  # crops of one backend job; TorchServe takes bodies of 6.5 MB
JOB_FACES = 64
A = TypeVar("A", bound=WorkerResponse)
Json = dict[str, Any]


@dataclass(frozen=True)
class OperationMetrics:
    """The histograms of one operation: finding one by its label costs more than counting."""

    images: Histogram
    faces: Histogram
    wait_seconds: Histogram
    batch_jobs: Histogram
    batch_rows: Histogram

    @classmethod
    def of(cls, metrics: Metrics, operation: str) -> Self:
        """Looked up once."""
        return cls(
            **{part.name: getattr(metrics, part.name).labels(operation) for part in fields(cls)}
        )


class Operations:
    """Predict, generate and explain against a backend."""

    def __init__(
        self, backend: Backend, pictures: Preprocessor, metrics: Metrics, card: ModelCard
    ) -> None:
        self.backend, self.pictures, self.metrics, self.card = backend, pictures, metrics, card
        self.breakers = {
            operation: CircuitBreaker(self._telling(operation)) for operation in OPERATIONS
        }
        self.seen = metrics.drift.monitor(card)
        self.counted: dict[str, OperationMetrics] = {
            operation: OperationMetrics.of(metrics, operation) for operation in OPERATIONS
        }
        pixels = card.image_px**2 * 3
        self.job_faces = max(1, min(JOB_FACES, JOB_BYTES // pixels))

    @property
    def model(self) -> Json:
        """Which model answers."""
        return {"name": self.card.name, "version": self.card.version, "labels": self.card.labels}

    async def predict(
        self, contents: list[bytes], *, faces: Literal["largest", "all", "none"], seconds: float
    ) -> Json:
        """WorkerResponse of /v1/predict. Like the others it raises CircuitOpen before anything costly."""
        self.breakers["predict"].check()
        found = await self._crops("predict", contents, faces)
        flat = [crop for crops in found if not isinstance(crops, RowProblem) for crop in crops]
        jobs = [PredictRequest(_stack(part)) for part in _parts(flat, self.job_faces)]
        answers: list[PredictResponse] = await self._ask(
            "predict", self.backend.predict, jobs, seconds
        )
        for answer in answers:
            self.seen.add(answer.read)
        readings = [
            _reading(self.card, answer.read, row)
            for answer in answers
            for row in range(len(answer.read))
        ]
        results, next_face = [], 0
        for index, crops in enumerate(found):
            if isinstance(crops, RowProblem):
                results.append(_failed(index, crops))
                continue
            told = [
                _face(crop) | reading
                for crop, reading in zip(
                    crops, readings[next_face : next_face + len(crops)], strict=True
                )
            ]
            results.append({"index": index, "status": "ok", "faces": told})
            next_face += len(crops)
        return {"model": self.model, "results": results}

    async def generate(self, body: GenerateBody, *, seconds: float) -> Json:
        """WorkerResponse of /v1/generate."""
        self.breakers["generate"].check()
        self.counted["generate"].images.observe(len(body.items))
        labels = np.stack(
            [
                self._row(index, item.aus, item.valence, item.arousal)
                for index, item in enumerate(body.items)
            ]
        )
        seeds = [
            secrets.randbelow(2**53) if item.seed is None else item.seed for item in body.items
        ]
        referring = [index for index, item in enumerate(body.items) if item.reference is not None]
        sent = [item.reference.content for item in body.items if item.reference is not None]
        found = dict(
            zip(
                referring,
                await self.pictures.crops(sent, faces=body.which_faces, size_px=self.card.image_px),
                strict=True,
            )
        )
        failed = {index: crops for index, crops in found.items() if isinstance(crops, RowProblem)}
        drawn = [index for index in range(len(body.items)) if index not in failed]
        jobs = [self._drawing(part, labels, seeds, found) for part in _parts(drawn, self.job_faces)]
        answers: list[GenerateResponse] = await self._ask(
            "generate", self.backend.generate, jobs, seconds
        )
        results = {index: _failed(index, problem) for index, problem in failed.items()}
        for part, answer in zip(_parts(drawn, self.job_faces), answers, strict=True):
            told = await self.pictures.run(
                self._drawings, part, seeds, answer, f"image/{body.format}"
            )
            results |= dict(zip(part, told, strict=True))
        return {
            "model": self.model,
            "results": [results[index] for index in range(len(body.items))],
        }

    async def explain(
        self,
        contents: list[bytes],
        question: Question,
        *,
        faces: Faces,
        family: Literal["expression", "nuisance"] = "expression",
        answers: int = 1,
        gradients: bool = False,
        seconds: float,
    ) -> Json:
        """WorkerResponse of /v1/explain: the least change, and up to `answers` - 1 others."""
        self.breakers["explain"].check()
        label, target = self._asked(question)
        found = await self._crops("explain", contents, faces)
        good = [
            (index, crops[0])
            for index, crops in enumerate(found)
            if not isinstance(crops, RowProblem)
        ]
        results = {
            index: _failed(index, crops)
            for index, crops in enumerate(found)
            if isinstance(crops, RowProblem)
        }
        parts = list(
            _parts(good, max(1, self.job_faces // 8 // answers))
        )  # an explanation's answer holds ten pictures a face
        asked = partial(
            ExplainRequest.of,
            label=label,
            target=target,
            gradients=gradients,
            family=family,
            answers=answers,
        )
        jobs = [asked(_stack([crop for _, crop in part])) for part in parts]
        found_answers: list[ExplainResponse] = await self._ask(
            "explain", self.backend.explain, jobs, seconds
        )
        for part, answer in zip(parts, found_answers, strict=True):
            self.seen.add(
                answer.factual.of(
                    [
                        row
                        for row in range(0, answers * len(part), answers)
                        if row not in answer.errors
                    ]
                )
            )
            told = await self.pictures.run(self._explanations, part, answer, answers)
            results |= dict(zip((index for index, _ in part), told, strict=True))
        return {"model": self.model, "results": [results[index] for index in range(len(contents))]}

    def check_items(self, body: GenerateBody) -> None:
        """Raises Problem when an item asks for what the model does not know."""
        for index, item in enumerate(body.items):
            self._row(index, item.aus, item.valence, item.arousal)

    def check_question(self, question: Question, family: str) -> None:
        """Raises Problem when it is about what the model does not know."""
        self._asked(question)
        if family == "nuisance" and not self.card.nuisances:
            raise invalid(
                "options.family",
                family,
                "this model has learnt no nuisances; ask for the family `expression`",
            )

    # -- requests ------------------------------------------------------------------------------------------------

    async def _crops(
        self, operation: str, contents: list[bytes], faces: Faces
    ) -> list[list[Crop] | RowProblem]:
        counted = self.counted[operation]
        counted.images.observe(len(contents))
        found = await self.pictures.crops(contents, faces=faces, size_px=self.card.image_px)
        good = [crop for crops in found if not isinstance(crops, RowProblem) for crop in crops]
        counted.faces.observe(len(good))
        for crop in good:
            if crop.face is not None:
                self.metrics.face_px.observe(math.sqrt(crop.face.box[2] * crop.face.box[3]))
        return found

    async def _ask(
        self,
        operation: Operation,
        call: Callable[..., Awaitable[A]],
        jobs: Sequence[Any],
        seconds: float,
    ) -> list[A]:
        start, outcome = time.perf_counter(), "error"
        try:
            with self.breakers[operation].guard() if jobs else nullcontext():
                parts = [self._do(operation, call, job, seconds) for job in jobs]
                answers = (
                    [await parts[0]] if len(parts) == 1 else await asyncio.gather(*parts)
                )  # most have one: no task for it
            outcome = "ok"
            return answers
        except BackendError as error:
            outcome = type(error).__name__.removeprefix("Backend").lower()
            self.metrics.refused.labels(operation, outcome).inc()
            raise
        finally:
            if jobs:
                taken = self.metrics.backend_seconds.labels(
                    operation, self.card.name, self.card.version, outcome
                )
                taken.observe(time.perf_counter() - start)

    async def _do(
        self,
        operation: Operation,
        call: Callable[..., Awaitable[A]],
        job: WorkerRequest,
        seconds: float,
    ) -> A:
        start = time.perf_counter()
        with backend_span(operation, self.card) as span:
            answer = await call(replace(job, traceparent=span.traceparent), timeout_seconds=seconds)
            if answer.work is not None:
                span.worked(answer.work)
                waited = (
                    time.perf_counter()
                    - start
                    - (answer.work.end_seconds - answer.work.start_seconds)
                )
                counted = self.counted[operation]
                counted.wait_seconds.observe(max(0.0, waited))
                counted.batch_jobs.observe(answer.work.batch_jobs)
                counted.batch_rows.observe(answer.work.batch_rows)
        return answer

    def _telling(self, operation: Operation) -> Callable[[State], None]:
        gauge = self.metrics.breaker.labels(operation, self.card.name, self.card.version)
        return lambda state: gauge.set(("closed", "half-open", "open").index(state))

    def _row(
        self, index: int, aus: dict[str, float], valence: float | None, arousal: float | None
    ) -> np.ndarray:
        wanted = dict(aus) | {
            name: value
            for name, value in ((VALENCE, valence), (AROUSAL, arousal))
            if value is not None
        }
        known = self.card.labels_of
        for name in wanted:
            field = f"items[{index}].aus.{name}" if name in aus else f"items[{index}].{name}"
            if name not in known.names:
                raise invalid(
                    field,
                    wanted[name],
                    f"unknown Action Unit; this model has {', '.join(known.aus)}",
                )
            if not self._learned(name):
                raise invalid(
                    field,
                    wanted[name],
                    f"this model was trained on {self.card.labels!r} labels and does not know {name}",
                )
        return known.row(wanted)

    def _drawing(
        self,
        part: Sequence[int],
        labels: np.ndarray,
        seeds: list[int],
        found: dict[int, list[Crop] | RowProblem],
    ) -> GenerateRequest:
        people = [
            (index, crops[0]) for index in part if isinstance(crops := found.get(index), list)
        ]
        place = {index: row for row, (index, _) in enumerate(people)}
        side = self.card.image_px
        references = (
            _stack([crop for _, crop in people])
            if people
            else np.zeros((0, side, side, 3), np.uint8)
        )
        reference_of = np.array([place.get(index, NO_REFERENCE) for index in part], np.int32)
        return GenerateRequest(
            labels[list(part)],
            np.array([seeds[index] for index in part], np.int64),
            references,
            reference_of,
        )

    def _asked(self, question: Question) -> tuple[int, float]:
        """Column and target of a question, or Problem."""
        names = self.card.labels_of.names
        value = question.valence if question.valence is not None else question.arousal
        label = question.au or (
            VALENCE
            if question.valence is not None
            else AROUSAL
            if question.arousal is not None
            else None
        )
        if label is None:
            return ANY_LABEL, float("nan")
        if label not in self.card.vocabulary and question.au is not None:
            raise invalid(
                "options.question.au",
                question.au,
                f"unknown Action Unit; this model has {', '.join(self.card.vocabulary)}",
            )
        if not self._learned(label):
            raise invalid(
                "options.question",
                label,
                f"this model was trained on {self.card.labels!r} labels and does not know {label}",
            )
        if question.au is None:
            assert value is not None
            return names.index(label), value
        return names.index(label), float("nan") if question.present is None else float(
            question.present
        )

    def _learned(self, name: str) -> bool:
        return self.card.labels != ("au" if name in (VALENCE, AROUSAL) else "va")

    # -- answers -------------------------------------------------------------------------------------------------

    def _drawings(
        self, part: Sequence[int], seeds: list[int], answer: GenerateResponse, media_type: str
    ) -> list[Json]:
        return [
            self._drawn(index, row, seeds[index], answer, media_type)
            for row, index in enumerate(part)
        ]

    def _explanations(
        self, part: Sequence[tuple[int, Crop]], answer: ExplainResponse, answers: int
    ) -> list[Json]:
        """Of each face `answers` rows: the least change and the others."""
        return [
            self._explained(index, range(row * answers, (row + 1) * answers), crop, answer)
            for row, (index, crop) in enumerate(part)
        ]

    def _drawn(
        self, index: int, row: int, seed: int, answer: GenerateResponse, media_type: str
    ) -> Json:
        if row in answer.errors:
            return _failed(index, _of_row(answer.errors[row]))
        requested = self.card.labels_of.named(answer.requested[row])
        va = {name: requested.pop(name) for name in (VALENCE, AROUSAL) if name in requested}
        return {
            "index": index,
            "status": "ok",
            "seed": seed,
            "requested": {**_rounded(va), "aus": _rounded(requested)},
            "measured": _reading(self.card, answer.measured, row),
            "image": self._picture(answer.images[row], media_type, seed=str(seed)),
        }

    def _explained(self, index: int, rows: range, crop: Crop, answer: ExplainResponse) -> Json:
        row = rows[0]
        words = answer.words[row] if row < len(answer.words) else None
        if row in answer.errors or words is None:
            return _failed(index, _of_row(answer.errors[row]))
        label = self.card.labels_of.names[int(answer.label[row])]
        target = float(answer.target[row])
        question = (
            {label: round(target, 4)}
            if label in (VALENCE, AROUSAL)
            else {"au": label, "present": target >= 0.5}
        )
        return {
            "index": index,
            "status": "ok",
            "question": question,
            "box": _face(crop)["box"],
            "factual": _reading(self.card, answer.factual, row),
            "reconstruction": {
                "image": self._picture(answer.reconstruction[row]),
                "prediction": _reading(self.card, answer.reconstruction_read, row),
                "error": round(float(answer.reconstruction_error[row]), 4),
            },
            "frames": [self._picture(frame) for frame in answer.frames[row]],
            "attribution": words.attribution,
            "integrated_gradients": words.gradients
            and {"image": _plain(answer.gradients[row]), "regions": words.gradients},
            **self._change(row, words, answer),
            "alternatives": [
                self._change(other, told, answer)
                for other in rows[1:]
                if (told := answer.words[other]) is not None
            ],
        }

    def _change(self, row: int, words: ExplanationDetails, answer: ExplainResponse) -> Json:
        """What differs from answer to answer of one question."""
        return {
            "sentence": words.sentence,
            "counterfactual": {
                "image": self._picture(answer.counterfactual[row]),
                "prediction": _reading(self.card, answer.counterfactual_read, row),
                "valid": bool(answer.valid[row]),
            },
            "causes": [
                {"label": name, "from": start, "to": end} for name, start, end in words.causes
            ],
            "changes": [
                {"label": name, "from": start, "to": end} for name, start, end in words.changes
            ],
            "map": {"image": _plain(answer.map[row]), "signed": _plain(answer.signed[row])},
            "regions": words.regions,
            "scores": words.scores,
            "trust": {
                "level": words.trust,
                "reasons": list(words.reasons),
                "judge": _opinion(words.opinion),
            },
        }

    def _picture(self, image: np.ndarray, media_type: str = "image/png", **about: str) -> Json:
        content = encode(
            image,
            media_type,
            synthetic={"model": self.card.name, "version": self.card.version, **about},
        )
        return {"content": base64.b64encode(content).decode(), "media_type": media_type}


def _opinion(opinion: tuple[float, float, bool] | None) -> Json | None:
    return opinion and dict(zip(("from", "to", "agrees"), opinion, strict=True))


def _reading(card: ModelCard, read: Predictions, row: int) -> Json:
    told: Json = {"realism": round(float(read.realism[row]), 4)}
    if card.labels != "au":
        told |= {
            VALENCE: round(float(read.va[row, 0]), 4),
            AROUSAL: round(float(read.va[row, 1]), 4),
        }
    if card.labels != "va":
        columns = zip(
            card.vocabulary,
            *(part[row].tolist() for part in (read.probability, read.intensity, read.present)),
            strict=True,
        )
        told["aus"] = {
            code: {"probability": round(p, 4), "intensity": round(i, 4), "present": bool(present)}
            for code, p, i, present in columns
        }
    return told


def _face(crop: Crop) -> Json:
    if crop.face is None:
        return {"box": None, "points": None, "confidence": None}
    points = [[round(float(x), 1), round(float(y), 1)] for x, y in crop.face.points]
    return {"box": list(crop.face.box), "points": points, "confidence": crop.face.confidence}


def _failed(index: int, problem: RowProblem) -> Json:
    return {"index": index, "status": "error", "error": problem.model_dump()}


def _of_row(error: RowError) -> RowProblem:
    return row_problem(error.code, error.title, error.detail)


def _plain(image: np.ndarray) -> Json:
    return {"content": base64.b64encode(encode(image)).decode(), "media_type": "image/png"}


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}


def _stack(crops: Sequence[Crop]) -> np.ndarray:
    return np.stack([crop.pixels for crop in crops])


T = TypeVar("T")


def _parts(rows: Sequence[T], size: int) -> list[Sequence[T]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
