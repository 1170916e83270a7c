"""The gateway: `create_app(settings, backends=[...])`. A route validates, calls, returns."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypedDict

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response

from affect import __version__, answers
from affect.card import ModelCard
from affect.faces import FaceFinder
from service import problems
from service.access.api_keys import api_keys_from_settings
from service.access.authentication import Authenticator, Quota
from service.access.jwt_auth import jwt_from_settings
from service.access.rate_limits import RateLimiter
from service.api import job_routes, open_inference
from service.api.idempotency import Idempotency
from service.api.middleware import RequestMiddleware
from service.api.openapi_extras import complete
from service.api.page import add_page
from service.api.pipeline import PICTURE_TYPES, answer, as_json
from service.backend.interface import Backend, BackendError
from service.inference.admission import DEADLINE_HEADER, Admission
from service.inference.model_registry import ModelRegistry
from service.inference.preprocessing import Preprocessor
from service.inference.response_cache import ResponseCache
from service.inference.routing import NO_ROUTING, Routing
from service.inference.shadow import ShadowTraffic
from service.jobs.background import background_from_settings
from service.jobs.jobs import JobQueue
from service.jobs.webhooks import Webhooks
from service.observability.metrics import Metrics, metrics_server
from service.observability.tracing import Tracing, tracing_from_settings
from service.problems import Problem
from service.settings import Settings
from service.storage.redis import redis_from_settings


class AppState(TypedDict):
    """What lives as long as the app."""

    settings: Settings
    metrics: Metrics
    access: Authenticator
    quotas: RateLimiter
    cache: ResponseCache
    admission: Admission
    models: ModelRegistry
    shadows: ShadowTraffic
    jobs: JobQueue
    webhooks: Webhooks
    idempotency: Idempotency


def create_app(
    settings: Settings,
    *,
    backends: Sequence[Backend],
    routing: Routing = NO_ROUTING,
    metrics: Metrics | None = None,
    tracing: Tracing | None = None,
) -> FastAPI:
    """The app around backends that are open already, one for each version, the default first. They are asked for their cards when the
    app starts; `app.state.models` then takes more, and lets them go."""
    metrics = metrics or Metrics()
    admission = Admission(settings, metrics)
    tracing = tracing or tracing_from_settings(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[AppState]:
        finder = FaceFinder(yunet=settings.yunet)
        pictures = Preprocessor(
            metrics, threads=settings.decode_threads, max_pixels=settings.max_pixels, finder=finder
        )
        models = app.state.models = ModelRegistry(pictures, metrics)
        for backend in backends:
            await models.add(backend)
        models.follow(routing)
        shadows = ShadowTraffic(models, metrics)
        access = Authenticator(
            metrics,
            *(
                kind
                for kind in (api_keys_from_settings(settings), jwt_from_settings(settings))
                if kind
            ),
        )
        redis = redis_from_settings(settings, metrics)
        quotas = RateLimiter(
            Quota(settings.quota_requests, settings.quota_images, settings.quota_seconds),
            metrics,
            redis,
        )
        cache = ResponseCache(settings, metrics, redis)
        async with AsyncExitStack() as stack:
            stack.enter_context(metrics_server(metrics, settings))
            later = await stack.enter_async_context(
                background_from_settings(settings, admission, models, metrics)
            )
            app.state.jobs = later.jobs
            yield AppState(
                settings=settings,
                metrics=metrics,
                access=access,
                quotas=quotas,
                cache=cache,
                admission=admission,
                models=models,
                shadows=shadows,
                jobs=later.jobs,
                webhooks=later.webhooks,
                idempotency=later.idempotency,
            )
        await shadows.close()
        await cache.close()
        if redis:
            await redis.close()
        pictures.close()
        tracing.close()

    app = FastAPI(
        title="AffectGAN",
        version=__version__,
        description="Reads faces (Action Units, valence, arousal), draws faces, and explains readings by counterfactuals.",
        lifespan=lifespan,
        docs_url=None,  # both load their scripts from elsewhere; add_page has our own
        redoc_url=None,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    app.state.admission = admission
    described = app.openapi
    app.openapi = lambda: app.openapi_schema if app.openapi_schema else complete(described())  # type: ignore[method-assign]
    app.include_router(router)
    app.include_router(job_routes.router)
    app.include_router(open_inference.router)
    add_page(app)
    app.add_exception_handler(Problem, problems.on_problem)
    app.add_exception_handler(BackendError, problems.on_backend)
    app.add_exception_handler(RequestValidationError, problems.on_validation)
    app.add_exception_handler(HTTPException, problems.on_http)
    app.add_exception_handler(Exception, problems.on_unhandled)
    app.add_middleware(
        RequestMiddleware, metrics=metrics, tracing=tracing, max_body_bytes=settings.max_body_bytes
    )
    return app


router = APIRouter()
_TEXT = {"schema": {"type": "string"}}
LIMITS = {
    "RateLimit-Policy": {
        "description": "Your quotas: amount and seconds",
        "example": '"requests";q=100;w=60',
        **_TEXT,
    },
    "RateLimit": {
        "description": "What is left, and seconds until all of it is there again",
        "example": '"requests";r=42;t=18',
        **_TEXT,
    },
}
KNOWN = {
    "ETag": {
        "description": "Of an answer that the same request would get again; send it as If-None-Match",
        **_TEXT,
    },
    "Cache-Status": {
        "description": "RFC 9211: hit, or why the model was asked",
        "example": "AffectGAN; hit",
        **_TEXT,
    },
}
NOT_MODIFIED: dict[int | str, dict[str, Any]] = {
    304: {
        "description": "The answer is the one that If-None-Match names",
        "headers": LIMITS | KNOWN,
    }
}
_WAIT = {"Retry-After": {"description": "Seconds", "schema": {"type": "integer", "minimum": 1}}}
_REFUSAL_HEADERS: dict[int, dict[str, Any]] = {
    401: {"WWW-Authenticate": _TEXT},
    403: {"WWW-Authenticate": {"description": "Names the scope that is missing", **_TEXT}},
    429: _WAIT | LIMITS,
    503: _WAIT,
}
_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": text,
        "content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemBody"}}},
        **({"headers": _REFUSAL_HEADERS[status]} if status in _REFUSAL_HEADERS else {}),
    }
    for status, text in {
        400: "Malformed",
        401: "No credential, or none that is valid; see WWW-Authenticate",
        403: "The credential lacks the scope of this operation",
        413: "Too large or too many",
        415: "Not a type that is taken",
        422: "Wrong values: field, value and what would do",
        429: "The caller's quota is used up; see Retry-After and RateLimit",
        503: "Overloaded, shutting down or no worker; see Retry-After",
        504: "Not done within the deadline",
    }.items()
}


def _body(json_model: str, options_model: str | None) -> dict[str, Any]:
    """The request body in openapi.yaml: routes parse it themselves, since one route takes three forms."""
    content: dict[str, Any] = {
        "application/json": {"schema": {"$ref": f"#/components/schemas/{json_model}"}}
    }
    if options_model:
        binary = {"type": "string", "format": "binary"}
        options = {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": f"#/components/schemas/{options_model}"},
        }
        form = {
            "type": "object",
            "required": ["images"],
            "properties": {"images": {"type": "array", "items": binary}, "options": options},
        }
        content["multipart/form-data"] = {"schema": {**form, "additionalProperties": False}}
        content |= {kind: {"schema": binary} for kind in PICTURE_TYPES}
    header = {
        "name": DEADLINE_HEADER,
        "in": "header",
        "required": False,
        "schema": {"type": "number", "exclusiveMinimum": 0},
    }
    known = {
        "name": "If-None-Match",
        "in": "header",
        "required": False,
        "schema": {"type": "string"},
        "description": "ETag of an answer you have",
    }
    security: list[dict[str, list[str]]] = [
        {"bearer": []},
        {"key": []},
        {},
    ]  # the last: a gateway without keys is open
    return {
        "requestBody": {"required": True, "content": content},
        "parameters": [header, known],
        "security": security,
    }


def _docs(kind: type[BaseModel], json_model: str, options_model: str | None) -> dict[str, Any]:
    responses = {200: {"model": kind, "headers": LIMITS | KNOWN}, **NOT_MODIFIED, **_REFUSALS}
    return {
        "response_model": None,
        "responses": responses,
        "openapi_extra": _body(json_model, options_model),
    }


@router.post(
    "/v1/predict",
    tags=["faces"],
    summary="Read faces",
    **_docs(answers.PredictAnswer, "PredictBody", "PredictOptions"),
)
async def predict(request: Request) -> Response:
    """AU probabilities, valence and arousal of the faces in 1 to 64 pictures. A bad picture fails alone."""
    return await answer(request, "predict")


@router.post(
    "/v1/generate",
    tags=["faces"],
    summary="Draw faces",
    **_docs(answers.GenerateAnswer, "GenerateBody", None),
)
async def generate(request: Request) -> Response:
    """Synthetic faces in wanted states. With one item and `Accept: image/png` (jpeg, webp) the answer is the picture itself."""
    return await answer(request, "generate")


@router.post(
    "/v1/explain",
    tags=["faces"],
    summary="Explain readings",
    **_docs(answers.ExplainAnswer, "ExplainBody", "ExplainOptions"),
)
async def explain(request: Request) -> Response:
    """The least change to each face that changes a decision: its picture, its map, and how far to trust it."""
    return await answer(request, "explain")


@router.get(
    "/v1/models",
    tags=["models"],
    summary="Models that are served",
    response_model=answers.ModelList,
)
async def models(request: Request) -> Response:
    """Every version: whether it is its model's default, and its share of the requests that name no version."""
    return as_json({"models": request.state.models.summaries()})


NOT_SERVED: dict[int | str, dict[str, Any]] = {
    404: _REFUSALS[400] | {"description": "No such model or version"}
}


@router.get(
    "/v1/models/{name}",
    tags=["models"],
    summary="The card of a model",
    response_model=ModelCard,
    responses=NOT_SERVED,
)
async def model(request: Request, name: str, version: str | None = None) -> Response:
    """Vocabulary, thresholds, measured quality, data, limits: of the default version, or of the one asked for."""
    return Response(
        request.state.models.find(name, version).card.model_dump_json(),
        media_type="application/json",
    )


@router.get(
    "/v1/models/{name}/versions/{version}",
    tags=["models"],
    summary="The card of a version",
    response_model=ModelCard,
    responses=NOT_SERVED,
)
async def model_version(request: Request, name: str, version: str) -> Response:
    """The same, of one version."""
    return await model(request, name, version)


@router.get(
    "/healthz", tags=["operators"], summary="The process lives", response_model=answers.Health
)
async def healthz() -> Response:
    """Always 200 while the event loop turns."""
    return as_json({"status": "ok"})


@router.get(
    "/readyz",
    tags=["operators"],
    summary="Requests would be served",
    response_model=answers.Readiness,
    responses={503: {"description": "Not now", "model": answers.Readiness}},
)
async def readyz(request: Request) -> Response:
    """200 when every operation of the default version has a worker that is ready and the gateway is not shutting down."""
    state = request.state
    versions = await state.models.ready()
    ready = all(versions[state.models.default].values()) and not state.admission.draining
    told = {
        "ready": ready,
        "draining": state.admission.draining,
        "operations": versions[state.models.default],
        "versions": [
            {"name": v.name, "version": v.version, "operations": operations}
            for v, operations in versions.items()
        ],
    }
    return as_json(told, 200 if ready else 503)


@router.get(
    "/metrics", tags=["operators"], summary="Prometheus metrics", response_class=PlainTextResponse
)
async def metrics(request: Request) -> Response:
    """Text format. Not here (404) when the settings give it a port of its own."""
    if request.state.settings.metrics_port is not None:
        raise Problem("not_found", "metrics have a port of their own here")
    return Response(
        generate_latest(request.state.metrics.registry),
        headers={"Content-Type": CONTENT_TYPE_LATEST},
    )
