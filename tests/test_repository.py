"""The README's commands exist, versions are pinned, and the shipped weights are the ones their card
describes.
"""

import re
import subprocess
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

from affect.factory import load_model

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def _requirements() -> list[Requirement]:
    extras = [
        line
        for name, lines in PROJECT["optional-dependencies"].items()
        if name != "geometry"
        for line in lines
    ]
    return [Requirement(line) for line in [*PROJECT["dependencies"], *extras]]


def test_every_dependency_has_an_exact_version_within_its_bounds() -> None:
    pinned = {
        line.split("==")[0].lower().replace("_", "-"): line.strip().split("==")[1]
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line and line[0] != "#"
    }
    for requirement in _requirements():
        name = requirement.name.lower().replace("_", "-")
        assert name in pinned, f"{name} is not in constraints.txt"
        assert requirement.specifier.contains(pinned[name]), (
            f"{name}=={pinned[name]} is outside {requirement.specifier}"
        )


def test_the_verbs_of_the_readme_are_in_the_makefile() -> None:
    verbs = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"make ([a-z-]+)", (ROOT / "README.md").read_text()))
    assert {"setup", "check", "test", "demo", "serve"} <= verbs and named <= verbs


def test_the_commands_of_the_readme_are_installed() -> None:
    named = set(re.findall(r"affectgan ([a-z]+)", (ROOT / "README.md").read_text()))
    known = {point.name for point in entry_points(group="affectgan.commands")}
    assert named and named <= known, named - known


@pytest.mark.parametrize(
    "command", sorted(point.name for point in entry_points(group="affectgan.commands"))
)
def test_every_command_has_help(command: str) -> None:
    (point,) = (
        point for point in entry_points(group="affectgan.commands") if point.name == command
    )
    assert point.load().help


def test_documents_end_their_lines_at_100_columns() -> None:
    listing = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, text=True, capture_output=True)
    tracked = listing.stdout.splitlines()
    if not tracked:
        pytest.skip("not in a git repository")
    for name in tracked:
        fenced = False
        for number, line in enumerate((ROOT / name).read_text().splitlines(), 1):
            fenced ^= line.lstrip().startswith("```")
            cannot_be_cut = fenced or " " not in line.strip()
            assert len(line) <= 100 or cannot_be_cut, f"{name}:{number} has {len(line)} columns"


def test_contributing_names_files_that_exist() -> None:
    """A bare name is a file in a folder that the same paragraph names, or that alone has it."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"`([a-z_/]+\.py)`", text))
    known = {str(path.relative_to(ROOT)) for path in ROOT.glob("[a-z]*/**/*.py")}
    missing = {name for name in named if not any(f"/{one}".endswith(f"/{name}") for one in known)}
    assert named and not missing, missing


def test_ci_runs_the_test_command_and_nothing_else() -> None:
    lines = [
        line
        for line in (ROOT / ".ci" / "run").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert lines == ["set -eu", 'cd "$(dirname "$0")/.."', "exec env CI=1 make test"]


def test_the_shipped_weights_load_and_are_calibrated() -> None:
    model = load_model(ROOT / "weights")
    card = model.card
    assert card.quality and card.limits and card.intended_use and card.seen_images > 0
    assert len({calibration.scale for calibration in card.calibration.values()}) > 1, (
        "evaluate the run before shipping it"
    )
    image = torch.zeros(1, card.image_px, card.image_px, 3, dtype=torch.uint8)
    assert torch.isfinite(model.predict(model.to_pixels(image)).va).all()


def test_every_test_that_starts_a_process_is_repeated_by_make_repeat() -> None:
    support = r"support\.(programs|\w*gateway_process)"
    starts = re.compile(rf"Popen\(|TorchServeProcess\(|redis_server:|{support}|: Visit\b")
    files = {path: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    unmarked = [
        str(path.relative_to(ROOT))
        for path, text in files.items()
        if starts.search(text) and "mark.processes" not in text and path != Path(__file__)
    ]
    assert not unmarked, f"give each pytestmark = pytest.mark.processes: {unmarked}"
