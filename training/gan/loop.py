"""The training loop: data in, run folder out. The one long function of the package is `train`."""

import json
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import torch
from torch import Generator, Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from affect.card import ModelCard
from affect.model import AffectModel
from training.database.reader import Database
from training.database.stream import Batch, Stream
from training.gan import samples
from training.gan.checkpoint import CHECKPOINT_FILE, Position, RunError, load_checkpoint, save_checkpoint
from training.gan.config import TrainConfig, from_json
from training.gan.finish import finish, new_card
from training.gan.learner import learner_of
from training.gan.step import Pairs
from training.gan.warm import adopt

CONFIG_FILE, LOG_FILE, MODEL_FOLDER, SAMPLES_FOLDER = "config.json", "log.jsonl", "model", "samples"
STEP_SEEDS = 1_000_003  # a prime far above any number of steps between two seeds that people pick


def start(config: TrainConfig, data: Path, run: Path, *, init: Path | None = None) -> None:
    """Begin a run in a new folder, from random weights or from those of the model folder `init`.

    Raises RunError when the folder already holds a run.
    """
    if (run / CONFIG_FILE).exists():
        raise RunError(f"{run} already holds a run: give another --out, or go on with --resume {run}")
    Database.open(data)  # a wrong folder is said before anything is written
    run.mkdir(parents=True, exist_ok=True)
    begun = {"init": {"model": str(init), "digest": ModelCard.load(init).digest}} if init else {}
    (run / CONFIG_FILE).write_text(json.dumps({"data": str(data.resolve()), **begun, **config.as_json()}, indent=2) + "\n")
    train(config, data, run, resume=False, init=init)


def resume(run: Path, *, images: int | None = None) -> None:
    """Go on with a run from its last checkpoint, to the same bits as if it had never stopped.

    `images` gives it another length from here on (no longer the same bits); config.json notes each such change.
    """
    path = run / CONFIG_FILE
    if not path.is_file():
        raise RunError(f"{run} has no {CONFIG_FILE}: it is not a run folder")
    values = json.loads(path.read_text())
    if images is not None and images != values["total_images"]:
        seen = _last_logged(run / LOG_FILE)
        values["amended"] = [*values.get("amended", []), {"seen_images": seen, "total_images": [values["total_images"], images]}]
        values["total_images"] = images
        path.write_text(json.dumps(values, indent=2) + "\n")
    data = Path(values.pop("data"))
    values.pop("amended", None)
    init = values.pop("init", None)
    saved = (run / CHECKPOINT_FILE).is_file()
    train(from_json(values), data, run, resume=saved, init=Path(init["model"]) if init and not saved else None)


def train(config: TrainConfig, data: Path, run: Path, *, resume: bool, init: Path | None = None) -> None:
    """Train to the end of the schedule, or until SIGINT or SIGTERM, which save and leave."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_flush_denormal(True)
    database = Database.open(data)
    model = AffectModel.initialise(new_card(config, database.card), seed=config.seed).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if init is not None:
        print("took over {} of {} tensors from {}".format(*adopt(model, init), init))
    learner = learner_of(model, config)
    average = learner.average
    position = Position(0, 0, 0.0)
    if resume:
        position = load_checkpoint(run, model=model, average=average, optimisers=learner.optimisers)
        _trim_log(run / LOG_FILE, position.step)
    stream = Stream(
        database,
        split="train",
        size_px=config.image_px,
        batch_images=config.batch_pairs,
        seed=config.seed,
        labels=config.labels,
        start_batch=position.step,
    )
    per_step = config.step_images
    last_step = math.ceil(config.total_images / per_step)
    began = saved = time.monotonic() - 0.0
    spent = position.seconds
    step = position.step
    means: dict[str, float] = {}

    def save() -> None:
        now = Position(step, step * per_step, spent + time.monotonic() - began)
        save_checkpoint(run, now, model=model, average=average, optimisers=learner.optimisers)

    with (
        tqdm(total=last_step * per_step, initial=step * per_step, unit="img", unit_scale=True, smoothing=0.05, desc=config.preset) as bar,
        SummaryWriter(str(run / "tensorboard"), purge_step=step * per_step) as board,
        (run / LOG_FILE).open("a") as log,
        _stop_signals() as stopped,
        stream,
    ):
        for step, batch in zip(range(position.step + 1, last_step + 1), stream, strict=False):
            progress = step / last_step
            generator = Generator().manual_seed(config.seed * STEP_SEEDS + step)
            values = learner.step(_pairs(batch, device), progress=progress, step=step, generator=generator)
            if not torch.isfinite(values["gradient_norm"]):
                raise RunError(f"the gradient of step {step} is not finite: lower learning_rate, then --resume {run}")
            bar.update(per_step)
            _accumulate(means, values)
            seen = step * per_step
            if _crossed(seen, per_step, config.log_images) or step == last_step:
                record = _averages(means)
                log.write(
                    json.dumps(
                        {
                            "step": step,
                            "seen_images": seen,
                            "rate": round(per_step * (step - position.step) / (time.monotonic() - began), 1),
                            **record,
                        }
                    )
                    + "\n"
                )
                log.flush()
                for name, value in record.items():
                    board.add_scalar(name, value, seen)
                bar.set_postfix_str(" ".join(f"{name}={record[name]:.3f}" for name in ("label", "reconstruction") if name in record))
            if _crossed(seen, per_step, config.sample_images) or step == last_step:
                samples.write(average, database, run / SAMPLES_FOLDER, seen_images=seen, board=board)
            if time.monotonic() - saved > config.checkpoint_seconds or step == last_step or stopped:
                save()
                saved = time.monotonic()
            if stopped:
                print(f"stopped at {seen} images; go on with: affectgan train --resume {run}")
                return
    finish(average, database, config, seen_images=last_step * per_step)
    average.save(run / MODEL_FOLDER)
    print(f"wrote {run}")


def _pairs(batch: Batch, device: str) -> Pairs:
    x, y, twin, twin_y, paired = (
        torch.from_numpy(a).to(device) for a in (batch.images, batch.labels, batch.twins, batch.twin_labels, batch.has_twin)
    )
    return Pairs(AffectModel.to_pixels(x), y, AffectModel.to_pixels(twin), twin_y, paired)


def _crossed(seen: int, per_step: int, every: int) -> bool:
    return seen // every != (seen - per_step) // every


def _accumulate(means: dict[str, float], values: dict[str, Tensor]) -> None:
    for name, value in values.items():
        means[name] = means.get(name, 0.0) + float(value.detach())
        means[f"{name}#"] = means.get(f"{name}#", 0.0) + 1


def _averages(means: dict[str, float]) -> dict[str, float]:
    record = {name: round(total / means[f"{name}#"], 5) for name, total in means.items() if not name.endswith("#")}
    means.clear()
    return record


def _trim_log(path: Path, step: int) -> None:
    """Drop what was logged after the checkpoint: these steps will be walked again."""
    if path.is_file():
        lines = [line for line in path.read_text().splitlines() if line.endswith("}") and json.loads(line)["step"] <= step]
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
