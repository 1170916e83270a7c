"""Memory of a server for one and two versions, by runtime: what a pod has to ask for.

    python -m benchmarks.memory weights

The sum of PSS (shared pages counted once) over the gateway and all that it started, after every
operation was asked once of every version.
"""

import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import psutil

from affect.cli import command
from affect.client import Client

VERSIONS = ("1.0", "1.1")
PICTURE = Path(__file__).parents[1] / "service" / "page" / "examples" / "smile.jpg"


def pss_mib(process: psutil.Process) -> float:
    """Of a process and its children, MiB."""
    family = [process, *process.children(recursive=True)]
    return sum(float(one.memory_full_info().pss) for one in family) / 2**20


def measured(folders: list[Path], runtime: str, port: int) -> float:
    """Starts a server on these folders, warms it, and measures it."""
    models = [part for folder in folders for part in ("--models", str(folder))]
    arguments = command(["serve", *models, "--runtime", runtime, "--port", str(port)])
    with subprocess.Popen(arguments, stderr=subprocess.DEVNULL) as server:
        try:
            _until_ready(port)
            for version in (folder.name for folder in folders):
                _ask_everything(f"http://127.0.0.1:{port}", version)
            return pss_mib(psutil.Process(server.pid))
        finally:
            server.terminate()


def _ask_everything(url: str, version: str) -> None:
    """Each operation once, of one version."""
    with Client(url) as client:
        client.predict([PICTURE], version=version)
        client.explain([PICTURE], version=version)
        client.generate([{"aus": {"AU12": 0.8}}], version=version)


def _until_ready(port: int) -> None:
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz"):
                return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError("the server is not ready")


def main(weights: str) -> None:
    """A line for each runtime and number of versions."""
    with tempfile.TemporaryDirectory() as scratch:
        folders = [Path(scratch) / version for version in VERSIONS]
        for folder in folders:
            archive = ["archive", weights, "--out", str(folder), "--version", folder.name]
            subprocess.run(command(archive), check=True, stdout=subprocess.DEVNULL)
        for runtime in ("torchserve", "process"):
            for count in (1, 2):
                mib = measured(folders[:count], runtime, 8471)
                print(f"{runtime}, {count} version(s): {mib:,.0f} MiB", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
