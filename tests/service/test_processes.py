"""Whole gateways as processes: one trace reaches a collector, and a job outlives SIGKILL."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.gateway import TRACE
from tests.support.gateway_process import fetch, held_gateway, serving
from tests.support.jobs import JOBS_KEY
from tests.support.pictures import CROPS, FACE, encoded, packed
from tests.support.redis_server import RedisServer
from tests.support.waiting import until

pytestmark = pytest.mark.processes

BODY = json.dumps({"images": packed(encoded(FACE)), "options": CROPS}).encode()


class Collector(ThreadingHTTPServer):
    """Takes OpenTelemetry spans over HTTP, as a collector does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), self.Handler)
        self.spans: list[Any] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = ExportTraceServiceRequest.FromString(
                self.rfile.read(int(self.headers["Content-Length"]))
            )
            assert isinstance(self.server, Collector)
            self.server.spans += [
                span
                for resource in sent.resource_spans
                for scope in resource.scope_spans
                for span in scope.spans
            ]
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: pytest shows enough."""


def test_a_collector_gets_one_trace_from_the_caller_to_the_worker_and_nothing_of_the_picture(
    models: Path,
) -> None:
    collector = Collector()
    traces = f"http://127.0.0.1:{collector.server_port}/v1/traces"
    with serving("--models", models, environment={"AFFECTGAN_TRACES_URL": traces}) as (_, url):
        fetch(f"{url}/v1/predict", BODY, traceparent=TRACE)
    collector.shutdown()
    _, trace_id, caller_id, _ = TRACE.split("-")
    spans = {span.name: span for span in collector.spans if span.trace_id.hex() == trace_id}
    assert set(spans) == {"POST /v1/predict", "predict job", "handle"}
    request, job, work = (spans[name] for name in ("POST /v1/predict", "predict job", "handle"))
    assert request.parent_span_id.hex() == caller_id
    assert job.parent_span_id == request.span_id and work.parent_span_id == job.span_id
    assert job.start_time_unix_nano < work.start_time_unix_nano < work.end_time_unix_nano
    exported = "".join(str(span) for span in collector.spans)
    for secret in ("AU12", "valence", packed(encoded(FACE))[0]["content"][:40]):
        assert secret not in exported


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
