"""The gateway: `create_app(settings, backends=[...])`."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import chain
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect

from affect import __version__
from service import problems
from service.api import (
    inference_routes,
    job_routes,
    open_inference,
    status_routes,
    verification_route,
)
from service.api.lifespan import GatewayParts, open_state
from service.api.middleware import RequestMiddleware
from service.api.openapi_extras import complete
from service.api.page import add_page
from service.api.state import AppState
from service.backend.interface import Backend, BackendError
from service.inference.admission import Admission
from service.inference.routing import NO_ROUTING, Routing
from service.jobs.jobs import StoreUnavailable
from service.observability.metrics import Metrics
from service.observability.tracing import Tracing, tracing_from_settings
from service.problems import Problem
from service.settings import Settings

ROUTERS = (
    inference_routes.router,
    verification_route.router,
    status_routes.router,
    job_routes.router,
    open_inference.router,
)
# What pages of the origins in AFFECTGAN_CORS_ORIGINS may do and see. No cookies: nobody here reads
# any.
CORS: dict[str, Any] = {
    "allow_methods": ["GET", "POST", "DELETE"],
    "allow_headers": [
        "Authorization",
        "X-API-Key",
        "Idempotency-Key",
        "If-None-Match",
        "Prefer",
        "X-Request-ID",
        "X-Deadline-Seconds",
        "X-Webhook-URL",
    ],
    "expose_headers": [
        "Cache-Status",
        "ETag",
        "Location",
        "RateLimit",
        "RateLimit-Policy",
        "Retry-After",
        "X-Request-ID",
        "X-Seed",
        "X-Synthetic",
    ],
}
HANDLERS = {
    Problem: problems.on_problem,
    BackendError: problems.on_backend,
    StoreUnavailable: job_routes.on_store_unavailable,
    RequestValidationError: problems.on_validation,
    HTTPException: problems.on_http,
    ClientDisconnect: problems.on_disconnect,
    Exception: problems.on_unhandled,
}


def create_app(
    settings: Settings,
    *,
    backends: Sequence[Backend],
    routing: Routing = NO_ROUTING,
    metrics: Metrics | None = None,
    tracing: Tracing | None = None,
) -> FastAPI:
    """The app around backends that are open already, one for each version, the default first.

    They are asked for their cards when the app starts; `app.state.models` then takes more, and
    removes them.
    """
    metrics, tracing = metrics or Metrics(), tracing or tracing_from_settings(settings)
    admission = Admission(settings, metrics)
    parts = GatewayParts(settings, backends, routing, metrics, tracing, admission)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[AppState]:
        async with open_state(parts) as state:
            app.state.models, app.state.jobs = state["models"], state["jobs"]
            yield state

    app = FastAPI(
        title="AffectGAN",
        version=__version__,
        description="Reads faces (Action Units, valence, arousal), draws faces, "
        "and explains readings by counterfactuals.",
        lifespan=lifespan,
        generate_unique_id_function=lambda route: route.name,  # `predict` in generated clients
        redirect_slashes=False,  # RequestMiddleware takes both spellings
        telemetry={"tracing": False, "metrics": False, "logs": False},  # we have our own
        docs_url=None,  # both load their scripts from elsewhere; add_page has our own
        redoc_url=None,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    app.state.admission = admission
    app.state.routes = list(chain.from_iterable(router.routes for router in ROUTERS))
    plain_openapi = app.openapi

    def openapi() -> dict[str, Any]:
        return app.openapi_schema or complete(plain_openapi())

    app.openapi = openapi  # type: ignore[method-assign]
    for router in ROUTERS:
        app.include_router(router)
    add_page(app)
    for kind, handler in HANDLERS.items():
        app.add_exception_handler(kind, handler)
    limits = {"max_body_bytes": settings.max_body_bytes}
    app.add_middleware(RequestMiddleware, metrics=metrics, tracing=tracing, **limits)
    if settings.cors_origins:
        app.add_middleware(CORSMiddleware, allow_origins=settings.cors_origins, **CORS)
    return app
