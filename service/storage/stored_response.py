"""A response that is kept: by a job until it is fetched, by an Idempotency-Key until the request comes again."""

from collections.abc import Mapping
from dataclasses import dataclass

import orjson
from starlette.responses import Response

OWN_HEADERS = (
    "content-length",
    "content-type",
    "x-request-id",
    "date",
    "server",
)  # of each answer anew


@dataclass(frozen=True)
class StoredResponse:
    """Status, media type, the headers that belong to it, and the body."""

    status: int
    media_type: str
    headers: Mapping[str, str]
    body: bytes

    @classmethod
    def from_response(cls, response: Response) -> "StoredResponse":
        """What of a response is worth keeping."""
        headers = {
            name: value for name, value in response.headers.items() if name not in OWN_HEADERS
        }
        return cls(
            response.status_code,
            response.headers.get("content-type", ""),
            headers,
            bytes(response.body),
        )

    def to_response(self, **more: str) -> Response:
        """The response again, with `more` headers."""
        headers = {
            **self.headers,
            "Content-Type": self.media_type,
            **{name.replace("_", "-"): value for name, value in more.items()},
        }
        return Response(self.body, self.status, headers=headers)

    def to_bytes(self) -> bytes:
        """A line of JSON, then the body."""
        return orjson.dumps([self.status, self.media_type, dict(self.headers)]) + b"\n" + self.body

    @classmethod
    def from_bytes(cls, content: bytes) -> "StoredResponse":
        """Reads what `to_bytes` wrote."""
        head, _, body = content.partition(b"\n")
        status, media_type, headers = orjson.loads(head)
        return cls(status, media_type, headers, body)
