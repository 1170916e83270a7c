"""A flood of explanations beside steady predictions: what predict feels of it, what KEDA would do,
and the dashboard, drawn.

    python -m benchmarks.flood weights [--picture docs/pictures/dashboard.jpg]

One server; a client asks for a reading twice a second all the time, and for a while more clients
than there are workers ask for explanations. A Prometheus (Debian's package) scrapes the server as
k8s/components/monitoring has it, with its rules, and is asked what the scalers of
k8s/overlays/tiers ask, and what the panels of the dashboard ask.
"""

import json
import math
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import yaml
from matplotlib import pyplot
from numpy.typing import NDArray

from affect.cli import command
from service.observability.dashboard import ROWS

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "service/page/examples/smile.jpg"
HEADERS = {"Content-Type": "image/jpeg", "Cache-Control": "no-store"}
SERVER, METRICS, PROMETHEUS = 8474, 8475, 8476  # ports
QUIET_SECONDS, FLOOD_SECONDS = 12.0, 36.0
PACE_SECONDS, FLOODING = 0.5, 12  # between predictions; clients that ask for explanations
STEP_SECONDS = 1
START_SECONDS = 120.0


@dataclass
class Client:
    """Asks for an operation, one request after the other; what each took, and how it ended."""

    operation: str
    pace_seconds: float = 0.0
    started: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Until `over`."""
        url = f"http://127.0.0.1:{SERVER}/v1/{self.operation}"
        while not self.over.is_set():
            request, start = urllib.request.Request(url, PICTURE.read_bytes(), HEADERS), time.time()
            try:
                with urllib.request.urlopen(request) as answer:
                    answer.read()
                    status = int(answer.status)
            except urllib.error.HTTPError as error:
                status = error.code
                self.over.wait(float(error.headers.get("Retry-After") or 0.1))
            self.started.append(start)
            self.seconds.append(time.time() - start)
            self.statuses[status] += 1
            self.over.wait(max(0.0, self.pace_seconds - (time.time() - start)))


@contextmanager
def running(client: Client) -> Iterator[Client]:
    """In a thread of its own."""
    thread = threading.Thread(target=client.run)
    thread.start()
    try:
        yield client
    finally:
        client.over.set()
        thread.join()


@contextmanager
def process(arguments: list[str], ready: str) -> Iterator[None]:
    """A program, once `ready` answers."""
    with subprocess.Popen(arguments, stderr=subprocess.DEVNULL) as program:
        try:
            end = time.monotonic() + START_SECONDS
            while not answers(ready):
                if time.monotonic() > end or program.poll() is not None:
                    raise RuntimeError(f"{arguments[0]} is not ready: {ready}")
                time.sleep(0.1)
            yield
        finally:
            program.terminate()


def answers(url: str) -> bool:
    """Whether a GET is answered with 200."""
    try:
        with urllib.request.urlopen(url) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def prometheus(folder: Path) -> list[str]:
    """The command of a Prometheus that scrapes the server, with our rules."""
    rule = yaml.safe_load((ROOT / "k8s/components/monitoring/prometheusrule.yaml").read_text())
    (folder / "rules.yaml").write_text(yaml.safe_dump(rule["spec"]))
    labels = {"namespace": "affectgan", "pod": "affectgan-0"}  # as the operator gives them
    target = {"targets": [f"127.0.0.1:{METRICS}"], "labels": labels}
    configuration = {
        "global": {"scrape_interval": f"{STEP_SECONDS}s", "evaluation_interval": "5s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [{"job_name": "affectgan", "static_configs": [target]}],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(configuration))
    options = [f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder}/data"]
    return ["prometheus", *options, f"--web.listen-address=127.0.0.1:{PROMETHEUS}"]


def series(
    query: str, start: float, end: float
) -> list[tuple[dict[str, str], NDArray[np.float64]]]:
    """Labels and (time, value) rows of what a query finds in a span of time."""
    parameters = {"query": query, "start": start, "end": end, "step": STEP_SECONDS}
    url = f"http://127.0.0.1:{PROMETHEUS}/api/v1/query_range?{urllib.parse.urlencode(parameters)}"
    with urllib.request.urlopen(url) as answer:
        result: list[Any] = json.load(answer)["data"]["result"]
    return [(one["metric"], np.array(one["values"], float)) for one in result]


def scaler(operation: str) -> tuple[str, float]:
    """The query of a tier's scaler, and what of it one pod may have."""
    path = ROOT / "k8s/overlays/tiers" / operation / "scaledobject.yaml"
    trigger = yaml.safe_load(path.read_text())["spec"]["triggers"][0]["metadata"]
    return trigger["query"], float(trigger["threshold"])


def report(client: Client, name: str, start: float, end: float) -> str:
    """A line about a phase: predict's times, and what the two scalers saw."""
    taken = [
        seconds
        for begun, seconds in zip(client.started, client.seconds, strict=True)
        if start <= begun < end
    ]
    median, tail = np.percentile(taken, (50, 95)) * 1000
    cells = [name, f"{len(taken)}", f"{median:.0f} ms", f"{tail:.0f} ms"]
    for operation in ("predict", "explain"):
        query, threshold = scaler(operation)
        highest = max((rows[:, 1].max() for _, rows in series(query, start, end)), default=0.0)
        cells += [f"{highest:.1f} s", f"{math.ceil(highest / threshold)}"]
    return "| " + " | ".join(cells) + " |"


def drawn(start: float, end: float, path: Path) -> None:
    """Every panel of the dashboard, from what Prometheus answers."""
    figure, grid = pyplot.subplots(len(ROWS), 3, figsize=(15, 13), layout="constrained")
    for axes, panel in zip(grid.flat, [one for row in ROWS.values() for one in row], strict=True):
        for legend, query in panel.queries.items():
            asked = query.replace("$namespace", "affectgan").replace("$__rate_interval", "10s")
            for labels, rows in series(asked, start, end):
                label = legend
                for name, value in labels.items():
                    label = label.replace(f"{{{{{name}}}}}", value[:12])
                axes.plot(rows[:, 0] - start, rows[:, 1], label=label, linewidth=1.2)
        axes.set_title(f"{panel.title} ({panel.unit})", fontsize=10)
        axes.tick_params(labelsize=8)
        axes.set_ylim(bottom=0)
        axes.set_xlim(0, end - start)
        if 0 < len(axes.lines) <= 8:
            axes.legend(fontsize=7, loc="upper left")
    figure.supxlabel("seconds", fontsize=9)
    figure.savefig(path, dpi=72, pil_kwargs={"quality": 80})


@click.command()
@click.argument("weights", type=click.Path(path_type=Path, exists=True))
@click.option("--picture", type=click.Path(path_type=Path), help="where the dashboard is drawn")
@click.option("--runtime", default="torchserve", show_default=True)
def main(weights: Path, picture: Path | None, runtime: str) -> None:
    """Print a row of the table for each phase."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        archive = ["archive", str(weights), "--out", str(folder / "models")]
        subprocess.run(command(archive), check=True, stdout=subprocess.DEVNULL)
        serve = ["serve", "--models", str(folder / "models"), "--port", str(SERVER)]
        serving = command([*serve, "--runtime", runtime])
        # The port of the figures is a variable, as in k8s/workload/settings.env.
        serving = ["env", f"AFFECTGAN_METRICS_PORT={METRICS}", *serving]
        with (
            process(serving, f"http://127.0.0.1:{SERVER}/readyz"),
            process(prometheus(folder), f"http://127.0.0.1:{PROMETHEUS}/-/ready"),
            running(Client("predict", PACE_SECONDS)) as steady,
        ):
            marks = [time.time()]
            time.sleep(QUIET_SECONDS)
            marks.append(time.time())
            flood = [Client("explain") for _ in range(FLOODING)]
            flood_for_a_while(flood)
            marks.append(time.time())
            time.sleep(QUIET_SECONDS)
            marks.append(time.time())
            print(
                "| phase | predictions | median | 95th | backlog of predict | its pods | ", end=""
            )
            print("backlog of explain | its pods |\n|---|---|---|---|---|---|---|---|")
            for name, *span in zip(("before", "flood", "after"), marks, marks[1:], strict=False):
                print(report(steady, name, *span))
            explained = sum((client.statuses for client in flood), Counter[int]())
            print(f"predict {dict(steady.statuses)}, explain {dict(explained)}")
            if picture:
                drawn(marks[0], marks[-1], picture)


def flood_for_a_while(clients: list[Client]) -> None:
    """Let them all ask for FLOOD_SECONDS."""
    threads = [threading.Thread(target=client.run) for client in clients]
    for thread in threads:
        thread.start()
    time.sleep(FLOOD_SECONDS)
    for client in clients:
        client.over.set()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    sys.exit(main())
