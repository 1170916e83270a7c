"""`AsyncClient`: the gateway's operations as methods, for any number of pictures."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar, cast

import orjson
from pydantic import BaseModel, ValidationError

from affect.answers import (
    ExplainAnswer,
    ExplainResult,
    GenerateAnswer,
    JobDocument,
    ModelList,
    ModelName,
    PredictAnswer,
    PredictResult,
    Readiness,
    RowProblem,
    VerifyAnswer,
    VerifyResult,
)
from affect.card import ModelCard
from affect.client.batches import (
    BATCH_BYTES,
    BATCH_IMAGES,
    Loaded,
    batches,
    form,
    packed,
    row_problem,
)
from affect.client.transport import Answer, ApiError, OnWait, Transport, cancel
from affect.inputs import Pictures

M = TypeVar("M", bound=BaseModel)
R = TypeVar("R", PredictResult, ExplainResult, VerifyResult)
Operation = Literal["predict", "generate", "explain"]
FinalAnswer = PredictAnswer | GenerateAnswer | ExplainAnswer
Progress = Callable[[int], None]  # called with the number of pictures answered so far
ANSWERS: dict[Operation, type[FinalAnswer]] = {
    "predict": PredictAnswer,
    "generate": GenerateAnswer,
    "explain": ExplainAnswer,
}
POLL_SECONDS = 1.0
TOO_LARGE, TOO_LATE = 413, "deadline"


@dataclass(frozen=True)
class _PictureOperation(Generic[R]):
    """An operation on pictures: its path, the type of one picture's answer and of a request's."""

    operation: Literal["predict", "explain", "verify"]
    result: type[R]
    answer: type[PredictAnswer | ExplainAnswer | VerifyAnswer]


PREDICT = _PictureOperation("predict", PredictResult, PredictAnswer)
EXPLAIN = _PictureOperation("explain", ExplainResult, ExplainAnswer)
VERIFY = _PictureOperation("verify", VerifyResult, VerifyAnswer)


@dataclass(frozen=True)
class _PictureAnswer(Generic[R]):
    """One picture's answer. `model` is None when it never reached the gateway."""

    name: str
    result: R
    model: ModelName | None


class AsyncClient:
    """A client of one gateway. Use it in `async with`, or call `close`.

    `timeout_seconds` is for one request, `patience_seconds` for trying it again while the gateway
    is busy (429, 503); `on_wait(seconds, why)` is called before each wait. Pictures go out in
    batches of at most `batch_images` and `batch_bytes`, `concurrency` of them at a time. What the
    gateway refuses as a whole raises ApiError, what it refuses of one picture is that picture's
    answer.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        timeout_seconds: float = 180.0,
        patience_seconds: float = 900.0,
        batch_images: int = BATCH_IMAGES,
        batch_bytes: int = BATCH_BYTES,
        concurrency: int = 2,
        on_wait: OnWait | None = None,
    ) -> None:
        self.transport = Transport(
            url,
            api_key=api_key,
            timeout_seconds=timeout_seconds,
            patience_seconds=patience_seconds,
            on_wait=on_wait,
        )
        self.batch_images, self.batch_bytes = batch_images, batch_bytes
        self.concurrency = concurrency

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self.transport.close()

    # -- operations --------------------------------------------------------------------------------

    async def predict(
        self, pictures: Pictures, *, progress: Progress | None = None, **options: Any
    ) -> PredictAnswer:
        """Read pictures; `options` are those of POST /v1/predict, such as faces="all". Answers
        stand in the pictures' order.
        """
        answers = [one async for one in self._each(PREDICT, pictures, options, progress)]
        results = [one.result for one in answers]
        return PredictAnswer(model=await self._model_of(answers), results=results)

    async def predict_each(
        self, pictures: Pictures, *, progress: Progress | None = None, **options: Any
    ) -> AsyncIterator[tuple[str, PredictResult]]:
        """Name and answer of one picture after the other, as they come."""
        async for one in self._each(PREDICT, pictures, options, progress):
            yield one.name, one.result

    async def verify(self, pictures: Pictures, *, progress: Progress | None = None) -> VerifyAnswer:
        """Which marks pictures have: signed claims, a watermark. Answers stand in their order."""
        answers = [one async for one in self._each(VERIFY, pictures, {}, progress)]
        return VerifyAnswer(results=[one.result for one in answers])

    async def explain(
        self,
        pictures: Pictures,
        question: Mapping[str, Any] | None = None,
        *,
        progress: Progress | None = None,
        **options: Any,
    ) -> ExplainAnswer:
        """Explain readings; `question` such as {"au": "AU12", "present": False}, `options` those of
        POST /v1/explain.
        """
        options["question"] = question or {}
        answers = [one async for one in self._each(EXPLAIN, pictures, options, progress)]
        results = [one.result for one in answers]
        return ExplainAnswer(model=await self._model_of(answers), results=results)

    async def explain_each(
        self,
        pictures: Pictures,
        question: Mapping[str, Any] | None = None,
        *,
        progress: Progress | None = None,
        **options: Any,
    ) -> AsyncIterator[tuple[str, ExplainResult]]:
        """Name and explanation of one picture after the other, as they come."""
        options["question"] = question or {}
        async for one in self._each(EXPLAIN, pictures, options, progress):
            yield one.name, one.result

    async def generate(
        self, items: Mapping[str, Any] | Iterable[Mapping[str, Any]] = (), **options: Any
    ) -> GenerateAnswer:
        """Draw faces: items such as {"aus": {"AU12": 0.9}, "seed": 7, "reference": "a.jpg"},
        `options` such as format="jpeg".
        """
        body = await _drawing(items, options)
        return _parsed(GenerateAnswer, await self._post("/v1/generate", body))

    # -- jobs --------------------------------------------------------------------------------------

    async def submit(
        self,
        operation: Operation,
        inputs: Pictures | Iterable[Mapping[str, Any]],
        *,
        webhook: str | None = None,
        **options: Any,
    ) -> JobDocument | FinalAnswer:
        """Submit pictures (or, for "generate", items) as one job; `wait` fetches its answer.

        A gateway that cannot store a job at the moment answers at once. Raises ApiError when a
        picture cannot be opened.
        """
        build_body = _drawing if operation == "generate" else _request_body
        body = await build_body(cast(Any, inputs), options)
        headers = {"Prefer": "respond-async"} | ({"X-Webhook": webhook} if webhook else {})
        answer = await self._post(f"/v1/{operation}", body, headers)
        if answer.status == 202:
            return _parsed(JobDocument, answer)
        return _parsed(ANSWERS[operation], answer)

    async def job(self, job: JobDocument | str) -> JobDocument:
        """How far a job is."""
        return _parsed(JobDocument, await self.transport.send("GET", f"/v1/jobs/{_id(job)}"))

    async def wait(
        self, job: JobDocument | FinalAnswer | str, *, progress: Progress | None = None
    ) -> FinalAnswer:
        """The answer of a job, once it is there. Raises ApiError when the job failed, was cancelled
        or has expired.
        """
        if isinstance(job, PredictAnswer | GenerateAnswer | ExplainAnswer):
            return job
        document = await self.job(job)
        while document.status in ("queued", "running"):
            await asyncio.sleep(POLL_SECONDS)
            document = await self.job(document)
            if progress is not None:
                progress(document.progress.done)
        answer = await self.transport.send("GET", f"/v1/jobs/{document.id}/result")
        return _parsed(ANSWERS[document.operation], answer)

    async def cancel(self, job: JobDocument | str) -> JobDocument:
        """Stop an open job, or delete the answer of one that is over."""
        return _parsed(JobDocument, await self.transport.send("DELETE", f"/v1/jobs/{_id(job)}"))

    # -- the gateway -------------------------------------------------------------------------------

    async def models(self) -> ModelList:
        """Every version of every model that is served."""
        return _parsed(ModelList, await self.transport.send("GET", "/v1/models"))

    async def card(self, name: str) -> ModelCard:
        """What a model knows, and how well."""
        return _parsed(ModelCard, await self.transport.send("GET", f"/v1/models/{name}"))

    async def ready(self) -> bool:
        """Whether requests would be served now. Raises Unreachable when no server answers."""
        try:
            return _parsed(Readiness, await self.transport.once("GET", "/readyz")).ready
        except ApiError as error:
            if error.status == 503:
                return False
            raise

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The plain JSON answer to a JSON body."""
        return (await self._post(path, body)).json()

    # -- inside ------------------------------------------------------------------------------------

    async def _post(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> Answer:
        all_headers = {"Content-Type": "application/json"} | dict(headers or {})
        return await self.transport.send("POST", path, body=orjson.dumps(body), headers=all_headers)

    async def _each(
        self,
        operation: _PictureOperation[R],
        pictures: Pictures,
        options: Mapping[str, Any],
        progress: Progress | None,
    ) -> AsyncIterator[_PictureAnswer[R]]:
        """Answers in order, with `concurrency` batches on their way."""
        under_way: deque[asyncio.Task[list[_PictureAnswer[R]]]] = deque()
        done = 0
        ready = batches(pictures, most_images=self.batch_images, most_bytes=self.batch_bytes)
        try:
            more = True
            while more or under_way:
                while more and len(under_way) < self.concurrency:
                    batch = await anext(ready, None)
                    if batch is None:
                        more = False
                    else:
                        request = self._batch(operation, batch, options)
                        under_way.append(asyncio.create_task(request))
                for one in await under_way[0] if under_way else ():
                    yield one
                    done += 1
                    if progress is not None:
                        progress(done)
                if under_way:
                    under_way.popleft()
        finally:
            await cancel(under_way)

    async def _batch(
        self, operation: _PictureOperation[R], batch: Sequence[Loaded], options: Mapping[str, Any]
    ) -> list[_PictureAnswer[R]]:
        """The answer for each picture of a batch; a batch that is too large, or not done in time,
        is sent as two requests.
        """
        loaded = [one for one in batch if isinstance(one.content, bytes)]
        try:
            answers = await self._request(operation, loaded, options) if loaded else {}
        except ApiError as error:
            if error.status != TOO_LARGE and error.code != TOO_LATE:
                raise
            if len(loaded) > 1:
                half = len(batch) // 2
                parts = [
                    await self._batch(operation, part, options)
                    for part in (batch[:half], batch[half:])
                ]
                return parts[0] + parts[1]
            answers = {loaded[0].index: _failed(operation, loaded[0], _as_row(error))}
        return [
            _failed(operation, one, one.content)
            if isinstance(one.content, RowProblem)
            else answers[one.index]
            for one in batch
        ]

    async def _request(
        self, operation: _PictureOperation[R], loaded: Sequence[Loaded], options: Mapping[str, Any]
    ) -> dict[int, _PictureAnswer[R]]:
        body, headers = form(
            [one.content for one in loaded if isinstance(one.content, bytes)], options
        )
        reply = await self.transport.send(
            "POST", f"/v1/{operation.operation}", body=body, headers=headers
        )
        answer = _parsed(operation.answer, reply)
        if len(answer.results) != len(loaded):
            raise ApiError(
                f"{reply.url} answered {len(answer.results)} of {len(loaded)} pictures: is it the "
                "gateway?"
            )
        model = None if isinstance(answer, VerifyAnswer) else answer.model
        return {
            one.index: _PictureAnswer(one.name, _renumbered(operation, result, one.index), model)
            for one, result in zip(loaded, answer.results, strict=True)
        }

    async def _model_of(self, answers: Sequence[_PictureAnswer[R]]) -> ModelName:
        """The model that answered; when nothing could be sent, the one that would have answered."""
        for one in answers:
            if one.model is not None:
                return one.model
        return (await self.models()).models[0]


def _renumbered(reading: _PictureOperation[R], result: BaseModel, index: int) -> R:
    assert isinstance(result, reading.result)
    return result.model_copy(update={"index": index})


def _failed(reading: _PictureOperation[R], one: Loaded, problem: RowProblem) -> _PictureAnswer[R]:
    result = reading.result(index=one.index, status="error", error=problem)
    return _PictureAnswer(one.name, result, None)


def _as_row(error: ApiError) -> RowProblem:
    """A refusal of a request with one picture is that picture's."""
    problem = error.problem
    if problem is None:  # from a proxy in between, which has a limit of its own
        return row_problem("body_too_large", "Request too large", str(error), error.status)
    return RowProblem(
        type=problem.type,
        title=problem.title,
        status=problem.status,
        detail=problem.detail,
        code=problem.code,
    )


def _parsed(model: type[M], answer: Answer) -> M:
    """Raises ApiError when what came back is another program's."""
    answer.json()
    try:
        return model.model_validate_json(answer.body)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the body"
        raise ApiError(
            f"{answer.url} answered something else than {model.__name__} ({field}: "
            f"{first['msg']}): is it the gateway?",
            answer.status,
        ) from error


async def _request_body(pictures: Pictures, options: Mapping[str, Any]) -> dict[str, Any]:
    return {"images": await packed(pictures), "options": dict(options)}


async def _drawing(
    items: Mapping[str, Any] | Iterable[Mapping[str, Any]], options: Mapping[str, Any]
) -> dict[str, Any]:
    """The body of /v1/generate; a reference may be whatever a picture may be."""
    items_sent = [dict(item) for item in ([items] if isinstance(items, Mapping) else items)]
    for item in items_sent:
        if item.get("reference") is not None:
            (item["reference"],) = await packed(item["reference"])
    return {"items": items_sent or [{}], **options}


def _id(job: JobDocument | str) -> str:
    return job if isinstance(job, str) else job.id
