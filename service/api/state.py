"""The typed `request.state`: everything that lives as long as the app."""

from typing import TYPE_CHECKING, TypedDict

from fastapi import Request

from service.access.authentication import Authenticator
from service.access.rate_limits import RateLimiter
from service.api.bodies import BodyReader
from service.api.idempotency import Idempotency
from service.inference.admission import Admission
from service.inference.model_registry import ModelRegistry
from service.inference.response_cache import ResponseCache
from service.inference.shadow import ShadowTraffic
from service.jobs.job_queue import JobQueue
from service.jobs.webhooks import Webhooks
from service.observability.metrics import Metrics
from service.settings import Settings


class AppState(TypedDict):
    """Opened when the app starts (service/api/lifespan.py)."""

    settings: Settings
    metrics: Metrics
    authenticator: Authenticator
    bodies: BodyReader
    rate_limiter: RateLimiter
    cache: ResponseCache
    admission: Admission
    models: ModelRegistry
    shadows: ShadowTraffic
    jobs: JobQueue
    webhooks: Webhooks
    idempotency: Idempotency


if TYPE_CHECKING:
    ApiRequest = Request[AppState]
else:  # FastAPI knows its own request by the plain class
    ApiRequest = Request
