"""What a client would rather have is what it gets."""

import pytest

from service.api.accept import preferred
from tests.support.gateway import Gateway

JSON, PNG, WEBP = "application/json", "image/png", "image/webp"


@pytest.mark.parametrize(
    ("accept", "best"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("image/*", PNG),
        ("image/webp", WEBP),
        ("image/webp, image/*;q=0.8", WEBP),
        ("application/json;q=0.5, image/png", PNG),
        ("application/json, image/png", JSON),
        ("image/png;q=0.3, application/json;q=0.7", JSON),
        ("image/png;q=0, image/*", WEBP),
        ("IMAGE/PNG ; Q=1.0", PNG),
        ("image/*;q=0.5, */*;q=0.1", PNG),
        ("text/html, image/avif, image/webp, */*;q=0.8", WEBP),
        ("text/plain", None),
        ("image/png;q=high", JSON),
        ("nonsense,,;;q", JSON),
    ],
)
def test_quality_and_exactness_decide(accept: str, best: str | None) -> None:
    assert preferred(accept, [JSON, PNG, WEBP]) == best


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("image/*", "image/webp"),
        ("application/json;q=0.1, image/jpeg", "image/jpeg"),
        ("image/png;q=0.2, */*;q=0.9", JSON),
        ("text/plain", JSON),
    ],
)
def test_one_item_comes_as_the_client_likes_it_best(
    gateway: Gateway, accept: str, kind: str
) -> None:
    body = {"items": [{"seed": 1}], "format": "webp"}
    reply = gateway.post("/v1/generate", body, Accept=accept)
    assert reply.status == 200 and reply.headers["Content-Type"] == kind
