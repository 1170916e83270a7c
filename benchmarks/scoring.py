"""`affectgan score` on a film whose truth is known (benchmarks.filmed).

python -m benchmarks.scoring run data/film --out whole.parquet
python -m benchmarks.scoring run data/film --out killed.parquet --kill-after 200
python -m benchmarks.scoring run data/film --out killed.parquet --resume
python -m benchmarks.scoring judge data/film whole.parquet --same killed.parquet
python -m benchmarks.scoring pictures renders/*.tar --out by-processes.parquet
python -m benchmarks.scoring pictures renders/*.tar --out by-ray.parquet --lose-a-node
"""

import json
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil
from pyarrow import ipc, parquet
from sklearn.metrics import roc_auc_score

from affect.cli import command
from benchmarks.filmed import FILM_FILE, RATE, TRUTH_FILE
from scoring.journal import Journal, mark_of
from training.evaluation.core.metrics import ccc

BEHIND = 0.25  # of the side of a head: nearer to each other, nobody sees the first
PRESENT = 0.3  # intensity from which an Action Unit is there
LOOK_SECONDS = 1.0
READING_SECONDS = 12.0  # of both nodes before one dies
MINUTES = (0.5, 1, 2, 4, 6, 8, 9.9)
FILM = click.argument("film", type=click.Path(path_type=Path, exists=True, file_okay=False))
TABLE = click.Path(path_type=Path, dir_okay=False)


@dataclass
class Course:
    """What a run needed, every second: seconds, MB of all its processes, processor seconds; and the
    frames in its journal.
    """

    samples: list[tuple[float, float, float]] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)

    def megabytes(self, frame: float) -> float | None:
        """When that frame was done; None when it was done before, or never."""
        if not self.frames or self.frames[0] > frame:
            return None
        looks = zip(self.frames, self.samples, strict=True)
        return next((mb for done, (_, mb, _) in looks if done >= frame), None)


@click.group()
def main() -> None:
    """Run and judge."""


@main.command()
@FILM
@click.option("--out", type=TABLE, required=True)
@click.option("--workers", type=int, default=2, show_default=True)
@click.option("--resume", is_flag=True)
@click.option("--every", type=int, default=1, show_default=True)
@click.option("--kill-after", type=float, help="seconds; SIGKILL, all its processes")
@click.option("--stop-after", type=float, help="seconds; Ctrl-C")
def run(
    film: Path,
    out: Path,
    workers: int,
    resume: bool,
    every: int,
    kill_after: float | None,
    stop_after: float | None,
) -> None:
    """Score the film, watched."""
    before = _frames_done(out) if resume else 0
    flag = "--resume" if resume else "--overwrite"
    arguments = [
        "score",
        str(film / FILM_FILE),
        "--out",
        str(out),
        "--faces",
        "all",
        "--track",
        flag,
    ]
    arguments += ["--workers", str(workers), "--every", str(every), "--no-progress"]
    scoring = psutil.Popen([*command(arguments)], stderr=subprocess.DEVNULL)
    course = watched(scoring, kill_after, stop_after, out)
    frames = _frames_done(out) - before
    seconds, _, cpu = course.samples[-1]
    held = {minute: course.megabytes(minute * 60 * RATE) for minute in MINUTES}
    print(
        f"frames {before} to {before + frames}: {frames / seconds:.1f}/s of wall time, "
        f"{1000 * cpu / max(frames, 1):.1f} ms of processor each; MB of all processes at minute of "
        "the film " + ", ".join(f"{m:g}: {mb:.0f}" for m, mb in held.items() if mb is not None),
        flush=True,
    )


@main.command()
@click.argument("inputs", nargs=-1, required=True)
@click.option("--out", type=TABLE, required=True)
@click.option("--lose-a-node", is_flag=True, help="on a Ray cluster of two, one killed on the way")
def pictures(inputs: tuple[str, ...], out: Path, lose_a_node: bool) -> None:
    """Score aligned crops, by two processes or on a cluster of two nodes."""
    arguments = ["score", *inputs, "--out", str(out), "--faces", "none", "--overwrite"]
    arguments += ["--workers", "2", "--no-progress"]
    with _cluster() if lose_a_node else nullcontext() as cluster:
        if cluster is not None:
            arguments += ["--ray", cluster.address]
        scoring = psutil.Popen([*command(arguments)])
        if cluster is not None:
            threading.Thread(target=_kill_a_node, args=(cluster,), daemon=True).start()
        course = watched(scoring, None, None, out)
    rows = parquet.read_metadata(out).num_rows
    seconds, _, cpu = course.samples[-1]
    print(f"{rows} rows in {seconds:.0f} s: {rows / seconds:.1f}/s", end="")
    print("" if lose_a_node else f", {1000 * cpu / rows:.1f} ms of processor each")


@contextmanager
def _cluster() -> Iterator[Any]:
    """Two nodes on this machine, with room for a model and the tasks beside it each."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "include_dashboard": False}
    cluster: Any = Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(num_cpus=1)
    try:
        yield cluster
    finally:
        cluster.shutdown()


def _kill_a_node(cluster: Any) -> None:
    """A while after both nodes have a model."""
    while sum("MapWorker" in " ".join(_command_line(one)) for one in _ours()) < 2:
        time.sleep(LOOK_SECONDS)
    time.sleep(READING_SECONDS)
    (node,) = cluster.worker_nodes
    cluster.remove_node(node, allow_graceful=False)
    print("a node died", flush=True)


def _ours() -> list[psutil.Process]:
    return [*psutil.Process().children(recursive=True)]


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


@main.command()
@FILM
@click.argument("table", type=TABLE)
@click.option("--same", type=TABLE, help="a table that should be equal")
def judge(film: Path, table: Path, same: Path | None) -> None:
    """Compare a table with the truth."""
    rows = parquet.read_table(table).to_pylist()
    frames = len({row["frame"] for row in rows})
    print(f"frames {frames}, rows {len(rows)}, {dict(Counter(row['error'] for row in rows))}")
    compare(rows, json.loads((film / TRUTH_FILE).read_text()))
    if same is not None:
        others = parquet.read_table(same).to_pylist()
        both = {row["frame"] for row in rows} & {row["frame"] for row in others}
        equal = _only(rows, both) == _only(others, both)
        print(f"{same}: {'the same' if equal else 'OTHER'} rows of the {len(both)} frames of both")


def _only(rows: list[dict[str, Any]], frames: set[int]) -> list[dict[str, Any]]:
    return [row for row in rows if row["frame"] in frames]


def watched(
    process: psutil.Popen, kill_after: float | None, stop_after: float | None, out: Path
) -> Course:
    """Look at a run every second until it ends, kill it or stop it."""
    course, begun, cpu = Course(), time.monotonic(), dict[int, float]()
    while process.poll() is None:
        processes = [process, *process.children(recursive=True)]
        megabytes = sum(_megabytes(one, cpu) for one in processes)
        passed = time.monotonic() - begun
        course.samples.append((passed, megabytes, sum(cpu.values())))
        course.frames.append(_frames_in_journal(out))
        if kill_after is not None and passed > kill_after:
            for one in processes:
                one.send_signal(signal.SIGKILL)
            process.wait()
            break
        if stop_after is not None and passed > stop_after:
            process.send_signal(signal.SIGINT)
            process.wait()
            break
        time.sleep(LOOK_SECONDS)
    return course


def _frames_done(out: Path) -> int:
    """In the table, or in the journal beside it when the run was stopped."""
    folder = out.with_name(out.name + ".journal")
    if not folder.exists():
        return len(set(parquet.read_table(out, columns=["frame"])["frame"].to_pylist()))
    journal = Journal(folder, parts=len(list(folder.glob("part-*.arrow"))))
    return sum(1 for _ in journal.replay())


def _frames_in_journal(out: Path) -> int:
    """Behind which frame the newest part ends."""
    parts = sorted(out.with_name(out.name + ".journal").glob("part-*.arrow"))
    if not parts:
        return 0
    try:
        with ipc.open_file(parts[-1]) as part:
            return int(mark_of(part.schema).position.get("number", 0))
    except OSError:  # the run ended meanwhile
        return 0


def _megabytes(process: psutil.Process, cpu: dict[int, float]) -> float:
    try:
        times = process.cpu_times()
        cpu[process.pid] = times.user + times.system
        return float(process.memory_full_info().uss / 1e6)
    except psutil.NoSuchProcess:
        return 0.0


def compare(rows: list[dict[str, Any]], truth: dict[str, Any]) -> None:
    """Agreement with the truth, and whether people keep their numbers."""
    people: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    for row in rows:
        if row["error"] is None:
            people[_who(row, truth)].append(row)
    for actor, person_rows in enumerate(people):
        tracks = Counter(row["track"] for row in person_rows)
        ((main_track, most),) = tracks.most_common(1)
        changes = sum(a["track"] != b["track"] for a, b in pairwise(person_rows))
        print(
            f"person {actor}: {len(person_rows)} rows, "
            f"track {main_track} in {most / len(person_rows):.4f}, "
            f"{len(tracks)} tracks, {changes} changes"
        )
    both = [
        (row, _state(row, actor, truth))
        for actor, person_rows in enumerate(people)
        for row in person_rows
    ]
    for name in ("valence", "arousal"):
        pairs = np.array([(state[name], row[name]) for row, state in both])
        print(f"{name}: CCC {ccc(pairs[:, 0], pairs[:, 1])[0]:.3f}")
    areas = _areas(both)
    agreed = {code: _agreement(code, both) for code in areas}
    print(f"Action Units: mean AUC {np.mean(list(areas.values())):.3f} over {len(areas)}")
    print(f"their intensity: mean CCC {np.mean(list(agreed.values())):.3f}; ", end="")
    print(", ".join(f"{code} {value:.2f}" for code, value in agreed.items()))


def _who(row: dict[str, Any], truth: dict[str, Any]) -> int:
    """The person whose head's middle is nearer to the middle of the box; the one in front when the
    other is behind.
    """
    middle = np.array([row["box_x"] + row["box_width"] / 2, row["box_y"] + row["box_height"] / 2])
    heads = np.array(truth["places"][row["frame"]]) + truth["side"] / 2
    if abs(heads[0, 0] - heads[1, 0]) < BEHIND * truth["side"]:
        return 1
    return int(np.linalg.norm(heads - middle, axis=1).argmin())


def _state(row: dict[str, Any], who: int, truth: dict[str, Any]) -> dict[str, Any]:
    state: dict[str, Any] = truth["states"][row["frame"] % len(truth["states"])][who]
    return state


def _areas(both: list[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, float]:
    """AUC of every Action Unit that is there in some rows and not in others."""
    codes = [name.removesuffix("_present") for name in both[0][0] if name.endswith("_present")]
    areas = {}
    for code in codes:
        there = [state["aus"].get(code, 0.0) >= PRESENT for _, state in both]
        if 0 < sum(there) < len(there):
            areas[code] = float(roc_auc_score(there, [row[code] for row, _ in both]))
    return areas


def _agreement(code: str, both: list[tuple[dict[str, Any], dict[str, Any]]]) -> float:
    """CCC of the intensity of an Action Unit."""
    pairs = np.array(
        [(state["aus"].get(code, 0.0), row[f"{code}_intensity"]) for row, state in both]
    )
    return float(ccc(pairs[:, 0], pairs[:, 1])[0])


if __name__ == "__main__":
    main()
