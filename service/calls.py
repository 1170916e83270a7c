"""A call: one operation asked for, read and checked, whatever form it came in. It is what is admitted, counted and run."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from fastapi import Request

from affect.archive import Operation
from service import schemas
from service.intake import check_count, read_images, read_json
from service.operations import Operations
from service.versions import Models, Version

Body = schemas.PredictBody | schemas.GenerateBody | schemas.ExplainBody


@dataclass(frozen=True)
class Call:
    """`body` is the JSON form of the request, with the pictures' bytes in it."""

    operation: Operation
    body: Body

    @property
    def pictures(self) -> int:
        """Pictures or items in it."""
        return len(self.body.items if isinstance(self.body, schemas.GenerateBody) else self.body.images)

    def served(self, models: Models) -> AbstractContextManager[Version]:
        """The version that answers, as long as it does. Raises Problem or BackendBroken."""
        body = self.body
        if isinstance(body, schemas.GenerateBody):
            return models.serving(body.model, body.version, operation=self.operation)
        return models.serving(body.options.model, body.options.version, operation=self.operation, inside="options.")

    async def run(self, operations: Operations, *, seconds: float) -> dict[str, Any]:
        """Its answer, as JSON. Raises Problem or BackendError."""
        body = self.body
        if isinstance(body, schemas.GenerateBody):
            return await operations.generate(body, seconds=seconds)
        contents = [image.content for image in body.images]
        if isinstance(body, schemas.PredictBody):
            return await operations.predict(contents, faces=body.options.faces, seconds=seconds)
        return await operations.explain(contents, body.options.question, faces=body.options.faces, seconds=seconds)


async def read_call(request: Request, operation: Operation, *, max_images: int) -> Call:
    """Read a request's body: multipart form, JSON, or one raw picture. Raises Problem: 400, 413, 415 or 422."""
    if operation == "generate":
        body = await read_json(request, schemas.GenerateBody)
        check_count("items", len(body.items), max_images)
        return Call(operation, body)
    if operation == "predict":
        read = await read_images(request, schemas.PredictBody, schemas.PredictOptions, max_images)
        return Call(operation, schemas.PredictBody.model_construct(images=_contents(read.images), options=read.options))
    asked = await read_images(request, schemas.ExplainBody, schemas.ExplainOptions, max_images)
    return Call(operation, schemas.ExplainBody.model_construct(images=_contents(asked.images), options=asked.options))


def _contents(images: list[bytes]) -> list[schemas.ImageContent]:
    return [schemas.ImageContent.model_construct(content=image) for image in images]
