"""Whole gateways as processes: a job outlives SIGKILL."""

import json
from pathlib import Path

import pytest

from tests.support.gateway_process import fetch, held_gateway
from tests.support.jobs import JOBS_KEY
from tests.support.pictures import CROPS, FACE, encoded, packed
from tests.support.redis_server import RedisServer
from tests.support.waiting import until

pytestmark = pytest.mark.processes

BODY = json.dumps({"images": packed(encoded(FACE)), "options": CROPS}).encode()


def test_a_job_outlives_the_gateway_that_is_killed_in_the_middle_of_it(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    environment = {
        "AFFECTGAN_REDIS_URL": redis_server.url,
        "AFFECTGAN_JOBS_KEY": JOBS_KEY,
        "AFFECTGAN_JOB_LEASE_SECONDS": "0.5",
        "AFFECTGAN_JOB_SLICE_IMAGES": "1",
        "AFFECTGAN_REDIS_TIMEOUT_SECONDS": "2",
    }
    hold = tmp_path / "hold"
    hold.touch()
    four = json.dumps({"images": packed(*[encoded(FACE)] * 4), "options": CROPS}).encode()
    with held_gateway(tmp_path, environment, answers=1) as (first, url):
        document, _ = fetch(f"{url}/v1/predict", four, Prefer="respond-async")
        path = document["href"]
        until(lambda: fetch(f"{url}{path}")[0]["progress"]["done"] == 1)
        first.process.kill()
        first.process.wait()
    hold.unlink()
    with held_gateway(tmp_path, environment) as (_, url):
        until(lambda: fetch(f"{url}{path}")[0]["status"] == "done")
        document, _ = fetch(f"{url}{path}")
        assert document["attempts"] == 2 and document["progress"] == {"done": 4, "of": 4}
        answer, _ = fetch(f"{url}{path}/result")
        assert [result["status"] for result in answer["results"]] == ["ok"] * 4
