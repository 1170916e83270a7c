"""The training loop: data in, run folder out.

Under torchrun every process runs it, and the first one writes.

The losses stay on the device until a line is logged: reading one waits for all that was asked of a
GPU before.
"""

import json
import math
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from affect.card import ModelCard
from affect.factory import initialise_model
from training.database.folder_lock import locked
from training.database.reader import Database
from training.gan import samples
from training.gan.checkpoint import (
    CHECKPOINT_FILE,
    Position,
    RunError,
    load_checkpoint,
    position_of,
    save_checkpoint,
)
from training.gan.config import TrainConfig, from_json
from training.gan.distributed import Ranks, StepRandom, join, restarted
from training.gan.feed import Feed
from training.gan.learner import learner_of
from training.gan.post_training import new_card, post_train
from training.gan.run_folder import CONFIG_FILE, LOG_FILE, MODEL_FOLDER, SAMPLES_FOLDER
from training.gan.weight_transfer import check, network_begun, transfer_weights

STEP_SEEDS = 1_000_003  # a prime far above any number of steps between two seeds that people pick


def start(
    config: TrainConfig,
    data: Path,
    run: Path,
    *,
    init: Path | None = None,
    photographs: Path | None = None,
) -> None:
    """Begin a run in a new folder, from random weights or from those of the model folder `init`.

    Raises RunError when the folder already holds a run; the processes that torchrun starts again
    after a loss go on with theirs.
    """
    if restarted() and (run / CONFIG_FILE).exists():
        resume(run)
        return
    ranks = join()
    if ranks.any(ranks.first and (run / CONFIG_FILE).exists()):
        raise RunError(
            f"{run} already holds a run: give another --out, or go on with --resume {run}"
        )
    Database.open(data)  # a wrong folder is said before anything is written
    if init:
        check(init, config.network)
        if not config.draws:
            network = network_begun(config.network, config.image_px, init)
            config = replace(config, network=network)
    with _alone(run, ranks):
        if ranks.first:
            _note(config, data, run, init, photographs)
        train(config, data, run, resume=False, init=init, photographs=photographs)


def _alone(run: Path, ranks: Ranks) -> AbstractContextManager[None]:
    """Within, no other process trains this run."""
    return locked(run, RunError) if ranks.first else nullcontext()


def _note(
    config: TrainConfig, data: Path, run: Path, init: Path | None, photographs: Path | None
) -> None:
    """Write what the run is, in one rename: a kill leaves no half of it."""
    run.mkdir(parents=True, exist_ok=True)
    begun: dict[str, Any] = {}
    if init:
        begun["init"] = {"model": str(init), "digest": ModelCard.load(init).digest}
    if photographs:
        begun["photographs"] = str(photographs.resolve())
    _write(run / CONFIG_FILE, {"data": str(data.resolve()), **begun, **config.as_json()})


def _write(path: Path, values: dict[str, Any]) -> None:
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(json.dumps(values, indent=2) + "\n")
    fresh.replace(path)


def resume(run: Path, *, images: int | None = None) -> None:
    """Go on with a run from its last checkpoint, to the same bits as if it had never stopped.

    `images` gives it another length from here on (no longer the same bits); config.json notes each
    such change.
    """
    path = run / CONFIG_FILE
    if not path.is_file():
        raise RunError(f"{run} has no {CONFIG_FILE}: it is not a run folder")
    with _alone(run, join()):
        _resume(run, images)


def _resume(run: Path, images: int | None) -> None:
    path = run / CONFIG_FILE
    values = json.loads(path.read_text())
    if images is not None and images != values["total_images"]:
        seen = _last_logged(run / LOG_FILE)
        values["amended"] = [
            *values.get("amended", []),
            {"seen_images": seen, "total_images": [values["total_images"], images]},
        ]
        values["total_images"] = images
        if join().first:
            _write(path, values)
    data = Path(values.pop("data"))
    values.pop("amended", None)
    init = values.pop("init", None)
    photographs = values.pop("photographs", None)
    saved = (run / CHECKPOINT_FILE).is_file()
    train(
        from_json(values),
        data,
        run,
        resume=saved,
        init=Path(init["model"]) if init and not saved else None,
        photographs=Path(photographs) if photographs else None,
    )


def train(
    config: TrainConfig,
    data: Path,
    run: Path,
    *,
    resume: bool,
    init: Path | None = None,
    photographs: Path | None = None,
) -> None:
    """Train to the end of the schedule, or until SIGINT or SIGTERM, which save and leave."""
    ranks = join()
    device = (
        torch.device("cuda", torch.cuda.current_device())
        if torch.cuda.is_available()
        else torch.device("cpu")
    )
    torch.set_flush_denormal(True)
    database = Database.open(data)
    people = Database.open(photographs) if photographs else None
    begin = position_of(run).step if resume else 0
    feed = Feed(config, database, people, ranks=ranks, device=device, start_batch=begin)
    model = initialise_model(new_card(config, database.card, feed.annotated), seed=config.seed).to(
        device, memory_format=torch.channels_last
    )  # type: ignore[call-overload]
    if init is not None and not resume:
        counts = transfer_weights(model, init, fitted=not config.draws)
        print("took over {} of {} tensors from {}".format(*counts, init))
    learner = learner_of(model, config, ranks)
    average = learner.average
    position = Position(0, 0, 0.0)
    if resume:
        position = load_checkpoint(run, model=model, average=average, optimisers=learner.optimisers)
        if ranks.first:
            _trim_log(run / LOG_FILE, position.step)
    per_step = config.step_images
    last_step = math.ceil(config.total_images / per_step)
    began = saved = time.monotonic()
    spent = position.seconds
    step = position.step
    means = _Means()

    def save() -> None:
        now = Position(step, step * per_step, spent + time.monotonic() - began)
        save_checkpoint(run, now, model=model, average=average, optimisers=learner.optimisers)

    with (
        _Journal(run, config, position, silent=not ranks.first) as journal,
        _stop_signals() as signals,
        feed,
    ):
        for step, pairs in zip(range(position.step + 1, last_step + 1), feed, strict=False):
            rng = StepRandom(config.seed * STEP_SEEDS + step, ranks=ranks, device=device)
            means.add(
                learner.step(
                    pairs,
                    progress=step / last_step,
                    step=step,
                    rng=rng,
                )
            )
            seen, last = step * per_step, step == last_step
            journal.advance(per_step)
            stopped = ranks.any(bool(signals))
            due = ranks.first and time.monotonic() - saved > config.checkpoint_seconds
            if _crossed(seen, per_step, config.log_images) or last:
                journal.write(
                    step,
                    seen,
                    rate=per_step * (step - position.step) / (time.monotonic() - began),
                    values=means.read(),
                )
            # before a save: a checkpoint that cannot be gone on with is none
            if (due or last or stopped) and not means.finite():
                raise RunError(
                    f"a gradient up to step {step} is not finite: lower learning_rate, "
                    f"then --resume {run}"
                )
            if ranks.first and (_crossed(seen, per_step, config.sample_images) or last):
                samples.write(
                    average, database, run / SAMPLES_FOLDER, seen_images=seen, board=journal.board
                )
            if ranks.first and (due or last or stopped):
                save()
                saved = time.monotonic()
            if stopped:
                if ranks.first:
                    print(f"stopped at {seen} images; go on with: affectgan train --resume {run}")
                return
    if ranks.first:
        seen = last_step * per_step
        post_train(average, database, config, seen_images=seen, photographs=people)
        average.save(run / MODEL_FOLDER)
        print(f"wrote {run}")


def _crossed(seen: int, per_step: int, every: int) -> bool:
    return seen // every != (seen - per_step) // every


class _Means:
    """Means of the losses since they were last read, summed where they are; and whether every
    gradient was finite.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._finite: Tensor | None = None

    def add(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            self._sums[name] = (
                self._sums[name] + value.detach() if name in self._sums else value.detach().double()
            )
            self._counts[name] = self._counts.get(name, 0) + 1
        finite = torch.isfinite(values["gradient_norm"])
        self._finite = finite if self._finite is None else self._finite & finite

    def read(self) -> dict[str, float]:
        """Rounded, and begun anew."""
        record = {
            name: round(float(total) / self._counts[name], 5) for name, total in self._sums.items()
        }
        self._sums.clear()
        self._counts.clear()
        return record

    def finite(self) -> bool:
        return self._finite is None or bool(self._finite)


class _Journal:
    """What a run tells while it goes: a progress bar, log.jsonl, TensorBoard.

    A silent one tells nothing.
    """

    def __init__(self, run: Path, config: TrainConfig, position: Position, *, silent: bool) -> None:
        self.silent = silent
        total = math.ceil(config.total_images / config.step_images) * config.step_images
        self._bar = tqdm(
            total=total,
            initial=position.seen_images,
            unit="img",
            unit_scale=True,
            smoothing=0.05,
            desc=config.preset,
            disable=silent,
        )
        if not silent:
            self.board = SummaryWriter(str(run / "tensorboard"), purge_step=position.seen_images)
            self._log = (run / LOG_FILE).open("a")

    def __enter__(self) -> "_Journal":
        return self

    def __exit__(self, *raised: object) -> None:
        self._bar.close()
        if not self.silent:
            self.board.close()
            self._log.close()

    def advance(self, images: int) -> None:
        self._bar.update(images)

    def write(self, step: int, seen: int, *, rate: float, values: dict[str, float]) -> None:
        if self.silent:
            return
        self._log.write(
            json.dumps({"step": step, "seen_images": seen, "rate": round(rate, 1), **values}) + "\n"
        )
        self._log.flush()
        for name, value in values.items():
            self.board.add_scalar(name, value, seen)
        self._bar.set_postfix_str(
            " ".join(
                f"{name}={values[name]:.3f}"
                for name in ("label", "reconstruction")
                if name in values
            )
        )


def _trim_log(path: Path, step: int) -> None:
    """Drop what was logged after the checkpoint: these steps will be walked again."""
    if path.is_file():
        lines = [
            line
            for line in path.read_text().splitlines()
            if line.endswith("}") and json.loads(line)["step"] <= step
        ]
        path.write_text("".join(f"{line}\n" for line in lines))


def _last_logged(path: Path) -> int:
    lines = path.read_text().splitlines() if path.is_file() else []
    return int(json.loads(lines[-1])["seen_images"]) if lines else 0


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """A list that is empty until SIGINT or SIGTERM arrives; a second one acts as usual."""
    stopped: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:
        stopped.append(number)
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, note)
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
