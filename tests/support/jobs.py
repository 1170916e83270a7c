"""Jobs over HTTP: started, and waited for."""

import base64
from typing import Any

from service.settings import Settings
from tests.support.gateway import Gateway
from tests.support.pictures import CROPS, FACE, encoded, packed
from tests.support.redis_server import RedisServer
from tests.support.waiting import until

ASYNC = {"Prefer": "respond-async"}
JOBS_KEY = base64.b64encode(bytes(range(32))).decode()
FIVE_PICTURES: dict[str, Any] = {"images": packed(*[encoded(FACE)] * 5), "options": CROPS}


def redis_settings(server: RedisServer, **more: Any) -> Settings:
    """Settings of a gateway whose jobs are in Redis, done picture by picture."""
    return Settings(redis_url=server.url, jobs_key=JOBS_KEY, job_slice_images=1, **more)


def start_job(
    gateway: Gateway, path: str = "/v1/predict", body: Any = FIVE_PICTURES, **headers: str
) -> str:
    """The path of a job that was accepted."""
    reply = gateway.post(path, body, **ASYNC, **headers)
    assert reply.status == 202, reply.body
    return reply.headers["Location"]


def finished_job(gateway: Gateway, path: str) -> Any:
    """The document of a job, once it is over."""
    until(lambda: gateway.get(path).json["status"] not in ("queued", "running"))
    return gateway.get(path).json
