"""A version changed by its file while two gateways are under load: how many requests were lost.

    python -m benchmarks.versions weights

Both gateways follow one file (`affectgan serve --versions`). Clients without retries ask them for
readings without a pause, from before the change until both serve the new version alone.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from affect.cli import command
from service.inference.declaration import Declaration

PICTURE = Path(__file__).parents[1] / "service/page/examples/smile.jpg"
PORTS = (8472, 8473)
CLIENTS = 2  # of each gateway
LIMIT_SECONDS = 240.0
AFTER_SECONDS = 4.0  # for which the new version is asked alone


class Load:
    """Requests to a gateway, one after the other, counted by status and version; 0 is no answer."""

    def __init__(self, url: str) -> None:
        self.statuses, self.versions = Counter[int](), Counter[str]()
        self._url, self._picture, self._over = url, PICTURE.read_bytes(), threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _ask(self) -> None:
        headers = {"Content-Type": "image/jpeg", "Cache-Control": "no-store"}
        request = urllib.request.Request(f"{self._url}/v1/predict", self._picture, headers)
        while not self._over.is_set():
            try:
                with urllib.request.urlopen(request, timeout=LIMIT_SECONDS) as answer:
                    self.versions[json.load(answer)["model"]["version"]] += 1
                    self.statuses[answer.status] += 1
            except urllib.error.HTTPError as error:
                self.statuses[error.code] += 1
            except OSError:
                self.statuses[0] += 1

    def stop(self) -> None:
        """After the request that is in flight."""
        self._over.set()
        self._thread.join()


def versions_of(url: str) -> list[str]:
    """That a gateway serves; none while it does not answer."""
    try:
        with urllib.request.urlopen(f"{url}/v1/models") as answer:
            return [one["version"] for one in json.load(answer)["models"]]
    except OSError:
        return []


def until_serving(urls: list[str], version: str) -> None:
    """Until every gateway serves this version alone."""
    end = time.monotonic() + LIMIT_SECONDS
    while any(versions_of(url) != [version] for url in urls):
        if time.monotonic() > end:
            raise TimeoutError(f"{version} is not served alone after {LIMIT_SECONDS:g} s")
        time.sleep(0.2)


@contextmanager
def following(file: Path, port: int, runtime: str) -> Iterator[str]:
    """A gateway that follows the file, and its address."""
    arguments = ["serve", "--versions", str(file), "--port", str(port), "--runtime", runtime]
    with subprocess.Popen(command(arguments), stderr=subprocess.DEVNULL) as server:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def archived(weights: str, folder: Path, version: str) -> str:
    """The folder of a version's archives."""
    arguments = ["archive", weights, "--out", str(folder / version), "--version", version]
    subprocess.run(command(arguments), check=True, stdout=subprocess.DEVNULL)
    return str(folder / version)


def main(weights: str, runtime: str = "process") -> None:
    """Requests, those lost, and by which version the others were answered."""
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folders = {one: archived(weights, Path(scratch), one) for one in ("1.0", "1.1")}
        file = Path(scratch) / "versions.yaml"
        first = {"versions": {"1.0": folders["1.0"]}, "default": "1.0"}
        declared = Declaration.model_validate({"affectgan": first})
        declared.save(file)
        urls = [stack.enter_context(following(file, port, runtime)) for port in PORTS]
        until_serving(urls, "1.0")
        loads = [Load(url) for url in urls for _ in range(CLIENTS)]
        time.sleep(AFTER_SECONDS)
        declared.swapped("affectgan", "1.1", folders["1.1"]).save(file)
        until_serving(urls, "1.1")
        time.sleep(AFTER_SECONDS)
        for load in loads:
            load.stop()
        statuses = sum((load.statuses for load in loads), Counter[int]())
        versions = sum((load.versions for load in loads), Counter[str]())
        print(f"requests {statuses.total()}, lost {statuses.total() - statuses[200]}")
        print(", ".join(f"{count} by {one}" for one, count in sorted(versions.items())))


if __name__ == "__main__":
    main(*sys.argv[1:])
