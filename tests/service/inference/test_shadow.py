"""A shadow is asked the same, compared, and seen by nobody."""

from collections.abc import Iterator

import pytest

from service.inference.routing import Route, Routing, Shadow
from service.settings import Settings
from tests.support.gateway import Gateway, serve
from tests.support.pictures import CROPS, FACE, encoded, packed
from tests.support.waiting import until


@pytest.fixture
def shadowed() -> Iterator[Gateway]:
    yield from serve(
        Settings(),
        "1.0",
        "1.1",
        routing=Routing({"affectgan": Route(default="1.0", shadow=Shadow(version="1.1"))}),
    )


def count(gateway: Gateway, metric: str) -> float:
    """Sum of a metric's samples whose line begins so."""
    lines = gateway.get("/metrics").body.decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(metric))


def test_the_shadow_is_compared_and_the_client_sees_the_default(shadowed: Gateway) -> None:
    for path, body in (
        ("/v1/predict", {"images": packed(encoded(FACE)), "options": CROPS}),
        ("/v1/generate", {"items": [{"aus": {"AU12": 0.9}}]}),
        ("/v1/explain", {"images": packed(encoded(FACE)), "options": CROPS}),
    ):
        assert shadowed.post(path, body).json["model"]["version"] == "1.0"
        labels = (
            f'model="affectgan",operation="{path.removeprefix("/v1/")}",outcome="ok",version="1.1"'
        )
        until(
            lambda labels=labels: (
                count(shadowed, f"affectgan_shadow_requests_total{{{labels}}}") == 1
            )
        )
    assert (
        count(shadowed, "affectgan_shadow_difference_count") == 30
    )  # 8 AUs, valence and arousal, of one face each
    assert (
        count(shadowed, "affectgan_shadow_difference_sum") == 0
    )  # the same weights, and the same seed
    assert count(shadowed, 'affectgan_shadow_decisions_total{agree="true"') == 24


def test_a_shadow_that_is_slow_or_down_costs_its_client_nothing(shadowed: Gateway) -> None:
    shadowed.backends[1].delay_seconds = 30.0
    for _ in range(4):
        assert (
            shadowed.post("/v1/predict", {"images": packed(encoded(FACE)), "options": CROPS}).status
            == 200
        )
    until(
        lambda: count(shadowed, "affectgan_shadow_requests_total") == 2
    )  # two under way, two dropped
