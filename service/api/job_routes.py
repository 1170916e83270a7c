"""Jobs over HTTP: what a client asks for, and what it is told."""

from datetime import UTC, datetime
from typing import Any

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from affect import answers
from service.access.authentication import Principal
from service.inference.inference_request import InferenceRequest
from service.jobs import webhooks
from service.jobs.jobs import Job, JobQueue, StoreUnavailable
from service.problems import Problem, invalid
from service.storage.stored_response import StoredResponse

router = APIRouter(tags=["jobs"])
PREFER, RETRY_SECONDS = "respond-async", "1"
NOTES = {
    "memory": "This job is held in the memory of one gateway: it is lost when that gateway stops, and other gateways do not know it.",
    "redis": "This job outlives gateways. What it was asked and what it answered is kept encrypted, and deleted when it expires.",
}
Json = dict[str, Any]


def wants_job(request: Request) -> bool:
    """Whether the answer is to be fetched later (RFC 7240). Raises Problem when only the webhook is asked for."""
    preferences = [
        part.split(";")[0].strip().lower()
        for value in request.headers.getlist("prefer")
        for part in value.split(",")
    ]
    wanted = PREFER in preferences
    if not wanted and webhooks.HEADER in request.headers:
        raise invalid(
            webhooks.HEADER,
            request.headers[webhooks.HEADER],
            f"it is called when a job ends: send `Prefer: {PREFER}` too",
        )
    return wanted


async def accept(
    request: Request, call: InferenceRequest, owner: str, response_media_type: str | None
) -> Response | None:
    """202 and where the job is; None when no job can be kept now: a preference is not a demand, so the request is answered at once.

    With a webhook it is one: somebody would wait for a call that never comes. Raises Problem.
    """
    jobs: JobQueue = request.state.jobs
    url = request.headers.get(webhooks.HEADER)
    webhook = None if url is None else request.state.webhooks.check(url)
    try:
        job = await jobs.accept(
            call, owner, response_media_type=response_media_type, webhook=webhook
        )
    except StoreUnavailable as error:
        if webhook is None:
            return None
        raise unavailable() from error
    headers = {"Location": job.path, "Retry-After": RETRY_SECONDS, "Preference-Applied": PREFER}
    return Response(
        told(job, jobs.store.location), 202, headers=headers, media_type="application/json"
    )


@router.get("/v1/jobs/{job_id}", summary="A job", response_model=answers.JobDocument)
async def job(request: Request, job_id: str) -> Response:
    """How far it is. Its `result` is there when its status is `done`; its `error` when it is `failed`."""
    found = await _found(request, job_id)
    headers = {"Retry-After": RETRY_SECONDS} if found.is_open else {}
    return Response(
        await _document(request, found),
        headers={**headers, "Cache-Control": "no-store"},
        media_type="application/json",
    )


@router.get(
    "/v1/jobs/{job_id}/result",
    summary="The answer of a job",
    response_model=answers.PredictAnswer | answers.GenerateAnswer | answers.ExplainAnswer,
)
async def job_result(request: Request, job_id: str) -> Response:
    """The very response that the request would have had: the answer, or the problem that it ended with."""
    found = await _found(request, job_id)
    if found.is_open:
        raise Problem(
            "job_open",
            f"the job is {found.status}: {found.done} of {found.images} done",
            headers={"Retry-After": RETRY_SECONDS},
        )
    kept = await _answer(request, found)
    if kept is None:
        raise Problem("job_gone", f"the job is {found.status}: it has no answer any more")
    return kept.to_response(Cache_Control="no-store")


@router.delete(
    "/v1/jobs/{job_id}",
    summary="Cancel a job, or delete its answer",
    response_model=answers.JobDocument,
)
async def cancel_job(request: Request, job_id: str) -> Response:
    """An open job is cancelled; of one that is over the answer is deleted. Its document stays for a while."""
    found = await _found(request, job_id)
    try:
        await request.state.jobs.store.cancel(found)
    except StoreUnavailable as error:
        raise unavailable() from error
    return Response(
        await _document(request, await _found(request, job_id)), media_type="application/json"
    )


def unavailable() -> Problem:
    """Redis does not answer."""
    return Problem(
        "jobs_unavailable", "jobs cannot be reached now; try again", headers={"Retry-After": "5"}
    )


def told(job: Job, place: str, answer: StoredResponse | None = None) -> bytes:
    """The document of a job; `answer` is that of one that failed. The same goes to its webhook."""
    document: Json = {
        "id": job.id,
        "status": job.status,
        "operation": job.operation,
        "created": _time(job.created),
        "started": _time(job.started),
        "finished": _time(job.finished),
        "expires": _time(job.expires),
        "progress": {"done": job.done, "of": job.images},
        "attempts": job.attempts,
        "href": job.path,
        "result": {"href": f"{job.path}/result"} if job.status == "done" else None,
        "error": orjson.loads(answer.body)
        if answer is not None and job.status == "failed"
        else None,
        "webhook": None
        if job.webhook is None
        else {"url": job.webhook, "status": job.webhook_status},
        "kept_in": place,
        "note": NOTES[place],
    }
    return orjson.dumps(document)


async def _found(request: Request, job_id: str) -> Job:
    principal = await request.state.access.principal(request)
    try:
        found: Job = await request.state.jobs.find_owned(job_id, owner_of(principal))
    except StoreUnavailable as error:
        raise unavailable() from error
    return found


async def _answer(request: Request, job: Job) -> StoredResponse | None:
    try:
        kept: StoredResponse | None = await request.state.jobs.get_response(job)
    except StoreUnavailable as error:
        raise unavailable() from error
    return kept


async def _document(request: Request, job: Job) -> bytes:
    failed = await _answer(request, job) if job.status == "failed" else None
    return told(job, request.state.jobs.store.location, failed)


def owner_of(principal: Principal) -> str:
    """Whose jobs and Idempotency-Keys these are. Where nobody shows who they are, whoever knows a job's id may ask for it."""
    return "" if principal.anonymous else principal.id


def _time(seconds: float | None) -> str | None:
    return (
        None
        if seconds is None
        else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    )
