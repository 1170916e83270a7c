"""Manifests are whole, safe by default, and speak of settings and metrics that exist."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.observability.drift import DriftCollector
from service.observability.metrics import Metrics
from service.settings import Settings

K8S = Path(__file__).parents[1] / "k8s"
SECRETS = "AFFECTGAN_SECRETS_DIR"  # where the settings are, rather than one of them
RULES = K8S / "components" / "monitoring" / "prometheusrule.yaml"


def _documents() -> dict[Path, dict[str, Any]]:
    return {path: yaml.safe_load(path.read_text()) for path in sorted(K8S.rglob("*.yaml"))}


def _pod(folder: str = "base") -> dict[str, Any]:
    pod: dict[str, Any] = yaml.safe_load((K8S / folder / "deployment.yaml").read_text())["spec"][
        "template"
    ]["spec"]
    return pod


def test_kustomizations_name_what_is_there() -> None:
    for path, document in _documents().items():
        if path.name == "kustomization.yaml":
            for name in [*document.get("resources", []), *document.get("components", [])]:
                assert (path.parent / name).exists(), f"{path}: {name}"


@pytest.mark.parametrize(
    "folder",
    ["base", *(f"components/{path.name}" for path in sorted((K8S / "components").iterdir()))],
)
def test_every_manifest_of_a_folder_is_used(folder: str) -> None:
    made = yaml.safe_load((K8S / folder / "kustomization.yaml").read_text())
    listed = {
        *made["resources"],
        *(patch["path"] for patch in made.get("patches", []) if "path" in patch),
    }
    assert listed == {path.name for path in (K8S / folder).glob("*.yaml")} - {"kustomization.yaml"}


@pytest.mark.parametrize("folder", ["base", "components/redis"])
def test_the_pod_meets_the_restricted_standard(folder: str) -> None:
    pod = _pod(folder)
    (container,) = pod["containers"]
    assert (
        pod["securityContext"]["runAsNonRoot"]
        and pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    )
    inside = container["securityContext"]
    assert inside == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False


def test_alive_and_ready_are_different_questions() -> None:
    (container,) = _pod()["containers"]
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert (
        container["readinessProbe"]["httpGet"]["path"]
        == container["startupProbe"]["httpGet"]["path"]
        == "/readyz"
    )


def test_a_pod_lives_long_enough_to_finish_what_it_accepted() -> None:
    data = yaml.safe_load((K8S / "base" / "configmap.yaml").read_text())["data"]
    settings = Settings(
        **{
            name.removeprefix("AFFECTGAN_").lower(): value
            for name, value in data.items()
            if name != SECRETS
        }
    )
    assert (
        _pod()["terminationGracePeriodSeconds"]
        > settings.drain_seconds + settings.max_deadline_seconds + settings.job_drain_seconds
    )


def test_every_setting_is_one_the_gateway_knows() -> None:
    maps = [
        document["data"]
        for document in _documents().values()
        if document.get("kind") == "ConfigMap"
    ]
    assert {
        name.removeprefix("AFFECTGAN_").lower() for data in maps for name in data.keys() - {SECRETS}
    } <= set(Settings.model_fields)


def test_figures_are_scraped_where_they_are_served() -> None:
    data = yaml.safe_load((K8S / "base" / "configmap.yaml").read_text())["data"]
    (container,) = _pod()["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    monitor = yaml.safe_load((K8S / "components/monitoring/servicemonitor.yaml").read_text())[
        "spec"
    ]["endpoints"][0]
    assert (
        ports[monitor["port"]] == int(data["AFFECTGAN_METRICS_PORT"])
        and data["AFFECTGAN_METRICS_HOST"] == "0.0.0.0"
    )


def test_nothing_is_reached_that_no_policy_names() -> None:
    policies = [
        document["spec"]
        for document in _documents().values()
        if document.get("kind") == "NetworkPolicy"
    ]
    assert all(policy["policyTypes"] in (["Ingress", "Egress"], ["Egress"]) for policy in policies)
    assert "egress" not in yaml.safe_load((K8S / "base" / "networkpolicy.yaml").read_text())["spec"]


@pytest.mark.parametrize(
    "rule",
    yaml.safe_load((K8S / "components/monitoring/prometheusrule.yaml").read_text())["spec"][
        "groups"
    ][0]["rules"],
)
def test_alerts_watch_metrics_that_exist(rule: dict[str, Any]) -> None:
    known = {metric.name for metric in Metrics().registry.collect()} | {
        metric.name for metric in DriftCollector().collect()
    }
    for name in re.findall(r"affectgan_[a-z_]+", rule["expr"]):
        assert re.sub(r"_(count|bucket|sum|total)$", "", name) in known


def test_the_optional_secret_is_mounted_where_the_gateway_reads_it() -> None:
    data = yaml.safe_load((K8S / "base" / "configmap.yaml").read_text())["data"]
    (container,) = _pod()["containers"]
    (mount,) = [mount for mount in container["volumeMounts"] if mount["mountPath"] == data[SECRETS]]
    (secret,) = [
        volume["secret"] for volume in _pod()["volumes"] if volume["name"] == mount["name"]
    ]
    assert secret["optional"] and mount["readOnly"]


def test_the_secrets_that_the_deployment_names_are_settings() -> None:
    named = set(re.findall(r"\baffectgan_(\w+)", (K8S / "base" / "deployment.yaml").read_text()))
    assert named >= {"keys", "jobs_key", "cache_secret"} and named <= set(Settings.model_fields)


def test_autoscaling_by_backlog_asks_for_a_metric_that_exists() -> None:
    triggers = yaml.safe_load((K8S / "components" / "backlog" / "scaledobject.yaml").read_text())[
        "spec"
    ]["triggers"]
    (query,) = [
        trigger["metadata"]["query"] for trigger in triggers if trigger["type"] == "prometheus"
    ]
    assert re.findall(r"affectgan_[a-z_]+", query) == [
        metric.name for metric in Metrics().expected.collect()
    ]


@pytest.mark.skipif(
    not shutil.which("promtool"), reason="promtool is not installed (Debian: prometheus)"
)
def test_prometheus_takes_the_alerts(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(yaml.safe_dump(yaml.safe_load(RULES.read_text())["spec"]))
    told = subprocess.run(["promtool", "check", "rules", rules], capture_output=True, text=True)
    assert told.returncode == 0, told.stdout + told.stderr


@pytest.mark.skipif(
    not shutil.which("promtool"), reason="promtool is not installed (Debian: prometheus)"
)
@pytest.mark.parametrize(
    ("faces", "psi", "fires"), [(5000, 0.4, True), (5000, 0.1, False), (300, 0.4, False)]
)
def test_drift_is_told_of_enough_faces(tmp_path: Path, faces: int, psi: float, fires: bool) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(yaml.safe_load(RULES.read_text())["spec"]))
    labels = {"model": "affectgan", "version": "1.0"}
    alert = {
        "exp_labels": {**labels, "label": "valence", "severity": "ticket"},
        "exp_annotations": {
            "summary": "valence as version 1.0 reads it is not distributed as on its "
            f"reference faces: PSI {psi}"
        },
    }
    series = [
        {
            "series": 'affectgan_drift_psi{instance="a",model="affectgan",'
            'version="1.0",label="valence"}',
            "values": f"{psi}x60",
        },
        {
            "series": 'affectgan_drift_faces{instance="a",model="affectgan",version="1.0"}',
            "values": f"{faces}x60",
        },
    ]
    asked = {
        "eval_time": "45m",
        "alertname": "AffectGANDrift",
        "exp_alerts": [alert] if fires else [],
    }
    case = {
        "rule_files": ["rules.yaml"],
        "tests": [{"interval": "1m", "input_series": series, "alert_rule_test": [asked]}],
    }
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(case))
    told = subprocess.run(
        ["promtool", "test", "rules", "test.yaml"], cwd=tmp_path, capture_output=True, text=True
    )
    assert told.returncode == 0, told.stdout + told.stderr


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")
def test_what_runs_in_production_is_rendered_with_its_redis() -> None:
    told = subprocess.run(
        ["kubectl", "kustomize", K8S / "overlays" / "production"],
        capture_output=True,
        text=True,
        check=True,
    )
    made = {
        (each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(told.stdout)
    }
    address = made["ConfigMap", "affectgan"]["data"]["AFFECTGAN_REDIS_URL"]
    assert (
        re.fullmatch(r"redis://([\w-]+):6379/0", address)[1]
        == made["Service", "affectgan-redis"]["metadata"]["name"]
    )  # type: ignore[index]
    assert made["HorizontalPodAutoscaler", "affectgan"]["spec"]["minReplicas"] == 3
