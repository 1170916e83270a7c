"""How one job is done: in slices, each admitted like a request.

Progress thus moves, a cancelled job ends within a slice, and a large job does not delay interactive
requests.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from starlette.responses import Response
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_random_exponential

from service.backend.interface import BackendError, BackendOverloaded, BackendUnavailable
from service.inference.admission import Admission
from service.inference.fair_slots import BACKGROUND_WEIGHT, Flow, current_flow
from service.inference.inference_request import InferenceRequest
from service.inference.model_registry import ModelRegistry, Version
from service.inference.results import InferenceResult
from service.jobs.jobs import Job, JobStore, Lease, Status
from service.observability.metrics import Metrics
from service.problems import Problem, problem_from_backend, problem_response
from service.settings import Settings
from service.storage.stored_response import StoredResponse

MOST_ATTEMPTS = 3  # a job whose gateway died three times is likely to be the cause
RETRY_SECONDS = 300.0  # for which a slice waits for a busy operation or an absent model server
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.2, 5.0
T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class JobContext:
    """What jobs need of the gateway.

    `render` makes a response of a result, the media type of the picture that it is to be (None:
    JSON), and headers.
    """

    settings: Settings
    admission: Admission
    models: ModelRegistry
    metrics: Metrics
    render: Callable[[InferenceResult, str | None, Mapping[str, str]], Response]


async def execute(
    context: JobContext, store: JobStore, lease: Lease
) -> tuple[Status, StoredResponse] | None:
    """The final status and response of the job; None when the lease no longer holds.

    Raises StoreUnavailable; every other error is the job's end.
    """
    job = lease.job
    try:
        request = await _load(store, job)
        if request is None:
            return None
        result = await _compute(context, store, lease, request)
        if result is None:
            return None
        response = await asyncio.to_thread(context.render, result, job.response_media_type, {})
        return "done", StoredResponse.from_response(response)
    except Problem as problem:
        return "failed", stored_problem(job, problem)
    except BackendError as error:
        return "failed", stored_problem(job, problem_from_backend(error))


def stored_problem(job: Job, problem: Problem) -> StoredResponse:
    """The stored response of a job that failed with this problem."""
    return StoredResponse.from_response(problem_response(problem, job.path, job.id))


async def retry(
    command: Callable[[], Awaitable[T]], seconds: float, passing: Callable[[BaseException], bool]
) -> T:
    """The command's value; retried for `seconds` while its failures are `passing` (temporary)."""
    attempts = AsyncRetrying(
        retry=retry_if_exception(passing),
        wait=wait_random_exponential(FIRST_WAIT_SECONDS, max=LONGEST_WAIT_SECONDS),
        stop=stop_after_delay(seconds),
        reraise=True,
    )
    return await attempts(command)


async def _load(store: JobStore, job: Job) -> InferenceRequest | None:
    if job.attempts > MOST_ATTEMPTS:
        raise Problem(
            "job_lost",
            f"{MOST_ATTEMPTS} gateways ended while they were at it; send fewer pictures in a job",
        )
    content = await store.get_request(job)
    if content is None:
        return None
    return await asyncio.to_thread(InferenceRequest.from_bytes, content)


async def _compute(
    context: JobContext, store: JobStore, lease: Lease, request: InferenceRequest
) -> InferenceResult | None:
    """The result of all slices together, by one version; None when the lease no longer holds."""
    results: list[InferenceResult] = []
    images = context.settings.job_slice_images
    version = request.check_version(context.models)
    current_flow.set(Flow(f"job:{lease.job.owner}", BACKGROUND_WEIGHT))
    with context.models.serving(version.name, version.version):
        for start in range(0, request.image_count, images):
            part = request.slice(start, start + images)
            compute = partial(_compute_slice, context, part, version)
            results.append(await retry(compute, RETRY_SECONDS, _is_passing))
            if not await store.heartbeat(lease, start + part.image_count):
                return None
    return type(results[0]).concatenate(results)


async def _compute_slice(
    context: JobContext, part: InferenceRequest, version: Version
) -> InferenceResult:
    limiter, settings = context.admission.limiters[part.operation], context.settings
    with limiter.background(part.image_count, settings.deadline_seconds):
        return await part.run(version.operations, seconds=settings.max_deadline_seconds)


def _is_passing(error: BaseException) -> bool:
    """Whether the failure is temporary: no room, or no model server."""
    if isinstance(error, Problem):
        return error.code == "overloaded"
    return isinstance(error, BackendOverloaded | BackendUnavailable)
