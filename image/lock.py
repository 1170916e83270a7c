"""What images install, to the hash: a file for each target of the Dockerfile, of pyproject.toml's
extras at the versions of constraints.txt.

    .venv/bin/python image/lock.py

A hash is that of the one wheel for CPython 3.11 on x86-64 Linux. PIP_EXTRA_INDEX_URL or
PIP_FIND_LINKS says where torch for processors is.
"""

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# The extras of each target, and whose build of torch it has.
TARGETS = {
    "cpu": (("serving", "tracing", "artefacts"), "+cpu"),
    "cuda": (("serving", "tracing", "artefacts"), ""),
    "training": (("serving", "tracing", "artefacts", "training"), ""),
    "scoring": (("serving", "local", "ray", "artefacts"), "+cpu"),
}


def requirements(target: str) -> list[str]:
    """What a target installs by name, the build of torch named exactly."""
    extras, build = TARGETS[target]
    lines: list[str] = [*PROJECT["dependencies"]]
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    versions = (ROOT / "constraints.txt").read_text().splitlines()
    (torch,) = [line.removeprefix("torch==") for line in versions if line.startswith("torch==")]
    # "==" would take either. redis wants async-timeout before 3.11.3; Debian 12 has 3.11.2.
    return [*lines, f"torch==={torch}{build}", "async-timeout"]


def resolved(target: str) -> list[dict[str, Any]]:
    """What pip would install, as `pip install --report` says it."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    command += ["--report", "-", "--constraint", str(ROOT / "constraints.txt")]
    done = subprocess.run([*command, *requirements(target)], check=True, stdout=subprocess.PIPE)
    packages: list[dict[str, Any]] = json.loads(done.stdout)["install"]
    return packages


def lock(target: str) -> str:
    """The file's text: name, version and SHA-256 of each package, by name."""
    lines = [
        f"{one['metadata']['name'].lower().replace('_', '-')}=={one['metadata']['version']} "
        f"\\\n    --hash=sha256:{one['download_info']['archive_info']['hashes']['sha256']}\n"
        for one in resolved(target)
    ]
    return "# Written by image/lock.py (make lock).\n" + "".join(sorted(lines))


if __name__ == "__main__":
    for target in TARGETS:
        (Path(__file__).parent / f"{target}.txt").write_text(lock(target))
        print(target, flush=True)
