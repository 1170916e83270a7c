"""Manifests are whole, safe by default, fit the API of Kubernetes, and speak of settings and
metrics that exist.
"""

import re
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubeflow_trainer_api.models import TrainerV1alpha1TrainingRuntime, TrainerV1alpha1TrainJob

from affect.archive import OPERATIONS
from affect.artefacts import Reference
from service.inference.declaration import Declaration
from service.settings import Settings
from tests.support.manifests import (
    K8S,
    OVERLAYS,
    pod_templates,
    promtool,
    rendered,
    selected,
    series_names,
    the,
)
from training.gan.checkpoint import CHECKPOINT_FILE

ROOT = K8S.parent
RULES = yaml.safe_load((K8S / "components/monitoring/prometheusrule.yaml").read_text())["spec"]
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule]
RECORDED = {
    rule["record"] for group in RULES["groups"] for rule in group["rules"] if "record" in rule
}
KUBERNETES = ["1.33", "1.35", "1.37"]
# Kinds of operators, whose schemas are not in Kubernetes' own API.
CUSTOM = {
    "ExternalSecret",
    "Gateway",
    "HTTPRoute",
    "PrometheusRule",
    "RayJob",
    "ScaledObject",
    "ServiceMonitor",
    "TrainJob",
    "TrainingRuntime",
}


def settings_of(overlay: str) -> dict[str, str]:
    """The variables of the gateway's ConfigMap."""
    data: dict[str, str] = the(overlay, "ConfigMap")["data"]
    return data


def pod_of(overlay: str) -> dict[str, Any]:
    pod: dict[str, Any] = the(overlay, "Deployment")["spec"]["template"]["spec"]
    return pod


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_is_applied_fits_the_api_of_kubernetes(overlay: str, version: str) -> None:
    for manifest in rendered(f"overlays/{overlay}"):
        if manifest["kind"] not in CUSTOM:
            kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("path", sorted((K8S / "components").iterdir()), ids=lambda path: path.name)
def test_every_manifest_of_a_component_is_used(path: Path) -> None:
    made = yaml.safe_load((path / "kustomization.yaml").read_text())
    patches = [patch["path"] for patch in made.get("patches", []) if "path" in patch]
    generated = [
        name for one in made.get("configMapGenerator", []) for name in one.get("files", [])
    ]
    listed = {*made.get("resources", []), *patches, *generated}
    files = {file.name for file in path.glob("*.yaml")} - {"kustomization.yaml"}
    assert {name for name in listed if "/" not in name and name.endswith(".yaml")} == files


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_meets_the_restricted_standard(overlay: str) -> None:
    made = rendered(f"overlays/{overlay}")
    for _, pod in (template for manifest in made for template in pod_templates(manifest)):
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
        assert pod["automountServiceAccountToken"] is False
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_alive_and_ready_are_different_questions() -> None:
    (container,) = pod_of("base")["containers"]
    paths = [
        container[f"{probe}Probe"]["httpGet"]["path"]
        for probe in ("liveness", "readiness", "startup")
    ]
    assert paths == ["/healthz", "/readyz", "/readyz"]


def test_a_pod_lives_long_enough_to_finish_what_it_accepted() -> None:
    seconds = {
        name: float(value) for name, value in settings_of("base").items() if "SECONDS" in name
    }
    assert pod_of("base")["terminationGracePeriodSeconds"] > sum(seconds.values())


def test_a_changed_setting_rolls_out() -> None:
    (container,) = pod_of("base")["containers"]
    name = container["envFrom"][0]["configMapRef"]["name"]
    assert re.fullmatch(r"affectgan-[a-z0-9]{10}", name)
    assert name == the("base", "ConfigMap")["metadata"]["name"]


def test_figures_are_scraped_where_they_are_served() -> None:
    (container,) = pod_of("overlays/production")["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    monitor = the("overlays/production", "ServiceMonitor")["spec"]["endpoints"][0]
    settings = settings_of("overlays/production")
    assert ports[monitor["port"]] == int(settings["AFFECTGAN_METRICS_PORT"])
    assert settings["AFFECTGAN_METRICS_HOST"] == "0.0.0.0"


def test_nothing_is_reached_that_no_policy_names() -> None:
    policies = [one for one in rendered("overlays/production") if one["kind"] == "NetworkPolicy"]
    kinds = (["Ingress", "Egress"], ["Egress"])
    assert all(policy["spec"]["policyTypes"] in kinds for policy in policies)
    assert "egress" not in the("base", "NetworkPolicy")["spec"]


# -- secrets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlay", ["production", "staging", "gpu"])
def test_a_pod_does_not_start_without_its_secret(overlay: str) -> None:
    names = {item["key"] for item in _demanded(overlay)["items"]}
    assert names == {"keys.yaml", "affectgan_jobs_key", "affectgan_cache_secret"}
    assert {name.removeprefix("affectgan_") for name in names - {"keys.yaml"}} <= set(
        Settings.model_fields
    )


def _demanded(overlay: str) -> dict[str, Any]:
    """The Secret without which the gateway does not start."""
    volumes = pod_of(f"overlays/{overlay}")["volumes"]
    (projected,) = [volume["projected"] for volume in volumes if volume["name"] == "secrets"]
    sources: list[dict[str, Any]] = [source["secret"] for source in projected["sources"]]
    (demanded,) = [secret for secret in sources if not secret.get("optional")]
    return demanded


def test_keys_are_read_from_the_file_that_is_read_again() -> None:
    settings = settings_of("overlays/production")
    (mount,) = [
        mount
        for mount in pod_of("overlays/production")["containers"][0]["volumeMounts"]
        if mount["mountPath"] == settings["AFFECTGAN_SECRETS_DIR"]
    ]
    assert settings["AFFECTGAN_KEYS_FILE"] == f"{mount['mountPath']}/keys.yaml"
    assert mount["readOnly"] and "subPath" not in mount  # a subPath is never written anew


def test_the_external_secret_fills_the_secret_that_the_deployment_needs() -> None:
    path = K8S / "components/externalsecret/externalsecret.yaml"
    made = yaml.safe_load(path.read_text())["spec"]
    secret = _demanded("production")
    assert made["target"]["name"] == secret["name"]
    assert {one["secretKey"] for one in made["data"]} == {item["key"] for item in secret["items"]}


def test_redis_keeps_on_a_volume_what_it_has_accepted() -> None:
    redis = the("overlays/production", "StatefulSet", "affectgan-redis")["spec"]
    arguments = redis["template"]["spec"]["containers"][0]["args"]
    assert arguments[arguments.index("--appendonly") + 1] == "yes"
    (mount,) = redis["template"]["spec"]["containers"][0]["volumeMounts"]
    assert mount["name"] == redis["volumeClaimTemplates"][0]["metadata"]["name"]
    assert mount["mountPath"] == arguments[arguments.index("--dir") + 1]


# -- scaling ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overlay", "namespace"), [("production", "affectgan"), ("staging", "affectgan-staging")]
)
def test_pods_are_scaled_by_what_waits_in_their_own_namespace(overlay: str, namespace: str) -> None:
    triggers = the(f"overlays/{overlay}", "ScaledObject")["spec"]["triggers"]
    queries = [one["metadata"]["query"] for one in triggers if one["type"] == "prometheus"]
    asked = [selector for query in queries for selector in selected(query)]
    assert [selector.name for selector in asked] == [
        "affectgan_backlog_seconds",
        "affectgan_jobs_waiting",
    ]
    assert {str(s.matchers.matchers[0].value) for s in asked} == {namespace}
    assert not [one for one in rendered(f"overlays/{overlay}") if "Autoscaler" in one["kind"]]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_tier_is_scaled_by_its_own_backlog_and_gets_its_own_requests(operation: str) -> None:
    name = f"affectgan-{operation}"
    scaler = the("overlays/tiers", "ScaledObject", name)["spec"]
    query = next(selected(scaler["triggers"][0]["metadata"]["query"]))
    assert {one.name: one.value for one in query.matchers.matchers}["operation"] == operation
    deployment = the("overlays/tiers", "Deployment", scaler["scaleTargetRef"]["name"])
    service = the("overlays/tiers", "Service", name)["spec"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["selector"].items() <= labels.items()
    assert labels["app.kubernetes.io/component"] == operation
    rules = the("overlays/tiers", "HTTPRoute")["spec"]["rules"]
    assert [rule for rule in rules if rule["backendRefs"][0]["name"] == name]
    variables = the("overlays/tiers", "ConfigMap", name)["data"]
    assert variables["AFFECTGAN_OPERATIONS"] == operation
    assert variables["AFFECTGAN_JOB_WORKERS"] == "0"


def test_one_tier_does_the_jobs_of_all() -> None:
    variables = the("overlays/tiers", "ConfigMap", "affectgan-jobs")["data"]
    assert int(variables["AFFECTGAN_JOB_WORKERS"]) > 0 and "AFFECTGAN_OPERATIONS" not in variables
    (trigger,) = the("overlays/tiers", "ScaledObject", "affectgan-jobs")["spec"]["triggers"]
    (query,) = selected(trigger["metadata"]["query"])
    assert query.name == "affectgan_jobs_waiting"


def test_a_gpu_is_asked_for_where_there_are_some() -> None:
    (container,) = pod_of("overlays/gpu")["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"


@pytest.mark.parametrize("overlay", ["production", "staging"])
def test_what_runs_is_pinned_by_digest(overlay: str) -> None:
    (container,) = pod_of(f"overlays/{overlay}")["containers"]
    assert re.fullmatch(r"[\w./-]+@sha256:[0-9a-f]{64}", container["image"])


def test_the_way_in_ends_tls_and_outlasts_the_longest_deadline() -> None:
    (listener,) = the("overlays/production", "Gateway")["spec"]["listeners"]
    assert listener["protocol"] == "HTTPS" and listener["tls"]["mode"] == "Terminate"
    (rule,) = the("overlays/production", "HTTPRoute")["spec"]["rules"]
    settings = settings_of("overlays/production")
    longest = float(settings["AFFECTGAN_MAX_DEADLINE_SECONDS"])
    assert float(rule["timeouts"]["request"].removesuffix("s")) > longest
    assert int(settings["AFFECTGAN_MAX_BODY_BYTES"]) < Settings().max_body_bytes


# -- versions --------------------------------------------------------------------------------------


def test_the_versions_of_a_pod_are_a_file_that_changes_under_it() -> None:
    manifest = the("overlays/staging", "ConfigMap", "affectgan-versions")
    assert manifest["metadata"]["name"] == "affectgan-versions"  # a digest would roll pods out
    declared = Declaration.parse(manifest["data"]["versions.yaml"], "it")
    assert all(Reference.parse(one).digest for one in declared.references.values())
    (container,) = pod_of("overlays/staging")["containers"]
    assert "--models" not in container["args"]
    settings = settings_of("overlays/staging")
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert "subPath" not in mounts[str(Path(settings["AFFECTGAN_VERSIONS"]).parent)]
    assert settings["AFFECTGAN_MODELS_CACHE"] in mounts


# -- training --------------------------------------------------------------------------------------


def test_the_pods_of_a_run_find_the_first_of_them_by_name() -> None:
    job = the("overlays/training", "Job", "affectgan-train")
    pod = job["spec"]["template"]["spec"]
    environment = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}
    service = the("overlays/training", "Service", "affectgan-train")["metadata"]["name"]
    assert pod["subdomain"] == service
    assert environment["LEADER"] == f"{job['metadata']['name']}-0.{service}"
    assert int(str(environment["NODES"])) == job["spec"]["completions"]


def test_a_trainjob_fits_the_schemas_of_kubeflow() -> None:
    job = TrainerV1alpha1TrainJob.from_dict(the("overlays/trainjob", "TrainJob", "affectgan-train"))
    runtime = the("overlays/trainjob", "TrainingRuntime")
    assert job is not None and TrainerV1alpha1TrainingRuntime.from_dict(runtime) is not None
    assert job.spec is not None and job.spec.runtime_ref.name == runtime["metadata"]["name"]
    (replicated,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    (script,) = [
        volume["configMap"]["name"]
        for volume in replicated["template"]["spec"]["template"]["spec"]["volumes"]
        if "configMap" in volume
    ]
    made = the("overlays/trainjob", "ConfigMap", "affectgan-train-script")
    assert script == made["metadata"]["name"]


def test_a_lost_pod_goes_on_from_the_checkpoint(tmp_path: Path) -> None:
    script = (K8S / "components/training/train.sh").read_text().replace("/runs/", f"{tmp_path}/")
    (tmp_path / "python").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "python").chmod(0o755)
    (tmp_path / "train.sh").write_text(script)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "AFFECTGAN_RUN": "r", "PET_NODE_RANK": "1"}
    environment |= {"AFFECTGAN_LABELS": "both", "PET_NNODES": "2", "PET_MASTER_ADDR": "first"}

    def started() -> str:
        command = ["sh", str(tmp_path / "train.sh")]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True
        ).stdout

    assert f"--data /database --labels both --out {tmp_path}/r" in started()
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / CHECKPOINT_FILE).touch()
    assert started().endswith(f"train --resume {tmp_path}/r\n")
    assert "--nnodes 2" in started() and "--master-addr first" in started()


# -- alerts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [rule for group in RULES["groups"] for rule in group["rules"]])
def test_rules_ask_for_series_that_exist(rule: dict[str, Any]) -> None:
    names = {selector.name for selector in selected(rule["expr"])}
    assert names and names <= series_names() | RECORDED


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_every_alert_has_its_section_in_the_runbook(alert: dict[str, Any]) -> None:
    url, anchor = alert["annotations"]["runbook_url"].split("#")
    assert anchor == alert["alert"].lower() and url.endswith("/runbook/")
    assert f"## {alert['alert']}\n" in (ROOT / "docs/runbook.md").read_text()


def test_prometheus_takes_the_rules(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(RULES))
    done = promtool("check", "rules", "rules.yaml", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def fires(folder: Path, alert: str, series: dict[str, str], minutes: int = 45) -> bool:
    """Whether an alert fires after series with these values, one a minute.

    promtool is told that nothing should fire, and so complains about what does.
    """
    (folder / "rules.yaml").write_text(yaml.safe_dump(RULES))
    inputs = [{"series": one, "values": values} for one, values in series.items()]
    nothing = {"eval_time": f"{minutes}m", "alertname": alert, "exp_alerts": []}
    test = {"interval": "1m", "input_series": inputs, "alert_rule_test": [nothing]}
    (folder / "test.yaml").write_text(
        yaml.safe_dump({"rule_files": ["rules.yaml"], "tests": [test]})
    )
    done = promtool("test", "rules", "test.yaml", folder=folder)
    output = done.stdout + done.stderr
    assert done.returncode == 0 or f"alertname: {alert}, time: {minutes}m" in output, output
    return done.returncode != 0


def drift(faces: int, psi: float) -> dict[str, str]:
    labels = 'instance="a",model="affectgan",version="1.0"'
    return {
        f'affectgan_drift_psi{{{labels},label="valence"}}': f"{psi}x60",
        f"affectgan_drift_faces{{{labels}}}": f"{faces}x60",
    }


def requests(*series: tuple[str, int, float]) -> dict[str, str]:
    """Requests of (route, status) at so many a minute."""
    return {
        f'affectgan_request_seconds_count{{namespace="n",route="{route}",status="{status}"}}': (
            f"0+{rate}x600"
        )
        for route, status, rate in series
    }


PROBES = ("/readyz", 200, 120)
KILLS = 'affectgan_watchdog_kills_total{what="explain",reason="hung",version="1.0"}'
DEATHS = 'affectgan_worker_deaths_total{operation="explain",version="1.0"}'
LOST = 'affectgan_jobs_total{operation="predict",outcome="lost"}'
OLDEST = "affectgan_jobs_oldest_seconds"


@pytest.mark.parametrize(
    ("alert", "series", "expected"),
    [
        ("AffectGANDrift", drift(5000, 0.4), True),
        ("AffectGANDrift", drift(5000, 0.1), False),
        ("AffectGANDrift", drift(300, 0.4), False),
        ("AffectGANErrors", requests(PROBES, ("/v1/predict", 500, 1)), True),
        ("AffectGANErrors", requests(PROBES, ("/v1/predict", 200, 1)), False),
        ("AffectGANBudgetFast", requests(PROBES, ("/v1/predict", 500, 1)), True),
        (
            "AffectGANBudgetFast",
            requests(("/v1/predict", 500, 1), ("/v1/predict", 200, 99)),
            False,
        ),
        ("AffectGANWorkersReplaced", {KILLS: "0x30 4x30"}, True),
        ("AffectGANWorkersReplaced", {KILLS: "0x60"}, False),
        ("AffectGANWorkersDie", {DEATHS: "0x30 1+1x30"}, True),
        ("AffectGANJobsLost", {LOST: "0x40 1x20"}, True),
        ("AffectGANJobsLost", {LOST: "0x60"}, False),
        ("AffectGANJobsWait", {OLDEST: "0+60x60"}, True),
        ("AffectGANJobsWait", {OLDEST: "20x60"}, False),
    ],
)
def test_an_alert_fires_when_it_should(
    tmp_path: Path, alert: str, series: dict[str, str], expected: bool
) -> None:
    assert fires(tmp_path, alert, series) is expected


# -- the image -------------------------------------------------------------------------------------


def test_the_image_has_an_init_and_what_its_settings_need() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert 'ENTRYPOINT ["tini", "--"]' in text
    assert "opentelemetry-sdk==" in (ROOT / "image/cpu.txt").read_text()
