"""Several versions behind one gateway: who answers, and how one takes another's place."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from service.inference.model_registry import POLL_SECONDS, ModelRegistry
from service.inference.routing import Route, Routing, RoutingError, Shadow
from service.problems import Problem
from service.settings import Settings
from tests.support.gateway import Gateway, open_gateway, serve
from tests.support.pictures import CROPS, FACE, encoded, packed


@pytest.fixture(scope="module")
def two() -> Iterator[Gateway]:
    yield from serve(Settings(), "1.0", "1.1")


def answering_version(gateway: Gateway, path: str = "/v1/predict", **chosen: str) -> str:
    if path == "/v1/generate":
        reply = gateway.post(path, {"items": [{"seed": 1}], **chosen})
    else:
        reply = gateway.post(path, {"images": packed(encoded(FACE)), "options": CROPS | chosen})
    assert reply.status == 200, reply.body
    return str(reply.json["model"]["version"])


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/generate", "/v1/explain"])
def test_a_request_may_name_the_version_that_answers(two: Gateway, path: str) -> None:
    assert answering_version(two, path) == "1.0"
    assert answering_version(two, path, version="1.1") == "1.1"
    assert answering_version(two, path, model="affectgan", version="1.0") == "1.0"


def test_versions_that_are_not_there_are_refused_by_name(two: Gateway) -> None:
    reply = two.post(
        "/v1/predict", {"images": packed(encoded(FACE)), "options": {"version": "2.0"}}
    )
    assert (
        reply.status == 422
        and "options.version is 2.0: affectgan has no such version; there is '1.0', '1.1'"
        in reply.json["detail"]
    )
    reply = two.post("/v1/generate", {"items": [{}], "model": "other"})
    assert reply.status == 422 and reply.json["errors"][0]["field"] == "model"


def test_every_version_is_listed_with_its_part(two: Gateway) -> None:
    listed = two.get("/v1/models").json["models"]
    assert [(model["version"], model["default"], model["share"]) for model in listed] == [
        ("1.0", True, 1.0),
        ("1.1", False, 0.0),
    ]
    assert listed[0]["digest"] != listed[1]["digest"]


def test_each_version_has_its_card(two: Gateway) -> None:
    for path in ("/v1/models/affectgan?version=1.1", "/v1/models/affectgan/versions/1.1"):
        assert two.get(path).json["version"] == "1.1"
    assert two.get("/v1/models/affectgan").json["version"] == "1.0"
    assert two.get("/v1/models/affectgan/versions/9").status == 404


def test_metrics_tell_versions_apart(two: Gateway) -> None:
    answering_version(two, version="1.1")
    text = two.get("/metrics").body.decode()
    assert (
        'affectgan_backend_seconds_count{model="affectgan",operation="predict",outcome="ok",'
        'version="1.1"}' in text
    )
    assert (
        'affectgan_model_info{digest="' in text
        and 'affectgan_version_share{model="affectgan",version="1.0"} 1.0' in text
    )


def test_a_canary_gets_its_share() -> None:
    route = Route(default="1.0", weights={"1.0": 3, "1.1": 1})
    with open_gateway(Settings(), "1.0", "1.1", routing=Routing({"affectgan": route})) as gateway:
        models: ModelRegistry = gateway.state.models
        models._draw = np.random.default_rng(0).random
        counts = Counter(models.choose().version for _ in range(4000))
        assert counts["1.1"] / 4000 == pytest.approx(0.25, abs=0.03)
        assert {answering_version(gateway) for _ in range(20)} == {"1.0", "1.1"}


def test_routes_to_versions_that_are_not_open_are_refused(two: Gateway) -> None:
    models: ModelRegistry = two.state.models
    with pytest.raises(RoutingError, match=r"has no version '3\.0'; there is '1\.0', '1\.1'"):
        models.route("affectgan", Route(default="1.0", shadow=Shadow(version="3.0")))
    with pytest.raises(RoutingError, match="make another the default"):
        asyncio.run(models.drain_and_remove("affectgan", "1.0"))


def test_a_version_is_removed_when_its_last_answer_is_given() -> None:
    with open_gateway(Settings(), "1.0", "1.1") as gateway:
        models: ModelRegistry = gateway.state.models

        async def swap() -> None:
            with models.serving():
                models.route("affectgan", Route(default="1.1"))
                removal = asyncio.create_task(models.drain_and_remove("affectgan", "1.0"))
                await asyncio.sleep(0)
                with pytest.raises(Problem):
                    models.choose(version="1.0")
                assert models.choose().version == "1.1"
                await asyncio.sleep(3 * POLL_SECONDS)
                assert not removal.done()
            await removal

        asyncio.run(swap())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("affectgan: {default: 1.0}", "versions in quotes"),
        ("affectgan: {default: '1.0', weight: {}}", "affectgan.weight"),
        ("affectgan: {default: '1.0', weights: {'1.0': 0}}", "all 0"),
        ("affectgan: {default: '1.0', weights: {'1.0': .inf}}", "finite"),
        ("a: [", "not YAML"),
    ],
)
def test_a_wrong_routing_file_is_refused_with_what_is_wrong(
    tmp_path: Path, text: str, words: str
) -> None:
    file = tmp_path / "routing.yaml"
    file.write_text(text)
    with pytest.raises(RoutingError, match=words):
        Routing.load(file)
