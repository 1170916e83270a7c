"""The spans of one request, of the gateway and of its worker, reach an OTLP server over HTTP, and
are one trace there, which says nothing of the picture.
"""

import json
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support.gateway_process import fetch, serving
from tests.support.http_servers import Answer, answering
from tests.support.pictures import CROPS, FACE, encoded, packed

pytestmark = pytest.mark.processes

BODY = json.dumps({"images": packed(encoded(FACE)), "options": CROPS}).encode()
CALLER, TRACE = "00f067aa0ba902b7", "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize("runtime", ["process", "torchserve"])
def test_a_collector_gets_one_trace_from_the_caller_to_the_worker_and_nothing_of_the_picture(
    models: Path, runtime: str
) -> None:
    spans: list[Span] = []

    def take(path: str, content: bytes) -> Answer:
        assert path == "/v1/traces"
        for resource in ExportTraceServiceRequest.FromString(content).resource_spans:
            spans.extend(span for scope in resource.scope_spans for span in scope.spans)
        return 200, {}, b""

    with answering(take) as backend:
        environment = {
            "AFFECTGAN_TRACES_URL": f"{backend}/v1/traces",
            "AFFECTGAN_OPERATIONS": "predict",
        }
        options = ("--models", models, "--runtime", runtime)
        with serving(*options, environment=environment) as (_, url):
            fetch(f"{url}/v1/predict", BODY, traceparent=f"00-{TRACE}-{CALLER}-01")
    named = {span.name: span for span in spans if span.trace_id.hex() == TRACE}
    assert set(named) == {"POST /v1/predict", "predict job", "handle"}
    request, job, work = (named[name] for name in ("POST /v1/predict", "predict job", "handle"))
    assert request.parent_span_id.hex() == CALLER
    assert job.parent_span_id == request.span_id and work.parent_span_id == job.span_id
    assert request.start_time_unix_nano <= job.start_time_unix_nano
    assert job.start_time_unix_nano < work.start_time_unix_nano < work.end_time_unix_nano
    exported = "".join(str(span) for span in spans)
    for secret in ("AU12", "valence", packed(encoded(FACE))[0]["content"][:40]):
        assert secret not in exported
