"""What is written for operators (KEDA, Gateway API, External Secrets, Prometheus, KubeRay) fits
their types: every field exists, none is missing, each has its type.

The types are those that npm has of their definitions (MIT). The TypeScript compiler holds every
manifest against them, and refuses a field that its type does not have.
"""

import copy
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from kubeflow_trainer_api.models import TrainerV1alpha1TrainingRuntime, TrainerV1alpha1TrainJob

from tests.support.manifests import K8S, OVERLAYS, rendered, the
from tests.support.node import TYPESCRIPT, node, npm_install

PACKAGES = (
    "@kubernetes-models/keda@2.0.0",
    "@kubernetes-models/gateway-api@2.0.0",
    "@kubernetes-models/external-secrets@2.0.0",
    "@kubernetes-models/prometheus-operator@6.0.0",
    "@kubernetes-models/apimachinery@3.0.2",
    "kubernetes-models@5.1.0",
)
# Where the type of a kind is.
TYPES = {
    "ScaledObject": "@kubernetes-models/keda/keda.sh/v1alpha1/ScaledObject",
    "Gateway": "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/Gateway",
    "HTTPRoute": "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/HTTPRoute",
    "ExternalSecret": "@kubernetes-models/external-secrets/external-secrets.io/v1/ExternalSecret",
    "PrometheusRule": (
        "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule"
    ),
    "ServiceMonitor": (
        "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor"
    ),
    "RayJob": "./rayjob",
}
RAYJOB = Path(__file__).parent / "support" / "rayjob.d.ts"
OPTIONS = ("--strict", "--noEmit", "--skipLibCheck", "--module", "es2022", "--target", "es2022")
FOLDERS = [*(f"overlays/{name}" for name in OVERLAYS), "components/externalsecret"]


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the types and the compiler."""
    folder = tmp_path_factory.mktemp("types")
    npm_install(folder, TYPESCRIPT, *PACKAGES)
    shutil.copy(RAYJOB, folder)
    return folder


def faults(folder: Path, manifests: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    """What is wrong with manifests of some names, by name; names are those of constants."""
    kinds = {manifest["kind"] for manifest in manifests.values()}
    lines = [f'import type {{ I{kind} }} from "{TYPES[kind]}";' for kind in sorted(kinds)]
    lines += [
        f"export const {name}: I{one['kind']} = {json.dumps(one)};"
        for name, one in manifests.items()
    ]
    (folder / "manifests.ts").write_text("\n".join(lines) + "\n")
    tsc = "node_modules/typescript/bin/tsc"
    done = node(folder, tsc, *OPTIONS, "--moduleResolution", "bundler", "manifests.ts")
    faults_by_kind: dict[str, list[str]] = {}
    for line, text in re.findall(r"^manifests\.ts\((\d+),\d+\): error (.*)", done.stdout, re.M):
        where = re.match(r"export const (\w+)", lines[int(line) - 1])
        assert where, f"{lines[int(line) - 1]}: {text}"
        faults_by_kind.setdefault(where[1], []).append(text)
    assert bool(faults_by_kind) == bool(done.returncode), done.stdout + done.stderr
    return faults_by_kind


def written() -> dict[str, dict[str, Any]]:
    """Every manifest of an operator's kind, by the folder it is rendered from."""
    return {
        re.sub(r"\W", "_", f"{folder}_{number}"): manifest
        for folder in FOLDERS
        for number, manifest in enumerate(rendered(folder))
        if manifest["kind"] in TYPES
    }


def test_the_resources_of_operators_fit_their_types(compiler: Path) -> None:
    manifests = written()
    assert {one["kind"] for one in manifests.values()} == set(TYPES)
    assert faults(compiler, manifests) == {}


def test_a_misspelt_field_and_a_wrong_value_are_found(compiler: Path) -> None:
    whole = {one["kind"]: one for one in written().values()}
    broken = {
        f"{fault}_{kind}": _broken(manifest, fault)
        for kind, manifest in whole.items()
        for fault in ("misspelt", "wrong")
    }
    assert set(faults(compiler, broken)) == set(broken)


def _broken(manifest: dict[str, Any], fault: str) -> dict[str, Any]:
    """With a fault in a field of its spec."""
    broken = copy.deepcopy(manifest)
    name = sorted(broken["spec"])[-1]
    value = broken["spec"].pop(name) if fault == "misspelt" else [[7.5]]
    broken["spec"][f"{name}z" if fault == "misspelt" else name] = value
    return broken


@pytest.mark.parametrize(
    ("kind", "name", "model"),
    [
        ("TrainJob", "affectgan-train", TrainerV1alpha1TrainJob),
        ("TrainingRuntime", "affectgan", TrainerV1alpha1TrainingRuntime),
    ],
)
def test_kubeflow_knows_every_field_of_a_trainjob(kind: str, name: str, model: Any) -> None:
    manifest = the("overlays/trainjob", kind, name)
    assert model.from_dict(manifest).to_dict() == manifest


def test_no_kind_of_an_operator_is_left_out() -> None:
    groups = re.compile(r"k8s\.io|^(apps|batch|policy|autoscaling)/|^v1$")
    kinds = {
        one["kind"]
        for folder in FOLDERS
        for one in rendered(folder)
        if not groups.search(one["apiVersion"])
    }
    assert kinds <= {*TYPES, "TrainJob", "TrainingRuntime"}, K8S
