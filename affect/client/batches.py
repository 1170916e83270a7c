"""Pictures to requests: batches by number and by bytes, each a multipart form; what cannot be
opened fails alone.
"""

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from affect.answers import RowProblem
from affect.images import ImageError
from affect.inputs import InputPicture, Pictures, expand

BATCH_IMAGES = 16
BATCH_BYTES = 16 * 2**20  # a gateway takes 64 MiB unless set otherwise


@dataclass(frozen=True)
class Loaded:
    """One picture with its place among all: its bytes, or why there are none."""

    index: int
    name: str
    content: bytes | RowProblem


async def batches(
    pictures: Pictures, *, most_images: int, most_bytes: int
) -> AsyncIterator[list[Loaded]]:
    """Pictures in order, as many together as both limits allow; one that is larger goes alone."""
    batch, size = list[Loaded](), 0
    for index, picture in enumerate(expand(pictures)):
        loaded = await asyncio.to_thread(_load, index, picture)
        length = len(loaded.content) if isinstance(loaded.content, bytes) else 0
        if batch and (len(batch) == most_images or size + length > most_bytes):
            yield batch
            batch, size = [], 0
        batch.append(loaded)
        size += length
    if batch:
        yield batch


def _load(index: int, picture: InputPicture) -> Loaded:
    try:
        return Loaded(index, picture.name, picture.content())
    except ImageError as error:
        return Loaded(index, picture.name, row_problem(error.code, error.title, error.detail))


async def packed(pictures: Pictures) -> list[dict[str, str]]:
    """Pictures as JSON carries them. Raises ImageError for one that cannot be opened."""
    contents = [await asyncio.to_thread(one.content) for one in expand(pictures)]
    return [{"content": base64.b64encode(content).decode()} for content in contents]


def row_problem(code: str, title: str, detail: str, status: int = 422) -> RowProblem:
    """Why one picture has no answer."""
    kind = f"urn:affectgan:problem:{code}"
    return RowProblem(type=kind, title=title, status=status, detail=detail, code=code)


def form(contents: Sequence[bytes], options: Mapping[str, Any]) -> tuple[bytes, dict[str, str]]:
    """A multipart body of pictures and options, and its headers. One block of bytes: it may have to
    be sent again.
    """
    edge = secrets.token_hex(16)
    parts = [_part(edge, 'name="options"', "application/json", orjson.dumps(options))]
    parts += [
        _part(edge, f'name="images"; filename="{number}"', "application/octet-stream", content)
        for number, content in enumerate(contents)
    ]
    body = b"".join([*parts, f"--{edge}--\r\n".encode()])
    return body, {"Content-Type": f"multipart/form-data; boundary={edge}"}


def _part(edge: str, disposition: str, kind: str, content: bytes) -> bytes:
    head = (
        f"--{edge}\r\nContent-Disposition: form-data; {disposition}\r\nContent-Type: {kind}\r\n\r\n"
    )
    return head.encode() + content + b"\r\n"
