"""Size and shape of the code of a checkout: files, functions, imports, names, long lines.

python experiments/layout.py [FOLDER ...]   prints a column a folder; needs nothing but Python
"""

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median

PACKAGES = ("affect", "training", "handlers", "service", "scoring")
COLUMNS = 100
# Who stands before whom among the packages: an import to the left runs back up.
DOWN = {name: set[str]() if name == "affect" else {"affect"} for name in PACKAGES}


def main() -> None:
    """Print a Markdown table."""
    folders = [Path(name) for name in sys.argv[1:] or ["."]]
    tables = [measure(folder) for folder in folders]
    print("| figure |" + "|".join(f" {folder.resolve().name} " for folder in folders) + "|")
    print("|---|" + "---|" * len(folders))
    for figure in tables[0]:
        print(f"| {figure} | " + " | ".join(table[figure] for table in tables) + " |")


def measure(folder: Path) -> dict[str, str]:
    """Figures by what they are of."""
    files = {path: ast.parse(path.read_text()) for path in _sources(folder)}
    per_folder = Counter(path.parent for path in files if path.name != "__init__.py")
    lines = [len(path.read_text().splitlines()) for path in files if path.name != "__init__.py"]
    functions = [
        (node.end_lineno or 0) - node.lineno + 1
        for tree in files.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    classes = Counter(
        node.name
        for tree in files.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    )
    names = {_name(path, folder): tree for path, tree in files.items()}
    graph = {name: _imported(tree, set(names)) - {name} for name, tree in names.items()}
    return {
        "files": str(len(lines)),
        "files a folder, median / largest": _spread(list(per_folder.values())),
        "lines a file, median / largest": _spread(lines),
        "lines a function, median / largest": _spread(functions),
        "functions of more than 60 lines": str(sum(length > 60 for length in functions)),
        "files in a circle of imports": str(sum(map(len, _circles(graph)))),
        "files or folders of a package in a circle": str(sum(map(len, _circles(_places(graph))))),
        "imports from another package than allowed": str(sum(1 for _ in _forbidden(graph))),
        "class names defined twice": str(sum(count > 1 for count in classes.values())),
        f"lines of code over {COLUMNS}": str(_long(_sources(folder))),
        f"lines of documents over {COLUMNS}": str(_long(folder.rglob("*.md"))),
    }


def _sources(folder: Path) -> list[Path]:
    return [path for package in PACKAGES for path in sorted((folder / package).rglob("*.py"))]


def _spread(values: list[int]) -> str:
    return f"{median(values):g} / {max(values)}"


def _name(path: Path, folder: Path) -> str:
    parts = path.relative_to(folder).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def _imported(tree: ast.Module, modules: set[str]) -> set[str]:
    """The files that a file imports, also those it imports names of."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= inner & modules or {node.module}
    return names & modules


def _reached(graph: dict[str, set[str]], start: str) -> set[str]:
    reached: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += graph[name]
    return reached


def _circles(graph: dict[str, set[str]]) -> set[frozenset[str]]:
    """Strongly connected groups of more than one file."""
    reached = {name: _reached(graph, name) for name in graph}
    groups = (
        frozenset(other for other in reached[name] if name in reached[other]) for name in graph
    )
    return {group for group in groups if len(group) > 1}


def _places(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The same of what lies directly in the packages: a file, or a folder with all in it."""
    places: dict[str, set[str]] = {}
    for name, used in graph.items():
        place = _place(name)
        places.setdefault(place, set()).update(map(_place, used))
    return {place: {one for one in used if one in places} for place, used in places.items()}


def _place(module: str) -> str:
    return ".".join(module.split(".")[:2])


def _forbidden(graph: dict[str, set[str]]) -> Iterator[tuple[str, str]]:
    for name, used in graph.items():
        package = name.split(".")[0]
        for other in used:
            if other.split(".")[0] not in DOWN[package] | {package}:
                yield name, other


def _long(paths: list[Path] | Iterator[Path]) -> int:
    return sum(
        len(line) > COLUMNS
        for path in paths
        if not any(part.startswith(".") for part in path.parts)
        for line in path.read_text().splitlines()
    )


if __name__ == "__main__":
    main()
