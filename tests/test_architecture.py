"""Imports flow one way, the gateway stays light, and Action Units are spelled in one file."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import networkx
import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("affect", "training", "handlers", "service", "scoring")
MAY_IMPORT = {
    "affect": {"affect"},
    "training": {"affect", "training"},
    "handlers": {"affect", "handlers"},
    "service": {"affect", "service"},
    "scoring": {"affect", "scoring"},
}
# Fixed codes belong to the catalogue; elsewhere they come from a vocabulary. These files say what
# their own AUs look like.
SPELL_AUS = {
    "affect/catalogue.py",
    "training/renderer/affect_rule.py",
    "training/renderer/skin.py",
    "training/renderer/wrinkles.py",
    "training/renderer/sheet.py",
    "training/gan/samples.py",
    "training/evaluation/report/pictures.py",
}
LIGHT = (
    "affect.catalogue",
    "affect.labels",
    "affect.card",
    "affect.images",
    "affect.faces",
    "affect.protocol.messages",
    "affect.archive",
    "service.api.app",
    "service.cli.serve",
)
# The files and packages directly in each of these, which import only what stands before them.
ORDER = {
    "affect": """
        version allocator cascade dnn blazeface landmarks catalogue labels card precision rows
        image_headers large_images images picture_grid faces cores inputs answers archive
        model_folders signatures processes artefacts marking networks reading_network model runtime
        ssgan2019 factory judge counterfactual editing protocol batches client local cli
    """,
    "training": """
        pages renderer database teacher sources gan evaluation alignment archive signing push
        export
    """,
    "training.evaluation": """
        core judge recognition generation explanation bias report commands
    """,
    "service": """
        settings schemas observability storage backend problems access inference jobs api cli
    """,
    "scoring": """
        sources chunks workers cluster journal persons tracking baseline smoothing events overlay
        run live commands
    """,
}
HEAVY = (
    "torch",
    "scipy",
    "sklearn",
    "numba",
    "pyarrow",
    "matplotlib",
    "training",
    "handlers",
    "scoring",
)


@cache
def _nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(path.read_text())))


def _files() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def _imports(path: Path) -> set[str]:
    imported: set[str] = set()
    for node in _nodes(path):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module.split(".")[0])
    return imported


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_flow_one_way(package: str) -> None:
    for path in sorted((ROOT / package).rglob("*.py")):
        foreign = _imports(path) & set(PACKAGES) - MAY_IMPORT[package]
        assert not foreign, f"{path.relative_to(ROOT)} imports {foreign}"


@cache
def _modules() -> dict[str, Path]:
    """Every file by the name under which it is imported."""
    paths = ((path, path.relative_to(ROOT).with_suffix("").parts) for path in _files())
    return {".".join(parts).removesuffix(".__init__"): path for path, parts in paths}


def _imported_modules(path: Path, modules: Mapping[str, Path]) -> set[str]:
    """The files that a file imports, also those it imports names of."""
    names: set[str] = set()
    for node in _nodes(path):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= inner & set(modules) or {node.module}
    return names & set(modules)


def test_no_files_import_each_other_in_a_circle() -> None:
    modules = _modules()
    graph = {name: _imported_modules(path, modules) - {name} for name, path in modules.items()}
    list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


@pytest.mark.parametrize("package", ORDER)
def test_files_and_packages_import_only_what_stands_before_them(package: str) -> None:
    order, modules = ORDER[package].split(), _modules()
    inside = {name: _place(name, package) for name in modules if _place(name, package)}
    assert set(order) == set(inside.values()), "the order names all that is there"
    for name, place in inside.items():
        before = set(order[: order.index(place) + 1])
        imported = _imported_modules(modules[name], modules)
        used = {_place(other, package) for other in imported} - {""}
        assert used <= before, f"{name} imports {sorted(used - before)}"


def _place(module: str, package: str) -> str:
    """The file or package directly in a package that a module belongs to; "" outside of it."""
    outside = not module.startswith(f"{package}.")
    return "" if outside else module.removeprefix(f"{package}.").split(".")[0]


def _arrows(package: str) -> set[tuple[str, str]]:
    """Imports between the files and packages directly in a package ("": between packages), without
    those that follow from others.
    """
    modules, graph = _modules(), networkx.DiGraph()
    for name, path in modules.items():
        for other in _imported_modules(path, modules):
            ends = [_place(one, package) if package else one.split(".")[0] for one in (name, other)]
            if all(ends) and ends[0] != ends[1]:
                graph.add_edge(*ends)
    return set(networkx.transitive_reduction(graph).edges)


def test_the_picture_in_contributing_shows_the_imports() -> None:
    picture = (ROOT / "CONTRIBUTING.md").read_text().split("```mermaid")[1].split("```")[0]
    drawn = set(re.findall(r"(\w+) --> (\w+)", picture))
    assert drawn == _arrows("") | _arrows("service") | _arrows("training")


def test_no_two_classes_have_the_same_name() -> None:
    files: dict[str, list[str]] = {}
    for path in _files():
        for node in _nodes(path):
            if isinstance(node, ast.ClassDef):
                files.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    twice = {name: paths for name, paths in files.items() if len(paths) > 1}
    assert not twice, f"give each a name that tells it from the others: {twice}"


def test_the_gateway_starts_without_the_heavy_packages() -> None:
    check = f"print([name for name in {HEAVY!r} if name in sys.modules])"
    code = f"import sys, {', '.join(LIGHT)}; {check}"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == "[]"


def test_action_units_are_spelled_in_one_file() -> None:
    table = re.compile(r"\"AU\d+\"[^\n]*\"AU\d+\"[^\n]*\"AU\d+\"")
    spelled = {str(path.relative_to(ROOT)) for path in _files() if table.search(path.read_text())}
    assert spelled <= SPELL_AUS, spelled - SPELL_AUS


def _texts() -> Iterator[Path]:
    """Every text of the project, and none of what was installed or made beside it."""
    made = {".venv", ".venv-mesh", ".venv-identity", ".git", "demo", "runs", "build"}
    suffixes = {".py", ".md", ".toml", ".txt", ".yaml", ".json"}
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in made]
        for path in (Path(folder) / name for name in files):
            if path.suffix in suffixes or path.name in ("Makefile", "Dockerfile"):
                yield path


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    place, own = re.compile(r"/(?:work|root|home)/[a-z]"), Path(__file__)
    texts = {path: path.read_text(errors="ignore") for path in _texts() if path != own}
    assert texts and not [path for path, text in texts.items() if place.search(text)]


def test_no_function_is_a_stub() -> None:
    for path in _files():
        for node in _nodes(path):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Name | ast.Call):
                name = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
                assert not (isinstance(name, ast.Name) and name.id == "NotImplementedError"), path
