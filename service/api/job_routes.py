"""Jobs over HTTP."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from affect import answers
from service.api.json_answers import json_response
from service.api.parameters import JobId
from service.api.state import ApiRequest
from service.inference.inference_request import InferenceRequest
from service.jobs import webhooks
from service.jobs.documents import job_document
from service.jobs.jobs import Job, StoreUnavailable
from service.problems import Problem, invalid, problem_response_to

router = APIRouter(tags=["jobs"])
PREFER, RETRY_SECONDS = "respond-async", 1


def wants_job(request: ApiRequest) -> bool:
    """Whether the answer is to be fetched later (RFC 7240). Raises Problem when only the webhook is
    asked for.
    """
    preferences = [
        part.split(";")[0].strip().lower()
        for value in request.headers.getlist("prefer")
        for part in value.split(",")
    ]
    is_preferred = PREFER in preferences
    if not is_preferred and webhooks.HEADER in request.headers:
        url = request.headers[webhooks.HEADER]
        remedy = f"it is called when a job ends: send `Prefer: {PREFER}` too"
        raise invalid(webhooks.HEADER, url, remedy)
    return is_preferred


async def accept_job(
    request: ApiRequest, inference: InferenceRequest, owner: str, media_type: str | None
) -> Response | None:
    """202 and where the job is; None when no job can be kept now: `Prefer` is a preference only, so
    the request is answered at once. With a webhook a job is required: its receiver would wait for a
    call that never comes. Raises Problem.
    """
    jobs, url = request.state["jobs"], request.headers.get(webhooks.HEADER)
    webhook = None if url is None else request.state["webhooks"].check(url)
    try:
        job = await jobs.accept(inference, owner, response_media_type=media_type, webhook=webhook)
    except StoreUnavailable:
        if webhook is None:
            return None
        raise
    headers = {
        "Location": job.path,
        "Retry-After": str(RETRY_SECONDS),
        "Preference-Applied": PREFER,
    }
    return json_response(job_document(job, jobs.store.location), 202, headers)


@router.get("/v1/jobs/{job_id}", summary="A job", response_model=answers.JobDocument)
async def get_job(request: ApiRequest, job_id: JobId) -> Response:
    """How far it is. Its `result` is there when its status is `done`; its `error` when it is
    `failed`.
    """
    job = await _find(request, job_id)
    headers = {"Retry-After": str(RETRY_SECONDS)} if job.is_open else {}
    return await _document(request, job, {**headers, "Cache-Control": "no-store"})


@router.get(
    "/v1/jobs/{job_id}/result",
    summary="The answer of a job",
    response_model=answers.PredictAnswer | answers.GenerateAnswer | answers.ExplainAnswer,
)
async def get_job_result(request: ApiRequest, job_id: JobId) -> Response:
    """The very response that the request would have had: the answer, or the problem that it ended
    with.
    """
    job = await _find(request, job_id)
    if job.is_open:
        detail = f"the job is {job.status}: {job.done} of {job.images} done"
        raise Problem("job_open", detail, retry_seconds=RETRY_SECONDS)
    stored = await request.state["jobs"].get_response(job)
    if stored is None:
        raise Problem("job_gone", f"the job is {job.status}: it has no answer any more")
    return stored.to_response(Cache_Control="no-store")


@router.delete(
    "/v1/jobs/{job_id}",
    summary="Cancel a job, or delete its answer",
    response_model=answers.JobDocument,
)
async def cancel_job(request: ApiRequest, job_id: JobId) -> Response:
    """An open job is cancelled; of one that is over the answer is deleted. Its document stays for a
    while.
    """
    await request.state["jobs"].store.cancel(await _find(request, job_id))
    return await _document(request, await _find(request, job_id), {})


async def on_store_unavailable(request: Request, error: Exception) -> Response:
    """Handler of StoreUnavailable: Redis does not answer."""
    detail = "jobs cannot be reached now; try again"
    return problem_response_to(request, Problem("jobs_unavailable", detail, retry_seconds=5))


async def _find(request: ApiRequest, job_id: str) -> Job:
    """Raises Problem: 401, 404."""
    principal = await request.state["authenticator"].authenticate(request)
    return await request.state["jobs"].find_owned(job_id, principal.owner)


async def _document(request: ApiRequest, job: Job, headers: dict[str, str]) -> Response:
    jobs = request.state["jobs"]
    failure = await jobs.get_response(job) if job.status == "failed" else None
    return json_response(job_document(job, jobs.store.location, failure), headers=headers)
