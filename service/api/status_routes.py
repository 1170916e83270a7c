"""What is served and whether it works: models and their cards, health, readiness, metrics."""

from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import PlainTextResponse, Response

from affect import answers
from affect.card import ModelCard
from service.api.json_answers import json_response
from service.api.parameters import ModelName, OptionalVersion, VersionPath
from service.api.state import ApiRequest, AppState
from service.inference.model_registry import Version
from service.problems import Problem, openapi_response

router = APIRouter()
NOT_SERVED: dict[int | str, dict[str, Any]] = {404: openapi_response("No such model or version")}


def as_json(value: Any, status: int = 200) -> Response:
    """Any plain value as a JSON response."""
    return json_response(orjson.dumps(value), status)


def is_ready(state: AppState, versions: Mapping[Version, Mapping[str, bool]]) -> bool:
    """Whether some operation of the default version has a worker that is ready, and the gateway is
    not shutting down.

    One that has none is refused by its breaker. If it alone made the gateway unready, whatever
    kills its workers everywhere would take the other operations with it.
    """
    operations = versions[state["models"].default].values()
    return any(operations) and state["jobs"].is_working and not state["admission"].draining


@router.get(
    "/v1/models",
    tags=["models"],
    summary="Models that are served",
    response_model=answers.ModelList,
)
async def list_models(request: ApiRequest) -> Response:
    """Every version: whether it is its model's default, and its share of the requests that name no
    version.
    """
    return as_json({"models": request.state["models"].summaries()})


@router.get(
    "/v1/models/{name}",
    tags=["models"],
    summary="The card of a model",
    response_model=ModelCard,
    responses=NOT_SERVED,
)
async def get_model(
    request: ApiRequest, name: ModelName, version: OptionalVersion = None
) -> Response:
    """Vocabulary, thresholds, measured quality, data, limits: of the default version, or of the one
    asked for.
    """
    card = request.state["models"].find(name, version).card
    return json_response(card.model_dump_json().encode())


@router.get(
    "/v1/models/{name}/versions/{version}",
    tags=["models"],
    summary="The card of a version",
    response_model=ModelCard,
    responses=NOT_SERVED,
)
async def get_model_version(request: ApiRequest, name: ModelName, version: VersionPath) -> Response:
    """The same, of one version."""
    return await get_model(request, name, version)


@router.get(
    "/healthz", tags=["operators"], summary="The process lives", response_model=answers.Health
)
async def health() -> Response:
    """Always 200 while the event loop turns."""
    return as_json({"status": "ok"})


@router.get(
    "/readyz",
    tags=["operators"],
    summary="Requests would be served",
    response_model=answers.Readiness,
    responses={503: {"description": "Not now", "model": answers.Readiness}},
)
async def readiness(request: ApiRequest) -> Response:
    """200 when an operation of the default version has a worker that is ready and the gateway is
    not shutting down. `operations` says which.
    """
    state = request.state
    versions = await state["models"].ready()
    ready = is_ready(state, versions)
    document = {
        "ready": ready,
        "draining": state["admission"].draining,
        "operations": versions[state["models"].default],
        "versions": [
            {"name": version.name, "version": version.version, "operations": operations}
            for version, operations in versions.items()
        ],
    }
    return as_json(document, 200 if ready else 503)


@router.get(
    "/metrics", tags=["operators"], summary="Prometheus metrics", response_class=PlainTextResponse
)
async def metrics(request: ApiRequest) -> Response:
    """Text format. Not here (404) when the settings give it a port of its own."""
    if request.state["settings"].metrics_port is not None:
        raise Problem("not_found", "metrics have a port of their own here")
    text = generate_latest(request.state["metrics"].registry)
    return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})
