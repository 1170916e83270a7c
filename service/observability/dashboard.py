"""The Grafana dashboard: `python -m service.observability.dashboard` writes it anew.

k8s/components/monitoring/dashboard.json is what Grafana reads; a test compares the two and checks
every query against the metrics of a gateway.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATH = Path(__file__).parents[2] / "k8s" / "components" / "monitoring" / "dashboard.json"
WIDTH, HEIGHT, COLUMNS = 8, 7, 3  # of a panel, in Grafana's grid of 24 columns
NAMESPACE = 'namespace="$namespace"'
CLIENTS = f'{NAMESPACE},route=~"/v[12]/.*"'


@dataclass(frozen=True)
class Panel:
    """A graph: queries by their legend, and the unit as Grafana calls it."""

    title: str
    unit: str
    queries: dict[str, str]


def _rate(metric: str, by: str, labels: str = NAMESPACE) -> str:
    return f"sum by ({by}) (rate({metric}{{{labels}}}[$__rate_interval]))"


def _quantile(share: float, histogram: str, by: str, labels: str = NAMESPACE) -> str:
    return f"histogram_quantile({share}, {_rate(f'{histogram}_bucket', f'le, {by}', labels)})"


ROWS: dict[str, tuple[Panel, ...]] = {
    "What clients see": (
        Panel(
            "Requests",
            "reqps",
            {
                "{{route}} {{status}}": _rate(
                    "affectgan_request_seconds_count", "route, status", CLIENTS
                )
            },
        ),
        Panel(
            "Share of errors (5xx)",
            "percentunit",
            {"5 min": "affectgan:error_ratio:rate5m", "6 h": "affectgan:error_ratio:rate6h"},
        ),
        Panel(
            "Time to answer, 99th percentile",
            "s",
            {"{{route}}": _quantile(0.99, "affectgan_request_seconds", "route", CLIENTS)},
        ),
    ),
    "How full it is": (
        Panel(
            "Backlog, seconds of work",
            "s",
            {"{{operation}}": f"sum by (operation) (affectgan_backlog_seconds{{{NAMESPACE}}})"},
        ),
        Panel(
            "Refused",
            "reqps",
            {
                "{{operation}} {{reason}}": _rate(
                    "affectgan_requests_refused_total", "operation, reason"
                )
            },
        ),
        Panel(
            "Jobs",
            "short",
            {
                "waiting": f"max(affectgan_jobs_waiting{{{NAMESPACE}}})",
                "oldest, s": f"max(affectgan_jobs_oldest_seconds{{{NAMESPACE}}})",
            },
        ),
    ),
    "Workers": (
        Panel(
            "Ready (pods)",
            "short",
            {
                "{{operation}} {{version}}": "sum by (operation, version) "
                f"(affectgan_operation_ready{{{NAMESPACE}}})"
            },
        ),
        Panel(
            "Deaths, kills and restarts",
            "short",
            {
                "{{operation}} ended": "sum by (operation) "
                f"(increase(affectgan_worker_deaths_total{{{NAMESPACE}}}[15m]))",
                "{{what}} {{reason}}": "sum by (what, reason) "
                f"(increase(affectgan_watchdog_kills_total{{{NAMESPACE}}}[15m])) > 0",
                "TorchServe": "sum "
                f"(increase(affectgan_torchserve_restarts_total{{{NAMESPACE}}}[15m]))",
            },
        ),
        Panel(
            "Time of a model server, median",
            "s",
            {
                "{{operation}} {{version}}": _quantile(
                    0.5, "affectgan_backend_seconds", "operation, version"
                )
            },
        ),
    ),
    "Versions": (
        Panel(
            "Served (pods)",
            "short",
            {
                "{{model}} {{version}} {{digest}}": "count by (model, version, digest) "
                f"(affectgan_model_info{{{NAMESPACE}}})"
            },
        ),
        Panel(
            "In flight",
            "short",
            {
                "{{version}}": "sum by (version) "
                f"(affectgan_version_requests_in_flight{{{NAMESPACE}}})"
            },
        ),
        Panel(
            "Drift (PSI)",
            "short",
            {
                "{{version}} {{label}}": "max by (version, label) "
                f"(affectgan_drift_psi{{{NAMESPACE}}})"
            },
        ),
    ),
    "Beside it": (
        Panel(
            "Redis failures",
            "short",
            {"{{purpose}} {{reason}}": _rate("affectgan_redis_failures_total", "purpose, reason")},
        ),
        Panel(
            "Known answers",
            "reqps",
            {"{{outcome}}": _rate("affectgan_cache_requests_total", "outcome")},
        ),
        Panel(
            "Memory of gateways",
            "bytes",
            {"{{pod}}": f"sum by (pod) (process_resident_memory_bytes{{{NAMESPACE}}})"},
        ),
    ),
}


def dashboard() -> dict[str, Any]:
    """The document that Grafana imports."""
    namespace = {
        "name": "namespace",
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": "label_values(affectgan_operation_ready, namespace)",
        "refresh": 2,
    }
    datasource = {"name": "datasource", "type": "datasource", "query": "prometheus"}
    return {
        "title": "AffectGAN",
        "uid": "affectgan",
        "schemaVersion": 39,
        "tags": ["affectgan"],
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [datasource, namespace]},
        "panels": list(_panels()),
    }


def _panels() -> Iterable[dict[str, Any]]:
    top = 0
    for row, panels in ROWS.items():
        position = {"x": 0, "y": top, "w": WIDTH * COLUMNS, "h": 1}
        yield {"type": "row", "title": row, "gridPos": position}
        for column, panel in enumerate(panels):
            yield _panel(panel, column * WIDTH, top + 1)
        top += 1 + HEIGHT


def _panel(panel: Panel, left: int, top: int) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    targets = [
        {
            "refId": chr(ord("A") + index),
            "expr": query,
            "legendFormat": legend,
            "datasource": source,
        }
        for index, (legend, query) in enumerate(panel.queries.items())
    ]
    return {
        "type": "timeseries",
        "title": panel.title,
        "datasource": source,
        "gridPos": {"x": left, "y": top, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": targets,
    }


def text() -> str:
    """The file."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    PATH.write_text(text())
