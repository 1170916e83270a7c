"""The requests of one TorchServe batch: parsed together, answered or refused one by one."""

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
    """Requests by their place in the batch; `refused` are the bodies for those that are none."""

    context: Context
    card: ModelCard
    requests: dict[int, R]
    refused: dict[int, bytes]

    @classmethod
    def parse(
        cls, kind: type[R], data: Sequence[Mapping[str, Any]], context: Context, card: ModelCard
    ) -> Self:
        """Parse each body; one that is no such request, or not for this model, becomes a 400.

        Never raises.
        """
        requests, refused = {}, {}
        for index, row in enumerate(data):
            try:
                requests[index] = kind.from_bytes(row.get("body") or row.get("data") or b"", card)
            except ProtocolError as error:
                context.set_response_status(400, "Bad Request", index)
                context.set_response_content_type(index, "application/json")
                refused[index] = orjson.dumps(
                    {"field": error.field, "value": str(error.value), "remedy": error.remedy}
                )
        return cls(context, card, requests, refused)

    def respond(self, run: Callable[[list[R]], Sequence[WorkerResponse]]) -> list[bytes]:
        """Bytes for each place of the batch: what `run` makes of the requests, and the refusals."""
        bodies = dict(self.refused)
        start = time.time()
        responses = run(list(self.requests.values())) if self.requests else []
        work = self._report(start, time.time())
        for index, response in zip(self.requests, responses, strict=True):
            self.context.set_response_content_type(index, MEDIA_TYPE)
            bodies[index] = replace(response, work=work).to_bytes(self.card)
        return [bodies[index] for index in sorted(bodies)]

    def _report(self, start_seconds: float, end_seconds: float) -> WorkReport:
        requests = self.requests.values()
        traces = tuple(request.traceparent for request in requests if request.traceparent)
        rows = sum(map(len, requests))
        return WorkReport(start_seconds, end_seconds, len(requests), rows, traces)


def row_ranges(lengths: Iterable[int]) -> Iterator[slice]:
    """Where the rows of each request lie, once all are in one array."""
    start = 0
    for length in lengths:
        yield slice(start, start + length)
        start += length
