"""The prepared run on a bare machine with one GPU: render, train, grade, within half an hour.

Needs Python 3.11 or later with torch, numba, OpenCV, pyarrow, pydantic and this source tree; no
network and no installation. Every stage goes on where it stopped, so the same command may be
given again after an interruption:

    python -m experiments.gpu_run --out runs/gpu --photographs data/photos-labelled-128 --minutes 25

1. faces for the judge are rendered, other people than the model's; the judge learns from them and
   from a third of the photographs, on the GPU, while
2. faces for the model are rendered on all cores: sittings in four states, and pairs that differ in
   one Action Unit;
3. the model trains from the shipped weights on these and on the other photographs until the time
   is over: the length of the run follows from the rate of its first steps;
4. what came out is copied to OUT/result: model, judge, logs, samples.

Where the machine is lent by the command, copy OUT/result away within the same command: a machine
that is given back takes everything with it.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch

from affect.card import ModelCard, NetworkSize
from affect.factory import initialise_model
from training.database.copying import copy_database
from training.database.merging import merge_databases
from training.database.reader import Database
from training.database.sample import Sample, place_of
from training.evaluation.judge.training import JudgeConfig, train_judge
from training.gan import loop
from training.gan.config import TrainConfig, wide128cpu
from training.gan.distributed import SINGLE_PROCESS, StepRandom
from training.gan.feed import Feed
from training.gan.learner import Learner, learner_of
from training.gan.post_training import new_card
from training.gan.run_folder import CONFIG_FILE
from training.gan.step import Pairs
from training.renderer.expressions import AU_CODES
from training.sources.rendered import samples
from training.sources.rendering import render_database

WARM_STEPS, TIMED_STEPS = 8, 16
SAFETY = 0.9  # decoding and logging take their share too
CLOSING_SECONDS = 45.0  # for what is measured after the last step
T = TypeVar("T")
JUDGE_SHARE = 1 / 3  # of the photographs, by a hash of who they show
NETWORK = NetworkSize(  # without --init; with it, the network of that model
    trunk=(12, 24, 48, 80, 144, 176),
    decoder=(176, 144, 96, 56, 28, 14),
    latent=128,
    condition=64,
    patch_px=16,
    reader_kind="trunk",
    reader=(8, 16, 32, 64, 128, 160),
)


@dataclass(frozen=True)
class Plan:
    """One run."""

    out: Path
    photographs: Path | None
    init: Path | None
    minutes: float
    images: int  # rendered in sittings
    pairs: int  # of twins that differ in one Action Unit
    judge_images: int  # rendered for the judge
    judge_seen: int  # pictures the judge sees
    batch_pairs: int
    workers: int
    seed: int


def config_of(plan: Plan) -> TrainConfig:
    """The training of this run; its length is set when its rate is known."""
    return replace(
        wide128cpu(),
        preset="faces128",
        network=ModelCard.load(plan.init).network if plan.init else NETWORK,
        seed=plan.seed,
        batch_pairs=plan.batch_pairs,
        learning_rate=8e-4,
        reader_rate=1e-3,
        reader_decay=0.01,
        reader_clip=1.0,
        reader_augmentation=0.9,
        reader_from=0.08,
        adversary_from=0.3,
        adversary_weight=0.4,
        latent_adversary_weight=1.0,
        latent_reconstruction=0.4,
        penalty_rows=min(32, plan.batch_pairs),
        ema_half_life_images=40_000,
        photograph_share=0.15,
        au_weight=1.0,
        va_weight=1.0,
        log_images=50_000,
        sample_images=400_000,
        checkpoint_seconds=120.0,
    )


def halves(plan: Plan) -> tuple[Path | None, Path | None]:
    """The photographs of the model and those of the judge."""
    if plan.photographs is None:
        return None, None
    database = Database.open(plan.photographs)

    def only(judge: bool) -> Path:
        def change(sample: Sample) -> Sample | None:
            mine = place_of("judge", sample.identity or sample.key) < JUDGE_SHARE
            return sample if mine == judge or sample.split != "train" else None

        name = "judge" if judge else "model"
        return copy_database(database, plan.out / f"photographs-{name}", name, change)

    return only(False), only(True)


def warm_up() -> None:
    """Compile the rasteriser once, before many workers would each do it."""
    next(samples(seed=0, first=0, count=1, size_px=64, twins=1))


def render(plan: Plan) -> Path:
    """The model's faces, as one database."""
    faces, pairs, both = (plan.out / name for name in ("faces", "pairs", "both"))
    render_database(
        faces,
        images=plan.images,
        size_px=128,
        twins=4,
        seed=plan.seed,
        workers=plan.workers,
    )
    render_database(
        pairs,
        images=2 * plan.pairs,
        size_px=128,
        twins=2,
        seed=plan.seed + 1,
        workers=plan.workers,
        change=AU_CODES,
    )
    merge_databases([faces, pairs], both, name=f"rendered-128-s{plan.seed}")
    return both


def judge(plan: Plan) -> None:
    """The judge's own faces, and the judge."""
    faces = plan.out / "judge-faces"
    render_database(
        faces,
        images=plan.judge_images,
        size_px=64,
        twins=4,
        seed=plan.seed + 2,
        workers=plan.workers,
    )
    config = JudgeConfig(images=plan.judge_seen, batch_images=128, widths=(32, 48, 96, 160))
    people = plan.out / "photographs-judge"
    train_judge(faces, plan.out / "judge", config, people if people.is_dir() else None)


def seconds_a_picture(config: TrainConfig, data: Path, people: Path | None) -> float:
    """What training costs on this machine, with and without the critic as the schedule has it."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    database, photographs = Database.open(data), Database.open(people) if people else None
    feed = Feed(config, database, photographs, ranks=SINGLE_PROCESS, device=device, start_batch=0)
    card = new_card(config, database.card, feed.annotated)
    model = initialise_model(card, seed=0)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    learner = learner_of(model, config)
    with feed:
        pairs = next(iter(feed))
    before = _cost(learner, pairs, (config.reader_from + config.adversary_from) / 2)
    within = _cost(learner, pairs, 1.0)
    share = config.adversary_from * before + (1 - config.adversary_from) * within
    return share / config.step_images


def _cost(learner: Learner, pairs: Pairs, progress: float) -> float:
    """Seconds a step."""
    began = 0.0
    for step in range(1, WARM_STEPS + TIMED_STEPS + 1):
        rng = StepRandom(step, device=pairs.x.device)
        values = learner.step(pairs, progress=progress, step=step, rng=rng)
        if step in (WARM_STEPS, WARM_STEPS + TIMED_STEPS):
            float(values["gradient_norm"])  # waits for the device
            began = time.perf_counter() - began
    return began / TIMED_STEPS


def train(plan: Plan, data: Path, people: Path | None, deadline: float) -> None:
    """Until the minutes are over."""
    run = plan.out / "run"
    if (run / CONFIG_FILE).is_file():
        loop.resume(run)
        return
    config = config_of(plan)
    cost = seconds_a_picture(config, data, people)
    left = SAFETY * (deadline - time.time() - CLOSING_SECONDS)
    images = max(int(left / cost), 4 * config.step_images)
    print(f"{1 / cost:.0f} pictures a second, {images} in all", flush=True)
    config = replace(config, total_images=images)
    loop.start(config, data, run, init=plan.init, photographs=people)


def collect(plan: Plan) -> None:
    """What is worth keeping, in one folder."""
    result = plan.out / "result"
    result.mkdir(exist_ok=True)
    for source in (plan.out / "run" / "model", plan.out / "judge"):
        if source.is_dir():
            shutil.copytree(source, result / source.name, dirs_exist_ok=True)
    for name in ("config.json", "log.jsonl"):
        shutil.copy(plan.out / "run" / name, result / name)
    samples = sorted((plan.out / "run" / "samples").glob("*"))
    for path in samples[-2:]:
        shutil.copy(path, result / path.name)
    (result / "plan.json").write_text(json.dumps(vars(plan), default=str, indent=2) + "\n")


def main() -> None:
    """The whole run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--photographs", type=Path, help="pseudo-labelled photographs")
    parser.add_argument("--init", type=Path, default=Path("weights"))
    parser.add_argument("--minutes", type=float, default=25.0, help="for everything")
    parser.add_argument("--images", type=int, default=81_920)
    parser.add_argument("--pairs", type=int, default=16_384)
    parser.add_argument("--judge-images", type=int, default=24_576)
    parser.add_argument("--judge-seen", type=int, default=1_500_000)
    parser.add_argument("--batch-pairs", type=int, default=128)
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--seed", type=int, default=101)
    parser.add_argument("--stage", choices=("all", "judge"), default="all", help=argparse.SUPPRESS)
    options = vars(parser.parse_args())
    stage = options.pop("stage")
    plan = Plan(**options)
    if stage == "judge":
        judge(plan)
        return
    plan.out.mkdir(parents=True, exist_ok=True)
    torch.backends.cudnn.benchmark = True
    warm_up()
    started = plan.out / "begun"
    if not started.exists():
        started.write_text(str(time.time()))
    deadline = float(started.read_text()) + 60 * plan.minutes
    people, _ = halves(plan)
    # The rate of training is measured while the judge still learns: take it for a lower bound.
    judging = subprocess.Popen(
        [sys.executable, "-m", "experiments.gpu_run", *sys.argv[1:], "--stage", "judge"]
    )
    data = timed("render", lambda: render(plan))
    timed("train", lambda: train(plan, data, people, deadline))
    if judging.wait():
        raise SystemExit("the judge was not made: see above")
    collect(plan)


def timed(name: str, work: Callable[[], T]) -> T:
    """Say how long a stage took."""
    began = time.monotonic()
    result = work()
    print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    return result


if __name__ == "__main__":
    main()
