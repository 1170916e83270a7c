"""Opens what the app needs, and closes it again, on one exit stack, also after a failed start."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from affect.marking import Marker
from service.access.api_keys import api_keys_from_settings
from service.access.authentication import Authenticator
from service.access.jwt_auth import jwt_from_settings
from service.access.rate_limits import rate_limiter_from_settings
from service.api.bodies import BodyReader
from service.api.idempotency import idempotency_from_settings
from service.api.json_answers import render_response
from service.api.state import AppState
from service.backend.interface import Backend
from service.inference.admission import Admission
from service.inference.model_registry import ModelRegistry
from service.inference.preprocessing import Preprocessor
from service.inference.response_cache import ResponseCache
from service.inference.routing import Routing
from service.inference.shadow import ShadowTraffic
from service.jobs.background import open_jobs
from service.jobs.execution import JobContext
from service.observability.metrics import Metrics, metrics_server
from service.observability.tracing import Tracing
from service.settings import Settings
from service.storage.encrypted_redis import encrypted_redis_from_settings
from service.storage.redis import redis_from_settings


@dataclass(frozen=True)
class GatewayParts:
    """What an app is made of before it starts. The backends are open already, one for each version,
    the default first.
    """

    settings: Settings
    backends: Sequence[Backend]
    routing: Routing
    metrics: Metrics
    tracing: Tracing
    admission: Admission


@asynccontextmanager
async def open_state(parts: GatewayParts) -> AsyncIterator[AppState]:
    """Within, everything is open. Raises ValueError for settings, keys, targets or routes that
    cannot be used.
    """
    settings, metrics = parts.settings, parts.metrics
    async with AsyncExitStack() as stack:
        stack.callback(parts.tracing.close)
        stack.enter_context(metrics_server(metrics, settings))
        models = await _open_models(parts, stack)
        shadows = ShadowTraffic(models, metrics)
        stack.push_async_callback(shadows.close)
        redis = redis_from_settings(settings, metrics)
        if redis is not None:
            stack.push_async_callback(redis.close)
        cache = ResponseCache(settings, metrics, redis)
        stack.push_async_callback(cache.close)
        encrypted = await stack.enter_async_context(
            encrypted_redis_from_settings(settings, metrics)
        )
        context = JobContext(settings, parts.admission, models, metrics, render_response)
        jobs, webhooks = await stack.enter_async_context(open_jobs(context, encrypted))
        yield AppState(
            settings=settings,
            metrics=metrics,
            authenticator=_authenticator(settings, metrics),
            bodies=BodyReader(settings, metrics),
            rate_limiter=rate_limiter_from_settings(settings, metrics, redis),
            cache=cache,
            admission=parts.admission,
            models=models,
            shadows=shadows,
            jobs=jobs,
            webhooks=webhooks,
            idempotency=idempotency_from_settings(settings, metrics, encrypted),
        )


async def _open_models(parts: GatewayParts, stack: AsyncExitStack) -> ModelRegistry:
    preprocessor = Preprocessor.from_settings(parts.settings, parts.metrics)
    marker = Marker(parts.settings.marking)
    models = ModelRegistry(stack.enter_context(preprocessor), parts.metrics, marker)
    for backend in parts.backends:
        await models.add(backend)
    models.follow(parts.routing)
    return models


def _authenticator(settings: Settings, metrics: Metrics) -> Authenticator:
    verifiers = (api_keys_from_settings(settings), jwt_from_settings(settings))
    return Authenticator(metrics, *(verifier for verifier in verifiers if verifier is not None))
