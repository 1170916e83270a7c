"""Whole gateways as processes: a collector gets one trace of what went through a real TorchServe, and a job outlives SIGKILL."""

import json
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.gateway import TRACE
from tests.support.gateway_process import SERVER, status
from tests.support.jobs import JOBS_KEY
from tests.support.pictures import CROPS, FACE, encoded, packed
from tests.support.redis_server import RedisServer
from tests.support.tiny import tiny_run
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
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


@contextmanager
def gateway(command: list[str], **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that prints or says where it serves; ended when left, unless it is dead already."""
    set_ = {"OMP_NUM_THREADS": "1", **environment}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=set_, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        address = next(
            word
            for line in process.stdout
            for word in line.split()
            if word.isdigit() or word.startswith("http://")
        )
        url = address if address.startswith("http") else f"http://127.0.0.1:{address}"
        try:
            until(lambda: status(f"{url}/readyz") == 200, seconds=60)
            yield process, url
            process.terminate()
            process.communicate(timeout=60)
        finally:
            process.kill()


def asked(url: str, body: bytes | None = None, **headers: str) -> tuple[Any, dict[str, str]]:
    headers = {name.replace("_", "-"): value for name, value in headers.items()} | {
        "Content-Type": "application/json"
    }
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30) as answer:
        return json.loads(answer.read()), dict(answer.headers)


def test_a_collector_gets_one_trace_from_the_caller_to_the_worker_and_nothing_of_the_picture(
    tmp_path: Path,
) -> None:
    collector = Collector()
    weights = tiny_run(tmp_path / "run") / "model"
    command = [
        sys.executable,
        "-m",
        "affect.cli",
        "serve",
        "--weights",
        str(weights),
        "--port",
        "0",
    ]
    traces = f"http://127.0.0.1:{collector.server_port}/v1/traces"
    with gateway(command, AFFECTGAN_TRACES_URL=traces, PATH=str(Path(sys.executable).parent)) as (
        _,
        url,
    ):
        asked(f"{url}/v1/predict", BODY, traceparent=TRACE)
    mine = {
        span.name: span for span in collector.spans if span.trace_id.hex() == TRACE.split("-")[1]
    }
    collector.shutdown()
    assert set(mine) == {"POST /v1/predict", "predict job", "handle"}
    assert mine["handle"].parent_span_id == mine["predict job"].span_id
    assert mine["predict job"].parent_span_id == mine["POST /v1/predict"].span_id
    assert mine["POST /v1/predict"].parent_span_id.hex() == TRACE.split("-")[2]
    assert (
        mine["predict job"].start_time_unix_nano
        < mine["handle"].start_time_unix_nano
        < mine["handle"].end_time_unix_nano
    )
    told = "".join(str(span) for span in collector.spans)
    assert (
        "AU12" not in told
        and "valence" not in told
        and packed(encoded(FACE))[0]["content"][:40] not in told
    )


def test_a_job_outlives_the_gateway_that_is_killed_in_the_middle_of_it(
    redis_server: RedisServer,
) -> None:
    environment = {
        "AFFECTGAN_REDIS_URL": redis_server.url,
        "AFFECTGAN_JOBS_KEY": JOBS_KEY,
        "AFFECTGAN_JOB_LEASE_SECONDS": "0.5",
        "AFFECTGAN_JOB_SLICE_IMAGES": "1",
        "AFFECTGAN_REDIS_TIMEOUT_SECONDS": "2",
    }
    several = json.dumps({"images": packed(*[encoded(FACE)] * 4), "options": CROPS}).encode()
    command = [sys.executable, "-c", SERVER]
    with gateway(command, **environment) as (first, url):
        document, headers = asked(f"{url}/v1/predict", several, Prefer="respond-async")
        until(lambda: asked(f"{url}{headers['location']}")[0]["progress"]["done"] >= 1, seconds=30)
        first.kill()
        first.wait()
    with gateway(command, **environment) as (_, url):
        until(lambda: asked(f"{url}{headers['location']}")[0]["status"] == "done", seconds=60)
        document, _ = asked(f"{url}{headers['location']}")
        assert document["attempts"] == 2 and document["progress"] == {"done": 4, "of": 4}
        answer, _ = asked(f"{url}{headers['location']}/result")
        assert [result["status"] for result in answer["results"]] == ["ok"] * 4
