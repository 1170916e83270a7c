"""One requested operation, parsed and checked, independent of its protocol. It is what is admitted,
counted and run.
"""

import base64
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Self

import orjson

from affect.archive import Operation
from service.inference.model_registry import ModelRegistry, Version
from service.inference.operations import Operations
from service.inference.requested_labels import check_explain_options, label_rows
from service.inference.results import InferenceResult
from service.schemas import (
    ExplainBody,
    ExplainOptions,
    GenerateBody,
    NotBase64,
    PredictBody,
    PredictOptions,
)

Body = PredictBody | GenerateBody | ExplainBody
BODIES: dict[Operation, type[Body]] = {
    "predict": PredictBody,
    "generate": GenerateBody,
    "explain": ExplainBody,
}


@dataclass(frozen=True)
class InferenceRequest:
    """`body` is the JSON form of the request, with the pictures' bytes in it."""

    operation: Operation
    body: Body

    @property
    def image_count(self) -> int:
        """Pictures or items in it."""
        body = self.body
        return len(body.items if isinstance(body, GenerateBody) else body.images)

    def serving_version(self, models: ModelRegistry) -> AbstractContextManager[Version]:
        """The version that answers, as long as it does. Raises Problem when there is no such model
        or version.
        """
        chosen, prefix = self._choice
        return models.serving(chosen.model, chosen.version, operation=self.operation, prefix=prefix)

    def check_version(self, models: ModelRegistry) -> Version:
        """The version that is to answer. Raises Problem when there is none such, or it does not
        know a label that is asked for.
        """
        chosen, prefix = self._choice
        version = models.choose(
            chosen.model, chosen.version, operation=self.operation, prefix=prefix
        )
        if isinstance(self.body, GenerateBody):
            label_rows(version.card, self.body.items)
        elif isinstance(self.body, ExplainBody):
            check_explain_options(version.card, self.body.options)
        return version

    @property
    def _choice(self) -> tuple[GenerateBody | PredictOptions | ExplainOptions, str]:
        """The options that name the model, and the prefix of their fields."""
        body = self.body
        return (body, "") if isinstance(body, GenerateBody) else (body.options, "options.")

    def slice(self, start: int, stop: int) -> "InferenceRequest":
        """The same request for pictures or items [start, stop) alone."""
        name = "items" if isinstance(self.body, GenerateBody) else "images"
        part = {name: getattr(self.body, name)[start:stop]}
        return InferenceRequest(self.operation, self.body.model_copy(update=part))

    def to_bytes(self) -> bytes:
        """The request as JSON, its pictures in base64; the same requests give the same bytes."""
        values = [self.operation, self.body.model_dump(exclude_none=True)]
        return orjson.dumps(
            values,
            option=orjson.OPT_SORT_KEYS,
            default=as_base64,
        )

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Reads what `to_bytes` wrote."""
        operation, body = orjson.loads(content)
        return cls(operation, BODIES[operation].model_validate(body))

    async def run(self, operations: Operations, *, seconds: float) -> InferenceResult:
        """Its result. Raises Problem or BackendError."""
        body = self.body
        if isinstance(body, GenerateBody):
            return await operations.generate(body, seconds=seconds)
        images = [image.content for image in body.images]
        if isinstance(body, PredictBody):
            return await operations.predict(images, body.options, seconds=seconds)
        return await operations.explain(images, body.options, seconds=seconds)


def as_base64(picture: bytes) -> str:
    """A picture as JSON has it; a text that was no base64 as it was."""
    return picture.text if isinstance(picture, NotBase64) else base64.b64encode(picture).decode()
