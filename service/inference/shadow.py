"""Shadow traffic: copies of answered requests go to another version in the background. Its answers
are compared and discarded.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterator

from affect.answers import RowProblem
from affect.labels import AROUSAL, VALENCE
from service.backend.interface import BackendError
from service.inference.inference_request import InferenceRequest
from service.inference.model_registry import ModelRegistry, Version
from service.inference.results import GenerationResult, InferenceResult
from service.observability.metrics import Metrics
from service.problems import Problem
from service.schemas import GenerateBody

# In flight at a time; further copies are dropped and counted, so that none delays its original.
MOST_COPIES = 2
TIMEOUT_SECONDS = 30.0
log = logging.getLogger(__name__)


class ShadowTraffic:
    """The copies that one gateway sends."""

    def __init__(
        self, models: ModelRegistry, metrics: Metrics, *, draw: Callable[[], float] = random.random
    ) -> None:
        self.models, self.metrics, self._draw = models, metrics, draw
        self._copies: set[asyncio.Task[None]] = set()

    def send(self, request: InferenceRequest, served: Version, result: InferenceResult) -> None:
        """Send a copy to the model's shadow version, if it has one, in the background. `result` is
        what the client gets.
        """
        route = self.models.routes.get(served.name)
        if route is None or route.shadow is None or route.shadow.version == served.version:
            return
        if self._draw() >= route.shadow.share:
            return
        shadow = self.models.versions_of(served.name)[route.shadow.version]
        if len(self._copies) >= MOST_COPIES:
            self._count(request, shadow, "dropped")
            return
        copy = asyncio.create_task(self._compare(request, shadow, result))
        self._copies.add(copy)
        copy.add_done_callback(self._copies.discard)

    async def close(self) -> None:
        """Cancel copies in flight."""
        for copy in self._copies:
            copy.cancel()
        await asyncio.gather(*self._copies, return_exceptions=True)

    async def _compare(
        self, request: InferenceRequest, shadow: Version, result: InferenceResult
    ) -> None:
        same = _with_seeds(request, result)
        try:
            with self.models.serving(shadow.name, shadow.version):
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    other = await same.run(shadow.operations, seconds=TIMEOUT_SECONDS)
        except (BackendError, Problem, TimeoutError) as error:  # it may have other labels
            self._count(request, shadow, "error")
            log.warning("the shadow %s gave no answer: %s", shadow, type(error).__name__)
            return
        self._count(request, shadow, "ok")
        names = request.operation, shadow.name, shadow.version
        for label, difference, agree in differences(result, other):
            self.metrics.shadow_difference.labels(*names, label).observe(difference)
            if agree is not None:
                self.metrics.shadow_decisions.labels(*names, str(agree).lower()).inc()

    def _count(self, request: InferenceRequest, shadow: Version, outcome: str) -> None:
        names = request.operation, shadow.name, shadow.version, outcome
        self.metrics.shadows.labels(*names).inc()


def differences(
    first: InferenceResult, second: InferenceResult
) -> Iterator[tuple[str, float, bool | None]]:
    """For each label that both read off a face: its name, the absolute difference, and for an AU
    whether both decide the same.
    """
    for one, other in zip(first.rows, second.rows, strict=True):
        if isinstance(one, RowProblem) or isinstance(other, RowProblem):
            continue
        faces = zip(first.distinct_faces(one), second.distinct_faces(other), strict=False)
        for index, other_index in faces:
            yield from _differences_of_face(first, index, second, other_index)


def _differences_of_face(
    first: InferenceResult, index: int, second: InferenceResult, other_index: int
) -> Iterator[tuple[str, float, bool | None]]:
    kinds = {first.card.labels, second.card.labels}
    if "au" not in kinds:
        for column, label in enumerate((VALENCE, AROUSAL)):
            change = first.read.va[index, column] - second.read.va[other_index, column]
            yield label, abs(float(change)), None
    if "va" in kinds:
        return
    columns = {code: column for column, code in enumerate(second.card.vocabulary)}
    for column, code in enumerate(first.card.vocabulary):
        if code in columns:
            one, other = (index, column), (other_index, columns[code])
            change = first.read.probability[one] - second.read.probability[other]
            yield (
                code,
                abs(float(change)),
                bool(first.read.present[one] == second.read.present[other]),
            )


def _with_seeds(request: InferenceRequest, result: InferenceResult) -> InferenceRequest:
    """The request, and where seeds were drawn for it, with those seeds."""
    body = request.body
    if not isinstance(body, GenerateBody) or not isinstance(result, GenerationResult):
        return request
    items = [
        item
        if isinstance(row, RowProblem)
        else item.model_copy(update={"seed": int(result.seeds[row.start])})
        for item, row in zip(body.items, result.rows, strict=True)
    ]
    return InferenceRequest(request.operation, body.model_copy(update={"items": items}))
