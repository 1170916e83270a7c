"""What images install is pinned to the hash, in the versions of constraints.txt, and complete."""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from image.lock import PROJECT, TARGETS

ROOT = Path(__file__).parents[2]
ENTRY = re.compile(r"^(\S+)==(\S+) \\\n    --hash=sha256:[0-9a-f]{64}$", re.M)
# Whose versions follow from that of torch: constraints.txt is for machines without a GPU, too.
OF_TORCH = ("nvidia-", "cuda-", "triton")


def locked(target: str) -> dict[str, str]:
    """Name and version of everything that a target installs."""
    text = (ROOT / "image" / f"{target}.txt").read_text()
    locked_versions = {
        str(canonicalize_name(name)): version for name, version in ENTRY.findall(text)
    }
    assert len(locked_versions) == text.count("==")  # nothing without a hash
    return locked_versions


@pytest.mark.parametrize("target", TARGETS)
def test_versions_are_those_of_the_constraints(target: str) -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line and line[0] != "#")
    constrained = {str(canonicalize_name(name)): version for name, version in pinned.items()}
    for name, version in locked(target).items():
        if not name.startswith(OF_TORCH):
            assert Version(version).public == constrained.get(name, ""), name


@pytest.mark.parametrize("target", TARGETS)
def test_everything_that_is_required_is_locked(target: str) -> None:
    extras, build = TARGETS[target]
    lines = [*PROJECT["dependencies"]]
    lines += [line for extra in extras for line in PROJECT["optional-dependencies"][extra]]
    locked_versions = locked(target)
    for requirement in map(Requirement, lines):
        version = locked_versions[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), requirement
    assert locked_versions["torch"].endswith("+cpu") is bool(build)


def test_what_scores_an_archive_reads_object_stores_and_is_sent_jobs() -> None:
    assert {"s3fs", "aiohttp-cors", "opencensus"} <= set(locked("scoring"))


def test_the_dockerfile_installs_what_is_locked_and_nothing_else() -> None:
    text = (ROOT / "Dockerfile").read_text()
    (stage, rest) = text.split("FROM dependencies AS code")
    copied = [line.split()[1:-1] for line in stage.splitlines() if line.startswith("COPY")]
    assert copied == [["image/${TARGET}.txt"]]  # the layer does not change with the code
    assert "--require-hashes --no-deps" in stage
    assert all(
        "--no-deps" in line for line in rest.splitlines() if " install " in line and "pip" in line
    )


def test_the_base_is_pinned_by_digest() -> None:
    assert re.search(r"^ARG BASE=\S+@sha256:[0-9a-f]{64}$", (ROOT / "Dockerfile").read_text(), re.M)
