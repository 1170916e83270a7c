"""Prometheus metrics. One registry per app, so that two apps in one process do not add up."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    start_http_server,
)

from affect.archive import OPERATIONS
from affect.card import ModelCard
from service.observability.drift import DriftCollector
from service.settings import Settings

# Up to the longest deadline that the settings allow by default.
_SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75)
SECONDS = (*_SHORT, 1, 2.5, 5, 7.5, 10, 15, 30, 60, 120)
# What a watchdog kills, and why: labels that exist from the start, so that the first kill is an
# increase.
KILLS: tuple[tuple[str, str], ...] = (
    *((operation, why) for operation in OPERATIONS for why in ("stopped", "hung", "failing")),
    ("front end", "stopped"),
    ("front end", "deaf"),
)
DIFFERENCES = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2)
COUNTS = (1, 2, 4, 8, 16, 32, 64)
PIXELS = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)


class Metrics:
    """Every metric of the gateway."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self._add_requests(registry)
        self._add_pictures(registry)
        self._add_backends(registry)
        self._add_supervision(registry)
        self._add_versions(registry)
        self._add_shadows(registry)
        self._add_jobs(registry)
        self._add_storage(registry)
        ProcessCollector(registry=registry)

    def _add_requests(self, registry: CollectorRegistry) -> None:
        """Requests as a whole."""
        self.request_seconds = Histogram(
            "affectgan_request_seconds",
            "Time from request to response",
            ["method", "route", "status"],
            buckets=SECONDS,
            registry=registry,
        )
        self.in_flight = Gauge(
            "affectgan_requests_in_flight",
            "Requests being served or waiting",
            ["operation"],
            registry=registry,
        )
        self.bodies = Gauge(
            "affectgan_request_bodies_bytes",
            "Bodies of requests that are being sent or served",
            registry=registry,
        )
        self.expected = Gauge(
            "affectgan_backlog_seconds",
            "Time the pictures in flight are expected to take",
            ["operation"],
            registry=registry,
        )
        self.refused = Counter(
            "affectgan_requests_refused_total",
            "Requests refused as a whole",
            ["operation", "reason"],
            registry=registry,
        )

    def _add_pictures(self, registry: CollectorRegistry) -> None:
        """Pictures and faces of requests, and what is read off them."""
        self.images = Histogram(
            "affectgan_request_images",
            "Pictures or items of a request",
            ["operation"],
            buckets=COUNTS,
            registry=registry,
        )
        self.faces = Histogram(
            "affectgan_request_faces",
            "Faces sent to the model for a request",
            ["operation"],
            buckets=COUNTS,
            registry=registry,
        )
        self.face_px = Histogram(
            "affectgan_face_px",
            "Side of the faces found, in px of their picture",
            buckets=PIXELS,
            registry=registry,
        )
        self.drift = DriftCollector()
        registry.register(self.drift)
        self.verified = Counter(
            "affectgan_pictures_verified_total",
            "Pictures that /v1/verify looked at, by verdict",
            ["verdict"],
            registry=registry,
        )
        self.rejected = Counter(
            "affectgan_images_rejected_total",
            "Pictures that failed alone",
            ["reason"],
            registry=registry,
        )
        self.picture_seconds = Histogram(
            "affectgan_picture_seconds",
            "Decode, find and align one picture",
            buckets=SECONDS,
            registry=registry,
        )

    def _add_backends(self, registry: CollectorRegistry) -> None:
        """Metrics of the model servers."""
        self.backend_seconds = Histogram(
            "affectgan_backend_seconds",
            "Time the model server took",
            ["operation", "model", "version", "outcome"],
            buckets=SECONDS,
            registry=registry,
        )
        self.wait_seconds = Histogram(
            "affectgan_queue_wait_seconds",
            "Time a job spent between gateway and worker: queued, batched, carried",
            ["operation"],
            buckets=SECONDS,
            registry=registry,
        )
        self.batch_jobs = Histogram(
            "affectgan_batch_jobs",
            "Jobs in the batch that a job was done in",
            ["operation"],
            buckets=COUNTS,
            registry=registry,
        )
        self.batch_rows = Histogram(
            "affectgan_batch_rows",
            "Faces in the batch that a job was done in",
            ["operation"],
            buckets=COUNTS,
            registry=registry,
        )
        self.ready = Gauge(
            "affectgan_operation_ready",
            "1 when a worker can serve the operation",
            ["operation", "model", "version"],
            registry=registry,
        )
        self.breaker = Gauge(
            "affectgan_breaker_state",
            "0 closed, 1 half-open, 2 open",
            ["operation", "model", "version"],
            registry=registry,
        )

    def _add_supervision(self, registry: CollectorRegistry) -> None:
        """Deaths and restarts of model servers and their workers."""
        self.killed = Counter(
            "affectgan_watchdog_kills_total",
            "Workers and front ends that lived but did nothing",
            ["what", "reason", "model", "version"],
            registry=registry,
        )
        self.worker_deaths = Counter(
            "affectgan_worker_deaths_total",
            "Workers that ended, whoever ended them",
            ["operation", "model", "version"],
            registry=registry,
        )
        self.restarts = Counter(
            "affectgan_torchserve_restarts_total",
            "Front ends that were started again after they had ended",
            ["model", "version"],
            registry=registry,
        )

    def _add_versions(self, registry: CollectorRegistry) -> None:
        """Served versions and their shares."""
        self.model = Gauge(
            "affectgan_model_info",
            "Models that are served",
            ["model", "version", "labels", "digest"],
            registry=registry,
        )
        self.share = Gauge(
            "affectgan_version_share",
            "Share of the requests that name no version",
            ["model", "version"],
            registry=registry,
        )
        self.serving = Gauge(
            "affectgan_version_requests_in_flight",
            "Requests that a version is answering",
            ["model", "version"],
            registry=registry,
        )

        self.declaration = Gauge(
            "affectgan_declaration_info",
            "The declared versions that are served, by the digest of their file",
            ["digest"],
            registry=registry,
        )
        self.declaration_followed = Gauge(
            "affectgan_declaration_followed",
            "1: as the file says; 0: the file cannot be followed, the last good one is",
            registry=registry,
        )

    def _add_shadows(self, registry: CollectorRegistry) -> None:
        """Shadow traffic."""
        self.shadows = Counter(
            "affectgan_shadow_requests_total",
            "Copies of requests",
            ["operation", "model", "version", "outcome"],
            registry=registry,
        )
        self.shadow_difference = Histogram(
            "affectgan_shadow_difference",
            "Absolute difference between what the shadow and the version that answered read",
            ["operation", "model", "version", "label"],
            buckets=DIFFERENCES,
            registry=registry,
        )
        self.shadow_decisions = Counter(
            "affectgan_shadow_decisions_total",
            "Action Units that both decided the same, or not",
            ["operation", "model", "version", "agree"],
            registry=registry,
        )

    def _add_jobs(self, registry: CollectorRegistry) -> None:
        """Jobs, their webhooks, and repeated requests."""
        self.jobs = Counter(
            "affectgan_jobs_total",
            "What became of jobs",
            ["operation", "outcome"],
            registry=registry,
        )
        for operation in OPERATIONS:
            self.jobs.labels(operation, "lost")  # starts at 0, so that the first one is an increase
        self.jobs_waiting = Gauge(
            "affectgan_jobs_waiting",
            "Jobs that no gateway has begun: with Redis, those of all gateways",
            registry=registry,
        )
        self.jobs_oldest = Gauge(
            "affectgan_jobs_oldest_seconds",
            "For how long the oldest of them has waited",
            registry=registry,
        )
        self.webhooks = Counter(
            "affectgan_webhook_calls_total", "Calls of webhooks", ["outcome"], registry=registry
        )
        self.replays = Counter(
            "affectgan_idempotent_requests_total",
            "Requests with an Idempotency-Key",
            ["outcome"],
            registry=registry,
        )

    def _add_storage(self, registry: CollectorRegistry) -> None:
        """Redis, quotas, credentials and the cache."""
        self.redis_failures = Counter(
            "affectgan_redis_failures_total",
            "Calls of Redis that failed or were not made",
            ["purpose", "reason"],
            registry=registry,
        )
        self.quota_exceeded = Counter(
            "affectgan_quota_exceeded_total",
            "Requests over their caller's quota",
            ["quota"],
            registry=registry,
        )
        self.quota_local = Counter(
            "affectgan_quota_local_total",
            "Requests counted by this gateway alone, since Redis failed",
            registry=registry,
        )
        self.denied = Counter(
            "affectgan_requests_denied_total",
            "Requests without a valid credential or scope",
            ["status"],
            registry=registry,
        )
        self.cache = Counter(
            "affectgan_cache_requests_total",
            "Requests whose answer might be known: hit, hit_redis, joined (one under way), miss",
            ["operation", "outcome"],
            registry=registry,
        )
        self.cache_bytes = Gauge(
            "affectgan_cache_bytes", "Size of the answers this process keeps", registry=registry
        )

    def describe(self, card: ModelCard, digest: str) -> None:
        """Name a served model. Its counters start at 0 now: a series that appears with its first
        event shows no increase to an alert.
        """
        model = card.name, card.version
        self.model.labels(*model, card.labels, digest[:12]).set(1)
        self.restarts.labels(*model)
        for operation in OPERATIONS:
            self.worker_deaths.labels(operation, *model)
        for component, reason in KILLS:
            self.killed.labels(component, reason, *model)

    def forget(self, card: ModelCard, digest: str) -> None:
        """Drop the metrics of a version that was removed."""
        self.drift.forget(card)
        self.model.remove(card.name, card.version, card.labels, digest[:12])
        for gauge in (self.share, self.serving, self.ready, self.breaker):
            gauge.remove_by_labels({"model": card.name, "version": card.version})


@contextmanager
def metrics_server(metrics: Metrics, settings: Settings) -> Iterator[None]:
    """Within, they are served on a port of their own, if the settings name one.

    Raises OSError when it is in use.
    """
    if settings.metrics_port is None:
        yield
        return
    server, thread = start_http_server(
        settings.metrics_port, settings.metrics_host, metrics.registry
    )
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
