"""A response that is stored: by a job until it is fetched, by an Idempotency-Key until it is asked
for again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import orjson
from starlette.responses import Response

# Each answer has its own of these.
OWN_HEADERS = ("content-length", "content-type", "x-request-id", "date", "server")


@dataclass(frozen=True)
class StoredResponse:
    """Status, media type, the headers that belong to it, and the body."""

    status: int
    media_type: str
    headers: Mapping[str, str]
    body: bytes

    @classmethod
    def from_response(cls, response: Response) -> Self:
        """The storable parts of a response."""
        headers = {
            name: value for name, value in response.headers.items() if name not in OWN_HEADERS
        }
        media_type = response.headers.get("content-type", "")
        return cls(response.status_code, media_type, headers, bytes(response.body))

    def to_response(self, **extra_headers: str) -> Response:
        """The response again, with `extra_headers`, whose names have _ for -."""
        added = {name.replace("_", "-"): value for name, value in extra_headers.items()}
        headers = {**self.headers, "Content-Type": self.media_type, **added}
        return Response(self.body, self.status, headers=headers)

    def to_bytes(self) -> bytes:
        """A line of JSON, then the body."""
        return orjson.dumps([self.status, self.media_type, dict(self.headers)]) + b"\n" + self.body

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Reads what `to_bytes` wrote."""
        head, _, body = content.partition(b"\n")
        status, media_type, headers = orjson.loads(head)
        return cls(status, media_type, headers, body)
