"""A shadow is asked the same, compared, and seen by nobody."""

from collections.abc import Iterator
from typing import Any

import pytest

from service.inference.routing import Route, Routing, Shadow
from service.settings import Settings
from tests.support.gateway import Gateway, serve
from tests.support.pictures import PREDICT_BODY
from tests.support.waiting import until


@pytest.fixture
def shadowed() -> Iterator[Gateway]:
    yield from serve(
        Settings(),
        "1.0",
        "1.1",
        routing=Routing({"affectgan": Route(default="1.0", shadow=Shadow(version="1.1"))}),
    )


REQUESTS = "affectgan_shadow_requests_total"


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("predict", PREDICT_BODY),
        ("generate", {"items": [{"aus": {"AU12": 0.9}}]}),
        ("explain", PREDICT_BODY),
    ],
)
def test_the_shadow_is_compared_and_the_client_sees_the_default(
    shadowed: Gateway, operation: str, body: dict[str, Any]
) -> None:
    assert shadowed.post(f"/v1/{operation}", body).json["model"]["version"] == "1.0"
    labels = f'model="affectgan",operation="{operation}",outcome="ok",version="1.1"'
    until(lambda: shadowed.metric(f"{REQUESTS}{{{labels}}}") == 1)
    # 8 AUs, valence and arousal of one face; the same weights, and the same seed.
    assert shadowed.metric("affectgan_shadow_difference_count") == 10
    assert shadowed.metric("affectgan_shadow_difference_sum") == 0
    assert shadowed.metric('affectgan_shadow_decisions_total{agree="true"') == 8


def test_a_shadow_that_is_slow_or_down_costs_its_client_nothing(shadowed: Gateway) -> None:
    shadowed.backends[1].delay_seconds = 60.0
    for _ in range(4):
        assert shadowed.post("/v1/predict", PREDICT_BODY).status == 200
    until(lambda: shadowed.metric(REQUESTS) == 2)  # two under way, two dropped
