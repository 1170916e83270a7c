"""What manifests name is there: settings, ConfigMaps and their keys, ports, pods behind selectors,
namespaces. Each overlay is read as a whole, as an operator would before applying it.
"""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from service.settings import PREFIX, Settings, check_names
from tests.support.manifests import (
    K8S,
    OVERLAYS,
    PodTemplate,
    kustomize,
    pod_templates,
    rendered,
    selected,
    the,
)

SCRIPT = (K8S / "components/training/train.sh").read_text()
CLUSTER_WIDE = ("Namespace",)
every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


def pods(overlay: str) -> list[PodTemplate]:
    return [one for made in rendered(f"overlays/{overlay}") for one in pod_templates(made)]


def of_kind(overlay: str, *kinds: str) -> list[dict[str, Any]]:
    return [one for one in rendered(f"overlays/{overlay}") if one["kind"] in kinds]


def config_maps(overlay: str) -> dict[str, dict[str, str]]:
    return {one["metadata"]["name"]: one["data"] for one in of_kind(overlay, "ConfigMap")}


def containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [*spec["containers"], *spec.get("initContainers", [])]


def from_maps(spec: dict[str, Any]) -> list[str]:
    """Names of the ConfigMaps whose keys become variables of a pod."""
    sources = [source for one in containers(spec) for source in one.get("envFrom", [])]
    return [source["configMapRef"]["name"] for source in sources if "configMapRef" in source]


# -- variables and ConfigMaps ----------------------------------------------------------------------


@every_overlay
def test_every_variable_is_a_setting_or_one_that_the_script_reads(overlay: str) -> None:
    maps = config_maps(overlay)
    for _, spec in pods(overlay):
        given = {name: value for one in from_maps(spec) for name, value in maps[one].items()}
        for container in containers(spec):
            given |= {one["name"]: one.get("value", "") for one in container.get("env", [])}
        assert all(re.fullmatch(r"[A-Z_]+", name) for name in given), given
        script = {name for name in given if re.search(rf"\$\{{?{name}\b", SCRIPT)}
        check_names({name: value for name, value in given.items() if name not in script})


@every_overlay
def test_every_config_map_is_used_and_has_the_keys_that_are_mounted(overlay: str) -> None:
    maps, used = config_maps(overlay), set()
    for _, spec in pods(overlay):
        used |= set(from_maps(spec))
        for volume in (one["configMap"] for one in spec.get("volumes", []) if "configMap" in one):
            used.add(volume["name"])
            assert {item["key"] for item in volume.get("items", [])} <= set(maps[volume["name"]])
    assert used | {"affectgan-dashboard"} >= set(maps)  # Grafana finds that one by its label


@pytest.mark.parametrize("overlay", ["production", "staging", "tiers"])
def test_every_secret_that_is_a_setting_reaches_the_gateway(overlay: str) -> None:
    secrets = {
        f"{PREFIX}{name}".lower()
        for name, field in Settings.model_fields.items()
        if SecretStr in (field.annotation, *getattr(field.annotation, "__args__", ()))
    } - {"affectgan_keys"}  # the file keys.yaml, which is read again
    gateways = [spec for labels, spec in pods(overlay) if "redis" not in str(labels)]
    for spec in gateways:
        (volume,) = [one["projected"] for one in spec["volumes"] if one["name"] == "secrets"]
        items = [item for source in volume["sources"] for item in source["secret"]["items"]]
        assert secrets <= {item["path"] for item in items}


# -- names, ports and selectors --------------------------------------------------------------------


@every_overlay
def test_every_volume_is_mounted_and_every_mount_has_its_volume(overlay: str) -> None:
    claims = [
        one["spec"].get("volumeClaimTemplates", []) for one in of_kind(overlay, "StatefulSet")
    ]
    claimed = {one["metadata"]["name"] for several in claims for one in several}
    for _, spec in pods(overlay):
        volumes = {one["name"] for one in spec.get("volumes", [])}
        mounts = {mount["name"] for one in containers(spec) for mount in one["volumeMounts"]}
        assert volumes <= mounts <= volumes | claimed


@every_overlay
def test_every_selector_finds_pods(overlay: str) -> None:
    wanted = [one["spec"]["selector"] for one in of_kind(overlay, "Service")]
    kinds = ("PodDisruptionBudget", "Deployment", "StatefulSet")
    wanted += [one["spec"]["selector"]["matchLabels"] for one in of_kind(overlay, *kinds)]
    policies = of_kind(overlay, "NetworkPolicy")
    wanted += [one["spec"]["podSelector"]["matchLabels"] for one in policies]
    for labels in wanted:
        assert [one for one, _ in pods(overlay) if labels.items() <= one.items()], labels


@every_overlay
def test_every_port_of_a_service_is_one_of_its_pods(overlay: str) -> None:
    for service in of_kind(overlay, "Service"):
        if service["spec"].get("clusterIP") == "None":
            continue  # a name for each pod, no way to a port
        wanted = {port["targetPort"] for port in service["spec"]["ports"]}
        selector = service["spec"]["selector"]
        for labels, spec in pods(overlay):
            if selector.items() <= labels.items():
                assert wanted <= {port["name"] for port in spec["containers"][0]["ports"]}


@every_overlay
def test_every_route_leads_to_a_port_of_a_service(overlay: str) -> None:
    ports = {
        (one["metadata"]["name"], port["port"])
        for one in of_kind(overlay, "Service")
        for port in one["spec"]["ports"]
    }
    for route in of_kind(overlay, "HTTPRoute"):
        for rule in route["spec"]["rules"]:
            assert {(one["name"], one["port"]) for one in rule["backendRefs"]} <= ports


def test_gateways_that_decode_ask_the_models_that_answer_them_alone() -> None:
    overlay = "overlays/decoding"
    (gateway,) = [one for one, _ in pods("decoding") if "gateway" in one.values()]
    (ask, figures) = the(overlay, "NetworkPolicy", "affectgan-models")["spec"]["ingress"]
    assert ask["from"][0]["podSelector"]["matchLabels"] == gateway
    assert [port["port"] for port in figures["ports"]] == ["metrics"]
    asks = the(overlay, "NetworkPolicy", "affectgan-asks-models")["spec"]
    service = the(overlay, "Service", "affectgan-models")
    assert asks["podSelector"]["matchLabels"] == gateway
    assert asks["egress"][0]["to"][0]["podSelector"]["matchLabels"] == service["spec"]["selector"]
    address = f"oip://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    assert the(overlay, "ConfigMap")["data"]["AFFECTGAN_RUNTIME"] == address


@every_overlay
def test_every_probe_asks_a_port_that_is_there_for_a_path_that_is_there(overlay: str) -> None:
    paths = yaml.safe_load((K8S.parent / "openapi.yaml").read_text())["paths"]
    for container in (one for _, spec in pods(overlay) for one in spec["containers"]):
        names = {port["name"] for port in container.get("ports", [])}
        for probe in ("startup", "readiness", "liveness"):
            how = container.get(f"{probe}Probe", {})
            if container["name"] == "affectgan":
                assert how["httpGet"]["path"] in paths and how["httpGet"]["port"] in names
            elif "tcpSocket" in how:
                assert how["tcpSocket"]["port"] in names


# -- namespaces ------------------------------------------------------------------------------------


@every_overlay
def test_the_namespace_of_everything_is_made_by_the_overlay(overlay: str) -> None:
    made = {one["metadata"]["name"] for one in of_kind(overlay, "Namespace")}
    kinds = [one for one in rendered(f"overlays/{overlay}") if one["kind"] not in CLUSTER_WIDE]
    assert {one["metadata"]["namespace"] for one in kinds} == made and len(made) == 1


@pytest.mark.parametrize("overlay", ["decoding", "production", "staging", "tiers"])
def test_a_namespace_is_written_once(overlay: str, tmp_path: Path) -> None:
    shutil.copytree(K8S, tmp_path / "k8s")
    top = tmp_path / "k8s" / "overlays" / overlay / "kustomization.yaml"
    top.write_text(re.sub(r"^namespace: .*$", "namespace: elsewhere", top.read_text(), flags=re.M))
    scalers = [one for one in kustomize(top.parent) if one["kind"] == "ScaledObject"]
    triggers = [trigger["metadata"] for one in scalers for trigger in one["spec"]["triggers"]]
    queries = [one["query"] for one in triggers if "query" in one]
    matchers = [one for query in queries for s in selected(query) for one in s.matchers.matchers]
    assert {one.value for one in matchers if one.name == "namespace"} == {"elsewhere"}


# -- what an operator does to pods -----------------------------------------------------------------


@every_overlay
def test_a_node_with_the_only_pod_can_be_drained(overlay: str) -> None:
    for budget in of_kind(overlay, "PodDisruptionBudget"):
        assert budget["spec"].get("maxUnavailable", 0) >= 1


@every_overlay
def test_pods_are_there_when_prometheus_is_not(overlay: str) -> None:
    for scaler in (one["spec"] for one in of_kind(overlay, "ScaledObject")):
        least, most = scaler["minReplicaCount"], scaler["maxReplicaCount"]
        assert least <= scaler["fallback"]["replicas"] <= most


def test_pods_run_the_image_that_is_for_them() -> None:
    def images(overlay: str) -> list[str]:
        made = [one for _, spec in pods(overlay) for one in spec["containers"]]
        found = [str(one["image"]) for one in made if one["name"] == "affectgan"]
        assert all(re.search("@sha256:[0-9a-f]{64}$", one) for one in found)
        return [one.partition("@")[0].rpartition("/")[2] for one in found]

    assert images("production") == ["affectgan"]
    assert images("gpu") == ["affectgan-cuda"]
    assert images("decoding") == ["affectgan-gateway", "affectgan"]
