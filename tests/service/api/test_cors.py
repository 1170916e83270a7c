"""Pages of other origins may ask only when the operator has named them."""

from collections.abc import Iterator

import pytest

from service.settings import Settings
from tests.support.gateway import Gateway, serve

FRIEND = "https://app.example"


@pytest.fixture(scope="module")
def friendly() -> Iterator[Gateway]:
    yield from serve(Settings(cors_origins=(FRIEND,)))


def test_no_other_origin_may_by_default(gateway: Gateway) -> None:
    reply = gateway.get("/v1/models", Origin=FRIEND)
    assert "Access-Control-Allow-Origin" not in reply.headers


def test_a_named_origin_may_and_another_may_not(friendly: Gateway) -> None:
    allowed = friendly.get("/v1/models", Origin=FRIEND).headers
    assert allowed["Access-Control-Allow-Origin"] == FRIEND
    assert "Retry-After" in allowed["Access-Control-Expose-Headers"]
    assert "Access-Control-Allow-Credentials" not in allowed
    other = friendly.get("/v1/models", Origin="https://other.example").headers
    assert "Access-Control-Allow-Origin" not in other


def test_a_refusal_can_be_read_by_the_page_too(friendly: Gateway) -> None:
    reply = friendly.post("/v1/predict", {"images": []}, Origin=FRIEND)
    assert reply.status == 422 and reply.headers["Access-Control-Allow-Origin"] == FRIEND


@pytest.mark.parametrize("origin", ["*", "https://a.example/path", "https://a.example; img-src *"])
def test_what_is_no_origin_is_refused_when_the_gateway_starts(origin: str) -> None:
    with pytest.raises(ValueError, match="https://host"):
        Settings(cors_origins=(origin,))
