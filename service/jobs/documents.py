"""The document of a job: what is at its path, and what its webhook gets."""

from datetime import UTC, datetime
from typing import Any

import orjson

from service.jobs.jobs import Job
from service.storage.stored_response import StoredResponse

NOTES = {
    "memory": "This job is held in the memory of one gateway: it is lost when that gateway stops, "
    "and other gateways do not know it.",
    "redis": "This job outlives gateways. What it was asked and what it answered is kept "
    "encrypted, and deleted when it expires.",
}


def job_document(job: Job, location: str, response: StoredResponse | None = None) -> bytes:
    """The document as JSON; `response` is that of a job that failed."""
    failed = response is not None and job.status == "failed"
    document: dict[str, Any] = {
        "id": job.id,
        "status": job.status,
        "operation": job.operation,
        "created": _iso_time(job.created),
        "started": _iso_time(job.started),
        "finished": _iso_time(job.finished),
        "expires": _iso_time(job.expires),
        "progress": {"done": job.done, "of": job.images},
        "attempts": job.attempts,
        "href": job.path,
        "result": {"href": f"{job.path}/result"} if job.status == "done" else None,
        "error": orjson.loads(response.body) if response is not None and failed else None,
        "webhook": job.webhook and {"url": job.webhook, "status": job.webhook_status},
        "kept_in": location,
        "note": NOTES[location],
    }
    return orjson.dumps(document)


def _iso_time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
