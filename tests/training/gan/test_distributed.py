"""Two processes with half a batch each are one process with the whole batch; a lost process costs
no pictures.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from affect.factory import initialise_model, load_model
from affect.model import smoke_card
from tests.support.waiting import LIMIT_SECONDS
from training.gan import distributed
from training.gan.checkpoint import RunError
from training.gan.config import TrainConfig, preset
from training.gan.distributed import SINGLE_PROCESS, Ranks, StepRandom, join
from training.gan.learner import learner_of
from training.gan.step import Pairs

pytestmark = pytest.mark.processes

CONFIG = replace(
    preset("smoke"), batch_pairs=8, penalty_rows=4, adversary_from=0.0, reader_from=0.0
)
STEPS = 4  # the last one carries the penalty


def _pairs() -> Pairs:
    """Eight pairs, with labels and twins missing here and there, so that the ranks know different
    numbers of them.
    """
    chance = torch.Generator().manual_seed(5)
    labels = len(smoke_card().vocabulary) + 2
    x, twin = (2 * torch.rand(8, 3, 32, 32, generator=chance) - 1 for _ in range(2))
    y, twin_y = (torch.rand(8, labels, generator=chance) for _ in range(2))
    y[torch.rand(8, labels, generator=chance) < 0.3] = float("nan")
    y[:5, -2:] = float("nan")
    return Pairs(
        x, y, twin, twin_y, torch.tensor([True, True, False, True, True, True, False, True])
    )


def _losses(config: TrainConfig, among: Ranks) -> tuple[list[dict[str, float]], Tensor]:
    torch.set_num_threads(1)
    # in full precision, rounding is all that may differ
    torch.cpu._is_avx512_bf16_supported = lambda: False
    model = initialise_model(smoke_card(), seed=1)
    learner = learner_of(model, config, among)
    whole = _pairs()
    own = slice(among.rank, None, among.world)
    mine = Pairs(
        whole.x[own],
        whole.y[own],
        whole.twin[own],
        whole.twin_y[own],
        whole.paired[own],
        twinless=True,
    )
    losses_read = []
    for step in range(1, STEPS + 1):
        values = learner.step(mine, progress=0.5, step=step, rng=StepRandom(step, ranks=among))
        losses_read.append({name: float(value.detach()) for name, value in values.items()})
    return losses_read, torch.cat([p.detach().flatten() for p in model.parameters()])


def _rank(rank: int, port: int, folder: str) -> None:
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": "2",
        "LOCAL_RANK": str(rank),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    torch.save(_losses(CONFIG, join()), Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_two_processes_have_the_losses_and_the_weights_of_one_with_the_whole_batch(
    tmp_path: Path,
) -> None:
    spawn(_rank, args=(free_port(), str(tmp_path)), nprocs=2)
    (first, one), (second, two) = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    losses, weights = _losses(CONFIG, SINGLE_PROCESS)
    assert {"penalty", "critic", "cycle", "cycle_identity"} <= set(losses[-1])
    for ours, theirs, alone in zip(first, second, losses, strict=True):
        assert ours == theirs
        assert ours == pytest.approx(alone, rel=2e-4, abs=1e-6)
    assert torch.equal(one, two)
    assert (one - weights).norm() / weights.norm() < 1e-3


def test_a_batch_that_cannot_be_shared_equally_is_refused() -> None:
    with pytest.raises(RunError, match="batch_pairs is 7"):
        Ranks(0, 2).share(7, "batch_pairs")


def _torchrun(*arguments: str) -> subprocess.Popen[str]:
    launcher = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "--max-restarts",
        "2",
    ]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(distributed.__file__).parents[2]),
    }
    command = [sys.executable, *launcher, *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )


SCRIPT = """
import sys
from dataclasses import replace
from pathlib import Path
from training.gan import loop
from training.gan.config import preset
config = preset("smoke")
config = replace(config, batch_pairs=8, penalty_rows=4, total_images=800, log_images=16,
    sample_images=800, checkpoint_seconds=0.0)
loop.start(config, Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_a_rank_killed_under_torchrun_costs_no_picture(
    faces_of_made_people: Path, tmp_path: Path
) -> None:
    script, run = tmp_path / "script.py", tmp_path / "run"
    script.write_text(SCRIPT)
    started = _torchrun(str(script), str(faces_of_made_people), str(run))
    log = run / "log.jsonl"
    _wait(lambda: log.is_file() and len(log.read_text().splitlines()) > 10, started)
    os.kill(_workers(script)[1], signal.SIGKILL)
    output, _ = started.communicate(timeout=LIMIT_SECONDS)
    assert started.returncode == 0, output[-20000:]
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["seen_images"] for line in lines] == list(range(16, 816, 16))
    assert load_model(run / "model").card.seen_images == 800


def _workers(script: Path) -> list[int]:
    """Process numbers of the ranks, by their command lines."""
    pids = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(script).encode() in words and b"torch.distributed.run" not in words:
            pids.append(int(folder.name))
    return sorted(pids)


def _wait(condition: object, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + LIMIT_SECONDS
    while not condition():  # type: ignore[operator]
        assert process.poll() is None, process.communicate()[0][-20000:]
        assert time.monotonic() < end, "the run did not get going"
        time.sleep(0.05)
