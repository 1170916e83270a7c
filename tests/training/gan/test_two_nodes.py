"""Two nodes of a run in network namespaces of their own, as k8s/components/training/train.sh starts
them: they find each other over the network, and a node that is lost costs no picture.

Needs root and `ip` (iproute2).
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from affect.factory import load_model
from tests.support.waiting import until

ROOT = Path(__file__).parents[3]
ADDRESSES = ("10.77.0.1", "10.77.0.2")
TRIES = 8  # of a node; backoffLimit of the Job
pytestmark = [pytest.mark.processes, pytest.mark.slow]

# In the place of `affect.cli train`, which trains for hours: the same loop, for 800 pictures.
TRAIN = """
import sys
from dataclasses import replace
from pathlib import Path
from training.gan import loop
from training.gan.config import preset
config = replace(preset("smoke"), batch_pairs=8, penalty_rows=4, total_images=800, log_images=16,
    sample_images=800, checkpoint_seconds=0.0)
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
if "--resume" in options:
    loop.resume(Path(options["--resume"]))
else:
    loop.start(config, Path(options["--data"]), Path(options["--out"]))
"""
PYTHON = """#!{python}
import os, sys
words = sys.argv[1:]
at = words.index("affect.cli")  # -m affect.cli train ...
os.execv("{python}", ["{python}", *words[: at - 1], "{train}", *words[at + 2 :]])
"""


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def namespaces() -> Iterator[tuple[str, str]]:
    """Two network namespaces, joined by a cable."""
    if os.geteuid() or shutil.which("ip") is None:
        pytest.fail("network namespaces need root and `ip`: apt-get install iproute2")
    first, second = f"affectgan-a{os.getpid()}", f"affectgan-b{os.getpid()}"
    for name in (first, second):
        _ip("netns", "add", name)
    try:
        cable = ("type", "veth", "peer", "name", "cable", "netns", second)
        _ip("-n", first, "link", "add", "cable", *cable)
        for name, address in zip((first, second), ADDRESSES, strict=True):
            _ip("-n", name, "address", "add", f"{address}/24", "dev", "cable")
            _ip("-n", name, "link", "set", "cable", "up")
            _ip("-n", name, "link", "set", "lo", "up")
        yield first, second
    finally:
        for name in (first, second):
            _ip("netns", "delete", name)


class Node:
    """A pod of the Job: started again whenever it fails."""

    def __init__(self, number: int, namespace: str, folder: Path) -> None:
        self.number, self.namespace, self.folder = number, namespace, folder
        self.codes: list[int] = []
        self.process: subprocess.Popen[bytes] | None = None
        self.thread = threading.Thread(target=self._keep_running)
        self.thread.start()

    def _keep_running(self) -> None:
        while (not self.codes or self.codes[-1]) and len(self.codes) < TRIES:
            environment = os.environ | {
                "PATH": f"{self.folder}:/usr/sbin:/usr/bin:/sbin:/bin",
                "PYTHONPATH": str(ROOT),
                "OMP_NUM_THREADS": "1",
                "GLOO_SOCKET_IFNAME": "cable",
                "AFFECTGAN_RUN": "run",
                "AFFECTGAN_LABELS": "both",
                "AFFECTGAN_PUSH": "file:///nowhere",
                "NODES": "2",
                "NODE": str(self.number),
                "LEADER": ADDRESSES[0],
            }
            command = ["ip", "netns", "exec", self.namespace, "sh", str(self.folder / "train.sh")]
            with (self.folder / f"{self.number}.log").open("ab") as output:
                self.process = subprocess.Popen(
                    command, env=environment, stdout=output, stderr=output, start_new_session=True
                )
                self.codes.append(self.process.wait())

    def kill(self) -> None:
        """All of its processes, as with a node that is gone."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)

    def output(self) -> str:
        return (self.folder / f"{self.number}.log").read_text()[-6000:]


def _programs(folder: Path, database: Path) -> None:
    """What train.sh finds in its PATH, and train.sh itself, on this machine's folders."""
    script = (ROOT / "k8s/components/training/train.sh").read_text()
    script = script.replace("/runs/", f"{folder}/").replace("/database", str(database))
    (folder / "train.sh").write_text(script)
    (folder / "train.py").write_text(TRAIN)
    python = PYTHON.format(python=sys.executable, train=folder / "train.py")
    (folder / "python").write_text(python)
    (folder / "affectgan").write_text(f'#!/bin/sh\necho "$1" >> {folder}/ended\n')
    for name in ("python", "affectgan"):
        (folder / name).chmod(0o755)


def test_a_node_that_is_lost_costs_no_picture(
    namespaces: tuple[str, str], faces_of_made_people: Path, tmp_path: Path
) -> None:
    _programs(tmp_path, faces_of_made_people)
    log = tmp_path / "run" / "log.jsonl"
    nodes = [Node(number, name, tmp_path) for number, name in enumerate(namespaces)]
    try:
        until(lambda: log.is_file() and len(log.read_text().splitlines()) > 10, 240)
        nodes[1].kill()
        for node in nodes:
            node.thread.join(240)
        assert [node.codes[-1] for node in nodes] == [0, 0], [node.output() for node in nodes]
    finally:
        for node in nodes:
            if node.thread.is_alive():
                node.codes = [0] * TRIES
                node.kill()
    assert len(nodes[1].codes) > 1
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["seen_images"] for line in lines] == list(range(16, 816, 16))
    assert load_model(tmp_path / "run" / "model").card.seen_images == 800
    assert (tmp_path / "ended").read_text().split() == ["evaluate", "push"]  # by the first alone
