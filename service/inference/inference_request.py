"""A call: one operation asked for, read and checked, whatever form it came in. It is what is admitted, counted and run."""

import base64
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Self

import orjson
from fastapi import Request

from affect.archive import Operation
from service import schemas
from service.api.request_parsing import check_count, read_images, read_json
from service.inference.model_registry import ModelRegistry, Version
from service.inference.operations import Operations

Body = schemas.PredictBody | schemas.GenerateBody | schemas.ExplainBody
BODIES: dict[str, type[Body]] = {
    "predict": schemas.PredictBody,
    "generate": schemas.GenerateBody,
    "explain": schemas.ExplainBody,
}


@dataclass(frozen=True)
class InferenceRequest:
    """`body` is the JSON form of the request, with the pictures' bytes in it."""

    operation: Operation
    body: Body

    @property
    def image_count(self) -> int:
        """Pictures or items in it."""
        return len(
            self.body.items if isinstance(self.body, schemas.GenerateBody) else self.body.images
        )

    def serving_version(self, models: ModelRegistry) -> AbstractContextManager[Version]:
        """The version that answers, as long as it does. Raises Problem when there is no such model or version."""
        chosen, inside = self._chosen
        return models.serving(chosen.model, chosen.version, operation=self.operation, inside=inside)

    def check_version(self, models: ModelRegistry) -> Version:
        """The version that is to answer. Raises Problem when there is none such, or it does not know a label that is asked for."""
        chosen, inside = self._chosen
        version = models.choose(
            chosen.model, chosen.version, operation=self.operation, inside=inside
        )
        if isinstance(self.body, schemas.GenerateBody):
            version.operations.check_items(self.body)
        elif isinstance(self.body, schemas.ExplainBody):
            version.operations.check_question(self.body.options.question, self.body.options.family)
        return version

    @property
    def _chosen(
        self,
    ) -> tuple[schemas.GenerateBody | schemas.PredictOptions | schemas.ExplainOptions, str]:
        """Where the model is named, and what stands before its fields."""
        return (
            (self.body, "")
            if isinstance(self.body, schemas.GenerateBody)
            else (self.body.options, "options.")
        )

    def slice(self, start: int, stop: int) -> "InferenceRequest":
        """The same asked of pictures or items [start, stop) alone."""
        name = "items" if isinstance(self.body, schemas.GenerateBody) else "images"
        return InferenceRequest(
            self.operation,
            self.body.model_copy(update={name: getattr(self.body, name)[start:stop]}),
        )

    def to_bytes(self) -> bytes:
        """The call as JSON, its pictures in base64; the same calls give the same bytes."""
        told = [self.operation, self.body.model_dump(exclude_none=True)]
        return orjson.dumps(
            told,
            option=orjson.OPT_SORT_KEYS,
            default=lambda picture: base64.b64encode(picture).decode(),
        )

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Reads what `to_bytes` wrote."""
        operation, body = orjson.loads(content)
        return cls(operation, BODIES[operation].model_validate(body))

    async def run(self, operations: Operations, *, seconds: float) -> dict[str, Any]:
        """Its answer, as JSON. Raises Problem or BackendError."""
        body = self.body
        if isinstance(body, schemas.GenerateBody):
            return await operations.generate(body, seconds=seconds)
        contents = [image.content for image in body.images]
        if isinstance(body, schemas.PredictBody):
            return await operations.predict(contents, faces=body.options.faces, seconds=seconds)
        options = body.options
        return await operations.explain(
            contents,
            options.question,
            faces=options.which_faces,
            family=options.family,
            answers=options.answers,
            gradients=options.integrated_gradients,
            seconds=seconds,
        )


async def read_inference_request(
    request: Request, operation: Operation, *, max_images: int
) -> InferenceRequest:
    """Read a request's body: multipart form, JSON, or one raw picture. Raises Problem: 400, 413, 415 or 422."""
    if operation == "generate":
        body = await read_json(request, schemas.GenerateBody)
        check_count("items", len(body.items), max_images)
        return InferenceRequest(operation, body)
    if operation == "predict":
        read = await read_images(request, schemas.PredictBody, schemas.PredictOptions, max_images)
        return InferenceRequest(
            operation,
            schemas.PredictBody.model_construct(
                images=_contents(read.images), options=read.options
            ),
        )
    asked = await read_images(request, schemas.ExplainBody, schemas.ExplainOptions, max_images)
    return InferenceRequest(
        operation,
        schemas.ExplainBody.model_construct(images=_contents(asked.images), options=asked.options),
    )


def _contents(images: list[bytes]) -> list[schemas.ImageContent]:
    return [schemas.ImageContent.model_construct(content=image) for image in images]
