"""The training loop: data in, run folder out.

Under torchrun every process runs it, and the first one writes.

The losses stay on the device until a line is logged: reading one synchronises with the GPU.
"""

import json
import math
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
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
from training.gan.learner import Learner, learner_of
from training.gan.post_training import new_card, post_train
from training.gan.run_folder import CONFIG_FILE, LOG_FILE, MODEL_FOLDER, SAMPLES_FOLDER
from training.gan.step import Pairs
from training.gan.weight_transfer import check, network_begun, transfer_weights

STEP_SEEDS = 1_000_003  # a prime far above the number of steps between two chosen seeds


@dataclass(frozen=True)
class Plan:
    """What a run is made of, and the folder it lies in."""

    config: TrainConfig
    data: Path
    run: Path
    init: Path | None = None  # a model's folder whose weights it begins with
    photographs: Path | None = None  # a database of people


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
    if not (config.reads or init):
        raise RunError(
            f"{config.preset} trains no reading network: give --init a model that has one"
        )
    Database.open(data)  # a wrong folder fails before anything is written
    if init:
        check(init, config.network)
        if not (config.draws and config.reads):
            network = network_begun(config.network, config.image_px, init)
            config = replace(config, network=network)
    plan = Plan(config, data, run, init, photographs)
    with _alone(run, ranks):
        if ranks.first:
            _note(plan)
        train(plan, resume=False)


def _alone(run: Path, ranks: Ranks) -> AbstractContextManager[None]:
    """Inside, no other process trains this run."""
    return locked(run, RunError) if ranks.first else nullcontext()


def _note(plan: Plan) -> None:
    """Write what the run is, in one rename: a kill leaves no half of it."""
    plan.run.mkdir(parents=True, exist_ok=True)
    stored_note: dict[str, Any] = {}
    if plan.init:
        stored_note["init"] = {"model": str(plan.init), "digest": ModelCard.load(plan.init).digest}
    if plan.photographs:
        stored_note["photographs"] = str(plan.photographs.resolve())
    data = {"data": str(plan.data.resolve())}
    _write(plan.run / CONFIG_FILE, {**data, **stored_note, **plan.config.as_json()})


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
        seen_images = _last_logged(run / LOG_FILE)
        values["amended"] = [
            *values.get("amended", []),
            {"seen_images": seen_images, "total_images": [values["total_images"], images]},
        ]
        values["total_images"] = images
        if join().first:
            _write(path, values)
    data = Path(values.pop("data"))
    values.pop("amended", None)
    init = values.pop("init", None)
    photographs = values.pop("photographs", None)
    saved = (run / CHECKPOINT_FILE).is_file()
    plan = Plan(
        from_json(values),
        data,
        run,
        init=Path(init["model"]) if init and not saved else None,
        photographs=Path(photographs) if photographs else None,
    )
    train(plan, resume=saved)


def train(plan: Plan, *, resume: bool) -> None:
    """Train to the end of the schedule, or until SIGINT or SIGTERM, which save and leave."""
    torch.set_flush_denormal(True)
    trainer = _Trainer.prepare(plan, resume=resume)
    if trainer.train() and trainer.ranks.first:
        trainer.finish()


@dataclass
class _Trainer:
    """A run from where this process takes it up."""

    plan: Plan
    ranks: Ranks
    device: torch.device
    data: Database
    photographs: Database | None
    feed: Feed
    learner: Learner
    begin: Position
    began: float = field(default_factory=time.monotonic)
    saved: float = field(default_factory=time.monotonic)  # when a checkpoint was last written

    @classmethod
    def prepare(cls, plan: Plan, *, resume: bool) -> "_Trainer":
        """Data and networks as the run begins, or as its last checkpoint left them."""
        config, ranks, device = plan.config, join(), _device()
        data = Database.open(plan.data)
        photographs = Database.open(plan.photographs) if plan.photographs else None
        start_batch = position_of(plan.run).step if resume else 0
        feed = Feed(config, data, photographs, ranks=ranks, device=device, start_batch=start_batch)
        card = new_card(config, data.card, feed.annotated)
        model = initialise_model(card, seed=config.seed)
        model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if plan.init is not None and not resume:
            counts = transfer_weights(model, plan.init, fitted=not config.draws)
            print("took over {} of {} tensors from {}".format(*counts, plan.init))
        learner, begin = learner_of(model, config, ranks), Position(0, 0, 0.0)
        if resume:
            begin = load_checkpoint(plan.run, **_networks(learner))
            if ranks.first:
                _trim_log(plan.run / LOG_FILE, begin.step)
        return cls(plan, ranks, device, data, photographs, feed, learner, begin)

    @property
    def last_step(self) -> int:
        return math.ceil(self.plan.config.total_images / self.plan.config.step_images)

    def train(self) -> bool:
        """Step by step; whether the end of the schedule was reached."""
        steps, losses = range(self.begin.step + 1, self.last_step + 1), _Means()
        with (
            _Journal(self.plan, self.begin, silent=not self.ranks.first) as journal,
            _stop_signals() as signals,
            self.feed,
        ):
            for step, pairs in zip(steps, self.feed, strict=False):
                losses.add(self._learn(step, pairs))
                journal.advance(self.plan.config.step_images)
                stopped = self.ranks.any(bool(signals))
                saves = stopped or step == self.last_step or self._checkpoint_is_due()
                self._log(step, losses, journal)
                # before a save: a checkpoint with values that are not finite could not be resumed
                if saves and not losses.finite():
                    raise RunError(
                        f"a gradient up to step {step} is not finite: lower learning_rate, "
                        f"then --resume {self.plan.run}"
                    )
                self._draw_samples(step, journal)
                if saves and self.ranks.first:
                    self._save(step)
                if stopped:
                    self._print_resume_command(step)
                    return False
        return True

    def finish(self) -> None:
        """The model's folder, after what follows the last step."""
        config, average = self.plan.config, self.learner.average
        seen_images = self.last_step * config.step_images
        post_train(
            average, self.data, config, seen_images=seen_images, photographs=self.photographs
        )
        average.save(self.plan.run / MODEL_FOLDER)
        print(f"wrote {self.plan.run}")

    # -- of each step ------------------------------------------------------------------------------

    def _learn(self, step: int, pairs: Pairs) -> dict[str, Tensor]:
        seed = self.plan.config.seed * STEP_SEEDS + step
        rng = StepRandom(seed, ranks=self.ranks, device=self.device)
        return self.learner.step(pairs, progress=step / self.last_step, step=step, rng=rng)

    def _checkpoint_is_due(self) -> bool:
        age_seconds = time.monotonic() - self.saved
        return self.ranks.first and age_seconds > self.plan.config.checkpoint_seconds

    def _log(self, step: int, losses: "_Means", journal: "_Journal") -> None:
        if self._is_time(step, self.plan.config.log_images):
            images = self.plan.config.step_images * (step - self.begin.step)
            rate = images / (time.monotonic() - self.began)
            journal.write(step, rate=rate, values=losses.read())

    def _draw_samples(self, step: int, journal: "_Journal") -> None:
        if self.ranks.first and self._is_time(step, self.plan.config.sample_images):
            seen_images, folder = (
                step * self.plan.config.step_images,
                self.plan.run / SAMPLES_FOLDER,
            )
            average = self.learner.average
            samples.write(average, self.data, folder, seen_images=seen_images, board=journal.board)

    def _is_time(self, step: int, every_images: int) -> bool:
        """Whether this step passed a multiple of so many pictures, or is the last."""
        images_after, per_step = step * self.plan.config.step_images, self.plan.config.step_images
        return (
            step == self.last_step
            or images_after // every_images != (images_after - per_step) // every_images
        )

    def _save(self, step: int) -> None:
        seen_images = step * self.plan.config.step_images
        seconds = self.begin.seconds + time.monotonic() - self.began
        save_checkpoint(
            self.plan.run, Position(step, seen_images, seconds), **_networks(self.learner)
        )
        self.saved = time.monotonic()

    def _print_resume_command(self, step: int) -> None:
        if self.ranks.first:
            seen_images = step * self.plan.config.step_images
            print(
                f"stopped at {seen_images} images; go on with: "
                f"affectgan train --resume {self.plan.run}"
            )


def _device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def _networks(learner: Learner) -> dict[str, Any]:
    """What a checkpoint holds."""
    return {
        "model": learner.model,
        "average": learner.average,
        "optimisers": learner.optimisers,
    }


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
        """The means, rounded; then start again from zero."""
        record = {
            name: round(float(total) / self._counts[name], 5) for name, total in self._sums.items()
        }
        self._sums.clear()
        self._counts.clear()
        return record

    def finite(self) -> bool:
        return self._finite is None or bool(self._finite)


class _Journal:
    """Reports a run's progress: progress bar, log.jsonl, TensorBoard. A silent one reports none."""

    def __init__(self, plan: Plan, position: Position, *, silent: bool) -> None:
        config, run = plan.config, plan.run
        self.silent, self._step_images = silent, config.step_images
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

    def write(self, step: int, *, rate: float, values: dict[str, float]) -> None:
        if self.silent:
            return
        seen_images = step * self._step_images
        self._log.write(
            json.dumps({"step": step, "seen_images": seen_images, "rate": round(rate, 1), **values})
            + "\n"
        )
        self._log.flush()
        for name, value in values.items():
            self.board.add_scalar(name, value, seen_images)
        self._bar.set_postfix_str(
            " ".join(
                f"{name}={values[name]:.3f}"
                for name in ("label", "reconstruction")
                if name in values
            )
        )


def _trim_log(path: Path, step: int) -> None:
    """Drop what was logged after the checkpoint: these steps will be repeated."""
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
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:
        stopped.append(number)
        signal.signal(number, previous[signal.Signals(number)])

    for number in previous:
        signal.signal(number, note)
    try:
        yield stopped
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
