"""What operators see of a request, its log line, spans and metrics; and what they must not."""

import io
import json
import logging
import socket
import urllib.request
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import get_current_span

from affect.batches import predict
from affect.protocol.messages import PredictRequest, PredictResponse
from affect.protocol.torchserve_batch import RequestBatch
from service.observability import logging_setup
from service.observability.metrics import SECONDS, Metrics
from service.observability.tracing import Tracing, traceparent_of
from service.settings import Settings
from tests.support.gateway import TRACE, LocalBackend, serve
from tests.support.pictures import CROPS, FACE, encoded, packed

BODY: dict[str, Any] = {"images": packed(encoded(FACE)), "options": CROPS}


class _Context:
    """What a batch tells TorchServe."""

    def set_response_content_type(self, idx: int, value: str) -> None:
        assert idx in (0, 1)


async def through_a_worker(
    self: LocalBackend, request: PredictRequest, *, timeout_seconds: float
) -> PredictResponse:
    """As bytes, in one batch with a stranger's job."""
    card, stranger = self.model.card, replace(request, traceparent=TRACE.replace("b7ad", "c0de"))
    bodies = [{"body": job.to_bytes(card)} for job in (request, stranger)]
    batch = RequestBatch.parse(PredictRequest, bodies, _Context(), card)  # type: ignore[arg-type]
    answers = batch.respond(
        lambda jobs: [PredictResponse(predict(self.model, job.crops, (1, 8))) for job in jobs]
    )
    return PredictResponse.from_bytes(answers[0], card)


def parent_id(span: ReadableSpan) -> str:
    assert span.parent is not None
    return f"{span.parent.span_id:016x}"


def test_a_trace_goes_from_the_caller_to_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    spans, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr(LocalBackend, "predict", through_a_worker)
    for gateway in serve(Settings(), tracing=Tracing(provider)):
        reply = gateway.post("/v1/predict", BODY, traceparent=TRACE)
        metrics = gateway.get("/metrics").body.decode()
    assert reply.headers["traceparent"].split("-")[1] == TRACE.split("-")[1]
    by_name = {span.name: span for span in spans.get_finished_spans()}
    work, job, request = (by_name[name] for name in ("handle", "predict job", "POST /v1/predict"))
    assert parent_id(request) == TRACE.split("-")[2]
    assert parent_id(job) == f"{request.context.span_id:016x}"
    assert parent_id(work) == f"{job.context.span_id:016x}"
    assert [f"{link.context.span_id:016x}"[:4] for link in work.links] == ["c0de"]
    assert 'affectgan_batch_jobs_sum{operation="predict"} 2.0' in metrics
    assert 'affectgan_queue_wait_seconds_count{operation="predict"} 1.0' in metrics


def test_a_log_line_says_who_and_how_but_nothing_of_the_picture() -> None:
    written = io.StringIO()
    handler = logging_setup.handler_from_settings(Settings(log_format="json"))
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(written)
    logger = logging.getLogger("service")
    logger.addHandler(handler)
    logger.setLevel("INFO")
    try:
        for gateway in serve(Settings()):
            answer = gateway.post(
                "/v1/predict", BODY, traceparent=TRACE, **{"X-Request-ID": "abc"}
            ).json
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    lines = map(json.loads, written.getvalue().splitlines())
    line = next(line for line in lines if line.get("route") == "/v1/predict")
    assert (line["request_id"], line["trace_id"]) == ("abc", TRACE.split("-")[1])
    assert (line["status"], line["method"]) == (200, "POST")
    assert 0 < line["seconds"] < 60 and line["level"] == "INFO"
    face = answer["results"][0]["faces"][0]
    readings = "AU", "valence", str(face["valence"]), str(face["realism"])
    for secret in (BODY["images"][0]["content"][:24], *readings):
        assert secret not in written.getvalue()


def test_metrics_have_a_port_of_their_own_when_asked() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for gateway in serve(Settings(metrics_port=port)):
        gateway.post("/v1/predict", BODY)
        assert gateway.get("/metrics").status == 404
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            assert b"affectgan_reading_count{" in answer.read()
    with pytest.raises(OSError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=1)


@pytest.mark.parametrize(
    "broken",
    [
        "",
        "00-0-0-01",
        TRACE.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32),
        "ff" + TRACE[2:],
    ],
)
def test_a_trace_that_cannot_be_read_begins_anew(broken: str) -> None:
    def trace_id() -> str:
        with Tracing().request(broken) as span:
            return traceparent_of(span).split("-")[1]

    assert trace_id() not in ("0" * 32, TRACE.split("-")[1])
    assert trace_id() != trace_id()


@pytest.mark.parametrize("flags", ["00", "01"])
def test_the_callers_trace_goes_on_unrecorded_with_an_id_of_its_own(flags: str) -> None:
    with Tracing().request(TRACE[:-2] + flags) as span:
        version, trace_id, span_id, passed_on = traceparent_of(span).split("-")
    assert (version, trace_id, passed_on) == ("00", TRACE.split("-")[1], flags)
    assert span_id != TRACE.split("-")[2]


def test_outside_of_requests_there_is_no_traceparent() -> None:
    assert traceparent_of(get_current_span()) == ""


def test_counters_of_what_is_rare_begin_at_zero() -> None:
    for gateway in serve(Settings()):
        lines = gateway.get("/metrics").body.decode().splitlines()
    model = 'model="affectgan"'
    for series in (
        f'affectgan_worker_deaths_total{{{model},operation="explain",version="1.0"}} 0.0',
        f'affectgan_torchserve_restarts_total{{{model},version="1.0"}} 0.0',
        f'affectgan_watchdog_kills_total{{{model},reason="hung",version="1.0",what="predict"}} 0.0',
        'affectgan_jobs_total{operation="predict",outcome="lost"} 0.0',
    ):
        assert series in lines, series


def test_a_process_reports_its_memory_and_how_long_its_slowest_requests_took() -> None:
    registry = Metrics().registry
    assert (registry.get_sample_value("process_resident_memory_bytes") or 0) > 0
    assert Settings().max_deadline_seconds <= max(SECONDS)


@pytest.mark.parametrize(("path", "level"), [("/readyz", "DEBUG"), ("/v1/models", "INFO")])
def test_probes_are_logged_at_debug_only(
    path: str, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "service")
    for gateway in serve(Settings()):
        gateway.get(path)
    (record,) = [one for one in caplog.records if getattr(one, "route", "") == path]
    assert record.levelname == level
