"""Manifests are whole, safe by default, and speak of settings and metrics that exist."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.drift import Readings
from service.metrics import Metrics
from service.settings import Settings

K8S = Path(__file__).parents[1] / "k8s"


def _documents() -> dict[Path, dict[str, Any]]:
    return {path: yaml.safe_load(path.read_text()) for path in sorted(K8S.rglob("*.yaml"))}


def _pod() -> dict[str, Any]:
    pod: dict[str, Any] = yaml.safe_load((K8S / "base" / "deployment.yaml").read_text())["spec"]["template"]["spec"]
    return pod


def test_kustomizations_name_what_is_there() -> None:
    for path, document in _documents().items():
        if path.name == "kustomization.yaml":
            for name in [*document.get("resources", []), *document.get("components", [])]:
                assert (path.parent / name).exists(), f"{path}: {name}"


def test_every_resource_of_the_base_is_used() -> None:
    listed = set(yaml.safe_load((K8S / "base" / "kustomization.yaml").read_text())["resources"])
    assert listed == {path.name for path in (K8S / "base").glob("*.yaml")} - {"kustomization.yaml"}


def test_the_pod_meets_the_restricted_standard() -> None:
    pod = _pod()
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    inside = container["securityContext"]
    assert inside == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    assert pod["automountServiceAccountToken"] is False


def test_alive_and_ready_are_different_questions() -> None:
    (container,) = _pod()["containers"]
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == container["startupProbe"]["httpGet"]["path"] == "/readyz"


def test_a_pod_lives_long_enough_to_finish_what_it_accepted() -> None:
    data = yaml.safe_load((K8S / "base" / "configmap.yaml").read_text())["data"]
    settings = Settings(**{name.removeprefix("AFFECTGAN_").lower(): value for name, value in data.items()})
    assert _pod()["terminationGracePeriodSeconds"] > settings.drain_seconds + settings.max_deadline_seconds + settings.job_drain_seconds


def test_every_setting_is_one_the_gateway_knows() -> None:
    maps = [document["data"] for document in _documents().values() if document.get("kind") == "ConfigMap"]
    assert {name.removeprefix("AFFECTGAN_").lower() for data in maps for name in data} <= set(Settings.model_fields)


def test_figures_are_scraped_where_they_are_served() -> None:
    data = yaml.safe_load((K8S / "base" / "configmap.yaml").read_text())["data"]
    (container,) = _pod()["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    monitor = yaml.safe_load((K8S / "components/monitoring/servicemonitor.yaml").read_text())["spec"]["endpoints"][0]
    assert ports[monitor["port"]] == int(data["AFFECTGAN_METRICS_PORT"]) and data["AFFECTGAN_METRICS_HOST"] == "0.0.0.0"


def test_nothing_is_reached_that_no_policy_names() -> None:
    policies = [document["spec"] for document in _documents().values() if document.get("kind") == "NetworkPolicy"]
    assert all(policy["policyTypes"] in (["Ingress", "Egress"], ["Egress"]) for policy in policies)
    assert "egress" not in yaml.safe_load((K8S / "base" / "networkpolicy.yaml").read_text())["spec"]


@pytest.mark.parametrize(
    "rule", yaml.safe_load((K8S / "components/monitoring/prometheusrule.yaml").read_text())["spec"]["groups"][0]["rules"]
)
def test_alerts_watch_metrics_that_exist(rule: dict[str, Any]) -> None:
    known = {metric.name for metric in Metrics().registry.collect()} | {metric.name for metric in Readings().collect()}
    for name in re.findall(r"affectgan_[a-z_]+", rule["expr"]):
        assert re.sub(r"_(count|bucket|sum|total)$", "", name) in known
