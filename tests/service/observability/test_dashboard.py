"""The dashboard asks Prometheus for what a gateway exposes."""

import json

import pytest
import yaml

from service.observability import dashboard
from tests.support.manifests import K8S, selected, series_names, the

RULES = yaml.safe_load((K8S / "components/monitoring/prometheusrule.yaml").read_text())["spec"]
RECORDED = {
    rule["record"] for group in RULES["groups"] for rule in group["rules"] if "record" in rule
}
QUERIES = [
    pytest.param(query, id=f"{panel.title}: {legend}")
    for panels in dashboard.ROWS.values()
    for panel in panels
    for legend, query in panel.queries.items()
]


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_asks_for_series_that_exist(query: str) -> None:
    names = {selector.name for selector in selected(query.replace("$__rate_interval", "5m"))}
    assert names and names <= series_names() | RECORDED


def test_the_file_is_as_the_code_writes_it() -> None:
    assert dashboard.PATH.read_text() == dashboard.text(), (
        "python -m service.observability.dashboard writes it"
    )


def test_it_is_applied_with_the_monitoring() -> None:
    manifest = the("overlays/production", "ConfigMap", "affectgan-dashboard")
    assert manifest["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(manifest["data"]["dashboard.json"])["uid"] == "affectgan"
