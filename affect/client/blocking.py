"""`Client`: `AsyncClient` for programs without an event loop; its loop runs in a thread of
its own.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Generator, Iterable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

from affect.answers import (
    ExplainAnswer,
    ExplainResult,
    GenerateAnswer,
    JobDocument,
    ModelList,
    PredictAnswer,
    PredictResult,
    VerifyAnswer,
)
from affect.card import ModelCard
from affect.client.async_client import AsyncClient, FinalAnswer, Operation, Progress
from affect.inputs import Pictures

T = TypeVar("T")


class Client:
    """A client of one gateway: what `AsyncClient` has, with the same arguments, without `await`.
    Thread-safe.
    """

    def __init__(
        self, url: str = "http://127.0.0.1:8000", *, api_key: str | None = None, **options: Any
    ) -> None:
        self._client = AsyncClient(url, api_key=api_key, **options)
        self._loop = asyncio.new_event_loop()
        # A daemon: a program that forgets to close its client ends all the same.
        self._thread = threading.Thread(target=self._loop.run_forever, name="client", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        if self._loop.is_running():
            self._do(self._client.close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def predict(
        self, pictures: Pictures, *, progress: Progress | None = None, **options: Any
    ) -> PredictAnswer:
        """See `AsyncClient.predict`."""
        return self._do(self._client.predict(pictures, progress=progress, **options))

    def predict_each(
        self, pictures: Pictures, *, progress: Progress | None = None, **options: Any
    ) -> Generator[tuple[str, PredictResult], None, None]:
        """See `AsyncClient.predict_each`."""
        return self._each(self._client.predict_each(pictures, progress=progress, **options))

    def verify(self, pictures: Pictures, *, progress: Progress | None = None) -> VerifyAnswer:
        """See `AsyncClient.verify`."""
        return self._do(self._client.verify(pictures, progress=progress))

    def explain(
        self,
        pictures: Pictures,
        question: Mapping[str, Any] | None = None,
        *,
        progress: Progress | None = None,
        **options: Any,
    ) -> ExplainAnswer:
        """See `AsyncClient.explain`."""
        return self._do(self._client.explain(pictures, question, progress=progress, **options))

    def explain_each(
        self,
        pictures: Pictures,
        question: Mapping[str, Any] | None = None,
        *,
        progress: Progress | None = None,
        **options: Any,
    ) -> Generator[tuple[str, ExplainResult], None, None]:
        """See `AsyncClient.explain_each`."""
        answers = self._client.explain_each(pictures, question, progress=progress, **options)
        return self._each(answers)

    def generate(
        self, items: Mapping[str, Any] | Iterable[Mapping[str, Any]] = (), **options: Any
    ) -> GenerateAnswer:
        """See `AsyncClient.generate`."""
        return self._do(self._client.generate(items, **options))

    def submit(
        self,
        operation: Operation,
        inputs: Pictures | Iterable[Mapping[str, Any]],
        **options: Any,
    ) -> JobDocument | FinalAnswer:
        """See `AsyncClient.submit`."""
        return self._do(self._client.submit(operation, inputs, **options))

    def job(self, job: JobDocument | str) -> JobDocument:
        """See `AsyncClient.job`."""
        return self._do(self._client.job(job))

    def wait(
        self, job: JobDocument | FinalAnswer | str, *, progress: Progress | None = None
    ) -> FinalAnswer:
        """See `AsyncClient.wait`."""
        return self._do(self._client.wait(job, progress=progress))

    def cancel(self, job: JobDocument | str) -> JobDocument:
        """See `AsyncClient.cancel`."""
        return self._do(self._client.cancel(job))

    def models(self) -> ModelList:
        """See `AsyncClient.models`."""
        return self._do(self._client.models())

    def card(self, name: str) -> ModelCard:
        """See `AsyncClient.card`."""
        return self._do(self._client.card(name))

    def ready(self) -> bool:
        """See `AsyncClient.ready`."""
        return self._do(self._client.ready())

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """See `AsyncClient.post`."""
        return self._do(self._client.post(path, body))

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:  # also on Ctrl-C: requests in flight are cancelled
            future.cancel()
            raise

    def _each(self, rows: AsyncIterator[T]) -> Generator[T, None, None]:
        async def following() -> tuple[T] | None:
            try:
                return (await anext(rows),)
            except StopAsyncIteration:  # StopIteration cannot be passed between threads
                return None

        try:
            while (row := self._do(following())) is not None:
                yield row[0]
        finally:
            # the client may have been closed before the iterator is
            if self._loop.is_running():
                self._do(rows.aclose())  # type: ignore[attr-defined]
