"""The jobs of one TorchServe batch: read together, answered or refused one by one."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Self, TypeVar

import orjson

from affect.archive import Context
from affect.card import ModelCard
from affect.protocol.messages import MEDIA_TYPE, WorkerRequest, WorkerResponse, WorkReport
from affect.protocol.tensor_codec import ProtocolError

R = TypeVar("R", bound=WorkerRequest)


@dataclass(frozen=True)
class RequestBatch(Generic[R]):
    """Jobs that could be read, by their place in the batch; `refused` are the answers to those that could not."""

    context: Context
    card: ModelCard
    jobs: dict[int, R]
    refused: dict[int, bytes]

    @classmethod
    def parse(
        cls, kind: type[R], data: Sequence[Mapping[str, Any]], context: Context, card: ModelCard
    ) -> Self:
        """Parse each body; one that is no such job, or not for this model, becomes a 400 of its own. Never raises."""
        jobs, refused = {}, {}
        for place, row in enumerate(data):
            try:
                jobs[place] = kind.from_bytes(row.get("body") or row.get("data") or b"", card)
            except ProtocolError as error:
                context.set_response_status(400, "Bad Request", place)
                context.set_response_content_type(place, "application/json")
                refused[place] = orjson.dumps(
                    {"field": error.field, "value": str(error.value), "remedy": error.remedy}
                )
        return cls(context, card, jobs, refused)

    def respond(self, run: Callable[[list[R]], Sequence[WorkerResponse]]) -> list[bytes]:
        """Bytes for every job of the batch in its place: what `run` makes of the readable ones, and the refusals."""
        bodies = dict(self.refused)
        start = time.time()
        answers = run(list(self.jobs.values())) if self.jobs else []
        work = self._work(start, time.time())
        for place, answer in zip(self.jobs, answers, strict=True):
            self.context.set_response_content_type(place, MEDIA_TYPE)
            bodies[place] = replace(answer, work=work).to_bytes(self.card)
        return [bodies[place] for place in sorted(bodies)]

    def _work(self, start_seconds: float, end_seconds: float) -> WorkReport:
        traces = tuple(job.traceparent for job in self.jobs.values() if job.traceparent)
        return WorkReport(
            start_seconds, end_seconds, len(self.jobs), sum(map(len, self.jobs.values())), traces
        )


def row_ranges(lengths: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Where each job's rows lie, (start, stop), once all are in one array."""
    start = 0
    for length in lengths:
        yield start, start + length
        start += length
