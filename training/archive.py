"""A run becomes three TorchServe archives: code, weights, card and settings of each operation."""

import importlib.util
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

import click
import torch
import yaml
from model_archiver.manifest_components.manifest import Manifest, RuntimeType
from model_archiver.manifest_components.model import Model

import affect
from affect import signatures
from affect.archive import CONFIG_FILE, OPERATIONS, HandlerSettings, Operation, model_name
from affect.card import CARD_FILE, WEIGHTS_FILE, Calibration, CardError, ModelCard
from affect.factory import load_model
from affect.judge import Judge
from affect.model_folders import JUDGE_FILE, JUDGE_WEIGHTS_FILE, judge_folder, model_folder
from affect.runtime import DECODER_FILE, READER_FILE, as_onnx, decoder_as_onnx

STORED = (WEIGHTS_FILE, JUDGE_WEIGHTS_FILE, READER_FILE, DECODER_FILE)  # weights hardly compress
MANIFEST_FILE = "MAR-INF/MANIFEST.json"
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,63}")
# The earliest date a zip can hold: archives of the same run are the same bytes whenever they are
# written.
EPOCH = (1980, 1, 1, 0, 0, 0)

# Jobs TorchServe puts into one batch, and seconds after which an unresponsive worker counts as
# hung. A batch never waits to fill: requests gather while the one before runs.
JOBS: dict[Operation, int] = {"predict": 32, "generate": 4, "explain": 4}
HANDLER: dict[Operation, HandlerSettings] = {
    "predict": HandlerSettings(operation="predict", batch_faces=(1, 2, 4, 8, 16, 32, 64)),
    "generate": HandlerSettings(operation="generate"),
    "explain": HandlerSettings(operation="explain", frames=5),
}
WATCHDOG_SECONDS: dict[Operation, int] = {"predict": 30, "generate": 60, "explain": 120}


class ArchiveError(ValueError):
    """Archives that cannot be written: where, why and the remedy."""


@click.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder for the archives and the card.",
)
@click.option(
    "--judge",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of an independent judge, which explanations then ask whether it sees the "
    "change too (default: `judge` beside the card).",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Worker processes for each operation.",
)
@click.option(
    "--uncalibrated",
    is_flag=True,
    help="Allow a run that was never evaluated: its probabilities are not calibrated.",
)
@click.option(
    "--version", help="Version under which it is served, such as 1.1 (default: the card's)."
)
def archive(
    run: Path, out: Path, judge: Path | None, workers: int, uncalibrated: bool, version: str | None
) -> None:
    """Write affectgan-{predict,generate,explain}.mar and card.json of RUN (a run folder or a folder
    with a model).
    """
    started = perf_counter()
    for path in write_archives(
        run, out, judge=judge, workers=workers, uncalibrated=uncalibrated, version=version
    ):
        click.echo(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
    click.echo(f"archived in {perf_counter() - started:.1f} s")


def write_archives(
    run: Path,
    out: Path,
    *,
    judge: Path | None = None,
    workers: int = 1,
    uncalibrated: bool = False,
    version: str | None = None,
) -> list[Path]:
    """Archives of a run, then its card, into `out`.

    Raises CardError when the run cannot be served, ArchiveError for a wrong version, JudgeError for
    a broken judge.
    """
    if version is not None and not VERSION.fullmatch(version):
        raise ArchiveError(
            f"version is {version!r}; write letters, digits, points and dashes, such as 1.1"
        )
    folder = model_folder(run)
    signatures.check(folder)
    card = servable(folder, uncalibrated=uncalibrated)
    card = card.model_copy(update={"version": version or card.version})
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArchiveError(
            f"{out} cannot be made: {error.strerror}; choose another --out"
        ) from error
    judge = judge or judge_folder(folder)
    if judge:
        Judge.load(judge)
    model = _ArchivedModel(folder, card, workers, judge)
    paths = [_write(model, operation, out) for operation in OPERATIONS]
    card.save(out)
    return [*paths, out / CARD_FILE]


def servable(folder: Path, *, uncalibrated: bool) -> ModelCard:
    """The card of a model that loads, reads, draws and is calibrated.

    Raises CardError with what is wrong and the remedy.
    """
    model = load_model(folder)
    card = model.card
    if not card.reference.get("critic"):
        raise CardError(
            f"{folder / CARD_FILE} has no reference for realism: the run did not finish; "
            "`affectgan train --resume` ends it"
        )
    if (
        card.learns_aus
        and not uncalibrated
        and all(entry == Calibration() for entry in card.calibration.values())
    ):
        raise CardError(
            f"{folder / CARD_FILE} has no calibration: `affectgan evaluate` fits it, or "
            "archive with --uncalibrated"
        )
    with torch.inference_mode():
        generator = torch.Generator().manual_seed(0)
        y = model.sample_labels(torch.full((1, len(card.labels_of.names)), torch.nan), generator)
        x = model.generate(model.sample_latents(1, generator), y)
        if not all(torch.isfinite(part).all() for part in (x, model.read(x).labels)):
            raise CardError(
                f"{folder / WEIGHTS_FILE} draws or reads no numbers (NaN): the run "
                "diverged; train again"
            )
    return card


def model_config(operation: Operation, workers: int) -> dict[str, Any]:
    """What TorchServe reads of model-config.yaml, and under `handler` what our handler reads."""
    return {
        "minWorkers": workers,
        "maxWorkers": workers,
        "batchSize": JOBS[operation],
        "maxBatchDelay": 1,
        "responseTimeout": WATCHDOG_SECONDS[operation],
        "startupTimeout": 120,
        "jobQueueSize": 256,
        "handler": HANDLER[operation].model_dump(mode="json", exclude_unset=True),
    }


@dataclass(frozen=True)
class _ArchivedModel:
    """What the archives of a model are made from."""

    folder: Path
    card: ModelCard
    workers: int  # of each operation
    judge: Path | None  # folder of the judge of explanations


def _write(model: _ArchivedModel, operation: Operation, out: Path) -> Path:
    path = out / f"{model_name(operation)}.mar"
    entries = sorted(_entries(model, operation))
    unfinished = path.with_suffix(".part")
    try:
        with ZipFile(unfinished, "w") as mar:
            for name, content in entries:
                mar.writestr(
                    ZipInfo(name, EPOCH),
                    content,
                    ZIP_STORED if name in STORED else ZIP_DEFLATED,
                )
        return unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise ArchiveError(
            f"{path} cannot be written: {error.strerror}; free space there or choose another --out"
        ) from error


def _entries(model: _ArchivedModel, operation: Operation) -> Iterator[tuple[str, bytes]]:
    card, config = model.card, model_config(operation, model.workers)
    yield MANIFEST_FILE, json.dumps(_manifest(card, operation), indent=2).encode()
    yield CONFIG_FILE, yaml.safe_dump(config, sort_keys=False).encode()
    yield CARD_FILE, card.to_bytes()
    yield WEIGHTS_FILE, (model.folder / WEIGHTS_FILE).read_bytes()
    if card.network.reader and operation in ("predict", "generate"):
        networks = load_model(model.folder)
        yield READER_FILE, as_onnx(networks)
        if operation == "generate":
            yield DECODER_FILE, decoder_as_onnx(networks)
    if model.judge and operation == "explain":
        for name in (JUDGE_FILE, JUDGE_WEIGHTS_FILE):
            yield name, (model.judge / name).read_bytes()
    handler = _package("handlers") / f"{operation}.py"
    yield handler.name, handler.read_bytes()
    package = _package("affect")
    for path in package.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            yield f"{affect.__name__}/{path.relative_to(package).as_posix()}", path.read_bytes()


def _manifest(card: ModelCard, operation: Operation) -> dict[str, Any]:
    """TorchServe's manifest, dated like the files of the archive."""
    model = Model(
        model_name(operation),
        WEIGHTS_FILE,
        f"{operation}.py",
        model_version=card.version,
        config_file=CONFIG_FILE,
    )
    manifest: dict[str, Any] = Manifest(RuntimeType.PYTHON.value, model).manifest_dict
    return manifest | {"createdOn": "01/01/1980 00:00:00"}


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ValueError(
            f"the package {name} is not installed: install AffectGAN whole, `pip install "
            "affectgan[training]`"
        )
    return Path(spec.origin).parent
