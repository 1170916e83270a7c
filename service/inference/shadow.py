"""ShadowTraffic: copies of answered requests go to another version in the background. Its answers are compared and measured; nobody sees them."""

import asyncio
import logging
import random
from collections.abc import Callable, Iterator
from typing import Any

from affect.labels import AROUSAL, VALENCE
from service import schemas
from service.backend.interface import BackendError
from service.inference.inference_request import InferenceRequest
from service.inference.model_registry import ModelRegistry, Version
from service.observability.metrics import Metrics
from service.problems import Problem

MOST = 2  # shadows under way at a time; a copy that finds no place is dropped and counted, so that a shadow never slows its original
SECONDS = 30.0
Json = dict[str, Any]
log = logging.getLogger(__name__)


class ShadowTraffic:
    """The shadows of one gateway."""

    def __init__(
        self, models: ModelRegistry, metrics: Metrics, *, draw: Callable[[], float] = random.random
    ) -> None:
        self.models, self.metrics, self._draw = models, metrics, draw
        self._tasks: set[asyncio.Task[None]] = set()

    def cast(self, call: InferenceRequest, served: Version, answer: Json) -> None:
        """Ask the model's shadow the same, if it has one, in the background. `answer` is what the client gets."""
        route = self.models.routes.get(served.name)
        if (
            route is None
            or route.shadow is None
            or route.shadow.version == served.version
            or self._draw() >= route.shadow.share
        ):
            return
        shadow = self.models.versions_of(served.name)[route.shadow.version]
        if len(self._tasks) >= MOST:
            self._count(call, shadow, "dropped")
            return
        task = asyncio.create_task(self._compare(call, shadow, answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Drop those under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _compare(self, call: InferenceRequest, shadow: Version, answer: Json) -> None:
        try:
            with self.models.serving(shadow.name, shadow.version):
                async with asyncio.timeout(SECONDS):
                    second = await _same(call, answer).run(shadow.operations, seconds=SECONDS)
        except (
            BackendError,
            Problem,
            TimeoutError,
        ) as error:  # a shadow may know other labels than the version that answered
            self._count(call, shadow, "error")
            log.warning("the shadow %s gave no answer: %s", shadow, type(error).__name__)
            return
        self._count(call, shadow, "ok")
        names = call.operation, shadow.name, shadow.version
        for label, difference, agree in differences(answer, second):
            self.metrics.shadow_difference.labels(*names, label).observe(difference)
            if agree is not None:
                self.metrics.shadow_decisions.labels(*names, str(agree).lower()).inc()

    def _count(self, call: InferenceRequest, shadow: Version, outcome: str) -> None:
        self.metrics.shadows.labels(call.operation, shadow.name, shadow.version, outcome).inc()


def differences(first: Json, second: Json) -> Iterator[tuple[str, float, bool | None]]:
    """For each label that both read off a face: its name, the absolute difference, and for an AU whether both decide the same."""
    for one, other in zip(first["results"], second["results"], strict=True):
        for mine, theirs in zip(_readings(one), _readings(other), strict=False):
            for label in (VALENCE, AROUSAL):
                if label in mine and label in theirs:
                    yield label, abs(mine[label] - theirs[label]), None
            for code, au in mine.get("aus", {}).items():
                if code in theirs.get("aus", {}):
                    two = theirs["aus"][code]
                    yield (
                        code,
                        abs(au["probability"] - two["probability"]),
                        au["present"] == two["present"],
                    )


def _readings(result: Json) -> list[Json]:
    """What was read: off the faces of a picture, off a drawn face, off a face that was explained."""
    if result["status"] != "ok":
        return []
    return (
        list(result["faces"])
        if "faces" in result
        else [result.get("measured") or result["factual"]]
    )


def _same(call: InferenceRequest, answer: Json) -> InferenceRequest:
    """The call, and where seeds were drawn for it, with those seeds."""
    body = call.body
    if not isinstance(body, schemas.GenerateBody):
        return call
    items = [
        item.model_copy(update={"seed": result.get("seed", item.seed)})
        for item, result in zip(body.items, answer["results"], strict=True)
    ]
    return InferenceRequest(call.operation, body.model_copy(update={"items": items}))
